"""The tables of ``everlearn.toml``: every setting with its default, its limits and its documentation.

The tables that a room decides by are called policies. The rooms' pure functions take a policy as it is, so that each
default stands in one place. A task may override some of them (``TASK_POLICIES``). ``infra/settings.py`` reads the file
and the environment into these classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from schemas.event import Identifier, Name
from schemas.models import unknown_schemes
from schemas.topics import LONGEST_KEPT_DAYS

EMBEDDED = "embedded"


class Table(BaseModel):
    """A table of everlearn.toml. An unknown setting is an error. The text below a setting is its documentation.

    A rule about several settings is a model validator whose message begins with a setting's name; the reader of the
    file puts the table's name in front.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    PER_PROCESS: ClassVar[frozenset[str]] = frozenset()
    """Settings of a whole process, which a task therefore cannot override."""


class KafkaSettings(Table):
    bootstrap_servers: str = EMBEDDED
    """``host:port`` of a Kafka cluster, several with commas; ``embedded`` for the one that ``everlearn up`` starts."""
    security_protocol: str = "PLAINTEXT"
    """PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
    sasl_mechanism: str | None = None
    """PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, with a SASL protocol."""
    sasl_username: str | None = None
    """The user's name, with a SASL protocol."""
    sasl_password: SecretStr | None = None
    """Only from the environment: EVERLEARN_KAFKA_SASL_PASSWORD."""
    ssl_cafile: Path | None = None
    """A file with the certificate authorities that sign the brokers' certificates; the system's where absent."""
    replication_factor: int = Field(default=1, ge=1)
    """Copies of each topic that Everlearn creates; 3 on a real cluster."""

    @model_validator(mode="after")
    def servers_hold_no_credentials(self) -> Self:
        if "@" in self.bootstrap_servers:  # it is shown in messages and by 'everlearn status'
            raise ValueError(
                "bootstrap_servers holds credentials: write host:port alone, set sasl_username, and give the password "
                "as EVERLEARN_KAFKA_SASL_PASSWORD"
            )
        return self


class SqlSettings(Table):
    url: str = EMBEDDED
    """An SQLAlchemy URL, such as ``postgresql+psycopg://user@host/db``; ``embedded`` for SQLite in the home folder."""


class MilvusSettings(Table):
    uri: str = EMBEDDED
    """``http://host:port`` of a Milvus server; ``embedded`` for the Milvus Lite that ``everlearn up`` starts."""
    token: SecretStr | None = None
    """Only from the environment: EVERLEARN_MILVUS_TOKEN."""


class EmbeddingSettings(Table):
    model: str = "all-MiniLM-L6-v2"
    """A sentence-transformers model by name or path; the default is the one that ships with Everlearn."""
    backend: Literal["auto", "openvino", "torch"] = "auto"
    """The library that runs it. ``auto``: torch on a GPU, else OpenVINO, and torch where OpenVINO cannot run it."""


class ModelSettings(Table):
    base: str = "smollm2-135m-instruct"
    """A causal language model by name or path; the default is the one that ships with Everlearn."""
    engine: str = "transformers"
    """The library that runs it: ``transformers``."""
    folder: Path | None = None
    """The folder for converted models, relative to the home folder; ``models`` where absent. Homes may share one."""
    threads: int | None = Field(default=None, ge=1)
    """Processor threads of a worker with a model; one for each core where absent. If several answerers share a machine,
    give each its share of the cores: with more threads than cores they wait for each other."""


class IndexerSettings(Table):
    chunk_tokens: int = Field(default=220, ge=16, le=8192)
    """The longest chunk, in tokens of the embedding model."""
    overlap_tokens: int = Field(default=30, ge=0, le=1024)
    """Tokens that two neighbouring chunks share."""
    batch: int = Field(default=64, ge=1, le=1024)
    """The most documents that one worker handles together."""
    bulk_batch: int = Field(default=512, ge=1, le=4096)
    """The most documents that the loader, which does bulk loads, handles together."""
    keep_vectors_days: float = Field(default=30.0, ge=0)
    """How long a text's embedding is kept after its last use, so that the same text is not embedded again."""


class RetrievalSettings(Table):
    cross_encoder: str | None = None
    """A sentence-transformers cross-encoder by name or path, which ranks the best hits again; none where absent."""
    reranked: int = Field(default=24, ge=1, le=200)
    """The number of hits of each search that the cross-encoder ranks."""


class TenantsSettings(Table):
    names: tuple[Name, ...] = ()
    """The tenants that exist. Documents and questions of others are refused; an empty list allows any tenant."""


class AnswererSettings(Table):
    batch: int = Field(default=32, ge=1, le=512)
    """The most questions that are answered together."""
    context_tokens: int = Field(default=1400, ge=128)
    """The longest prompt, in tokens; the least similar sources and the oldest turns are left out first."""
    unprobed: bool = False
    """Whether to serve an adapter that no validator has probed, such as one that was installed by hand."""


class FeedbackPolicy(Table):
    """Whose word on an answer weighs more."""

    reviewers: tuple[Identifier, ...] = ()
    """Users whose feedback weighs more than that of the user who asked. A change holds for later feedback."""


class RegistrySettings(Table):
    url: str = EMBEDDED
    """An SQLAlchemy URL of MLflow's tables; ``embedded`` for SQLite in the home folder."""


class MonitorPolicy(Table):
    """When a task's answers are checked for drift, and when a difference counts as drift."""

    PER_PROCESS = frozenset({"tick_seconds"})

    reference_rows: int = Field(default=400, ge=20)
    """The reference window has at least so many rows: the first answers after a promotion, which show what is normal.

    It grows with the answers: it is the first half of them.
    """
    longest_reference_rows: int = Field(default=4000, ge=20)
    """The reference window grows to so many rows. ``reference_rows`` counts if it is more."""
    current_rows: int = Field(default=200, ge=20)
    """The current window: the latest answers, which are compared with the reference window.

    Up to sixteen times as many are looked at, too, because it takes many rows to be certain of a slight change.
    """
    every_rows: int = Field(default=50, ge=1)
    """How many new answers or new ratings start a check."""
    alpha: float = Field(default=0.01, ge=0.001, lt=1)
    """The probability that one window is flagged by chance, over all of its tests together."""
    flags: int = Field(default=2, ge=1)
    """This many of the last ``of`` windows must be flagged for the same kind before it counts as drift."""
    of: int = Field(default=3, ge=1, le=10)
    """See ``flags``. Each of these windows ends ``every_rows`` answers before the next."""
    min_rated: int = Field(default=20, ge=1)
    """The ratings in the current window that it takes to say whether new questions are answered well."""
    min_corrected: int = Field(default=10, ge=1)
    """The corrections in the current window that it takes to train on them."""
    cool_down_seconds: float = Field(default=3600.0, ge=0)
    """A task's drift is not reported again for this long, unless an adapter is promoted or the remedy is stronger."""
    tick_seconds: float = Field(default=30.0, gt=0)
    """How often the monitor looks for checks that are due."""

    @property
    def rows_needed(self) -> int:
        """The answers that fill both windows."""
        return self.reference_rows + self.current_rows

    @property
    def longest_current_rows(self) -> int:
        """The most of the latest answers that one window has."""
        return 16 * self.current_rows

    @property
    def newest_rows(self) -> int:
        """The newest answers that the current windows cover together, at most."""
        return self.longest_current_rows + (self.of - 1) * self.every_rows

    @property
    def read_rows(self) -> int:
        """The first and the newest answers that a check reads, so many of each."""
        return max(self.reference_rows, self.longest_reference_rows, self.newest_rows)

    @model_validator(mode="after")
    def flags_can_be_reached(self) -> Self:
        if self.flags > self.of:
            raise ValueError(f"flags = {self.flags} of {self.of} windows can never be: set flags to {self.of} or less")
        return self


class TrainerPolicy(Table):
    """What an adapter is trained on, and how."""

    PER_PROCESS = frozenset({"threads"})

    window_rows: int = Field(default=2000, ge=1)
    """The most rows that an adapter is trained on, and the most rated answers, and examples, that it is chosen from. Of
    the newest five times as many rated answers, those of each rater are taken in turn."""
    replay_share: float = Field(default=0.25, ge=0, lt=1)
    """At least this share of ``window_rows`` stays with the champion's rows, if new rows would take their place."""
    holdout_share: float = Field(default=0.15, gt=0, lt=0.9)
    """The share of the rows that is kept from training; the validator judges the adapter on it."""
    minimum_rows: int = Field(default=40, ge=2)
    """With fewer training rows there is no training."""
    minimum_golden: int = Field(default=20, ge=2)
    """With fewer golden examples the golden set is not used: so few rows decide nothing."""
    user_share: float = Field(default=0.05, gt=0, le=1)
    """The most of the rows from feedback that are one user's. With few users it is twice an equal part, 2 / users, so
    that they can teach something. Reviewers and examples are not limited."""
    anonymous_share: float = Field(default=0.2, gt=0, le=1)
    """The most of the rows from feedback that come from nobody's name, where others give a name."""
    tenant_share: float = Field(default=1.0, gt=0, le=1)
    """The most of the rows from feedback that are one tenant's. With few tenants it is twice an equal part."""
    burst_rows: int = Field(default=60, ge=2)
    """More feedback than this of one user within ``burst_seconds`` is not learned from."""
    burst_seconds: float = Field(default=600.0, gt=0)
    """See ``burst_rows``."""
    epochs: float = Field(default=3.0, gt=0)
    """How often a training goes through its rows."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """The highest learning rate, reached after a tenth of the steps; it then falls linearly to 0."""
    batch_rows: int = Field(default=8, ge=1)
    """The rows of one training step."""
    rank: int = Field(default=8, ge=1, le=320)
    """The rank of LoRA's matrices, on all linear layers."""
    alpha: float = Field(default=16.0, gt=0)
    """LoRA's scale is alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """The probability of dropout in front of LoRA's matrices."""
    quantization: Literal["none", "nf4"] = "none"
    """``nf4`` trains on the base model in 4 bits (QLoRA)."""
    checkpoint_steps: int = Field(default=10, ge=1)
    """The steps between two checkpoints. An interrupted training goes on from its last checkpoint."""
    max_tokens: int = Field(default=1024, ge=32)
    """Rows with more tokens are left out."""
    threads: int | None = Field(default=None, ge=1)
    """Processor threads of a training; where absent, one for each core but one, because the stack runs beside it."""
    seed: int = 0
    """Seeds the order of the rows and LoRA's first weights."""


class ValidatorPolicy(Table):
    """What an adapter must gain, and what it may lose, to be released."""

    PER_PROCESS = frozenset({"max_adapter_bytes"})

    min_gain: float = Field(default=0.02, ge=0)
    """The metric must rise by this over the champion, or over the base model where there is no champion."""
    max_drop: float = Field(default=0.03, ge=0)
    """The metric may fall by this on the rows that earlier adapters were judged on."""
    max_general_loss: float = Field(default=0.25, ge=0)
    """The loss on general text may rise by this over the base model's, in nats per token."""
    max_flips: float = Field(default=0.1, ge=0, lt=1)
    """This share of the judged rows may turn from right to wrong. A larger share counts if it is more than chance."""
    max_slice_drop: float = Field(default=0.1, ge=0, lt=1)
    """The metric may fall by this on rows of one label, tenant or length. A larger fall counts if it is not chance."""
    chance: float = Field(default=0.05, gt=0, lt=1)
    """The probability that any of the adapters judged on the same rows passes as better though it is not. Each further
    one must be better beyond doubt: number k gets 6 / (pi k)^2 of it."""
    max_adapter_bytes: int = Field(default=500_000_000, ge=1)
    """A larger adapter is rejected, and no answerer loads it."""
    current_rows: int = Field(default=200, ge=1)
    """The most held-out rows that are answered."""
    retention_rows: int = Field(default=200, ge=0)
    """The most rows of earlier held-out sets that are answered."""


class PromoterPolicy(Table):
    """How far a canary must go, and what it may cost."""

    PER_PROCESS = frozenset({"tick_seconds"})

    shares: tuple[float, ...] = (0.1, 0.5)
    """The shares of the users that a canary answers, one after the other."""
    judged: int = Field(default=30, ge=1)
    """The users of each arm who must have rated an answer, at each share, before the canary goes on."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """How certain a promotion, and a rollback before that, must be."""
    margin: float = Field(default=0.1, gt=0, lt=1)
    """A challenger whose rate of bad answers is this much above the champion's, or more, must not be promoted."""
    max_failed: float = Field(default=0.1, ge=0, lt=1)
    """The challenger's rate of failed answers may be this much above the champion's."""
    max_declined: float = Field(default=0.1, ge=0, lt=1)
    """The challenger's rate of answers that decline, or refuse in English, may be this much above the champion's."""
    max_asked_back: float = Field(default=0.2, ge=0, lt=1)
    """The challenger's rate of answers that end in a question may be this much above the champion's."""
    max_slower: float = Field(default=2.0, ge=1, le=100)
    """The 95th percentile of users' mean latencies may be so many times the champion's, in steps of 19 %."""
    max_longer: float = Field(default=4.0, ge=1, le=1000)
    """The 95th percentile of users' mean lengths of answers may be so many times the champion's, in steps of 19 %."""
    max_shorter: float | None = Field(default=None, ge=1, le=1000)
    """The champion's 5th percentile of these lengths may be so many times the challenger's; absent: no limit, because
    an adapter that has learned labels answers in a word where the base model explains."""
    watch_seconds: float = Field(default=86_400.0, gt=0)
    """After this long at one share, a canary holds: it says which ratings are missing, keeps its share, and a newer
    validated adapter takes its place."""
    task_changed: Literal["fall_back", "keep"] = "fall_back"
    """What happens to an adapter whose task got another instruction, or lost a label. ``fall_back``: the base model
    answers until an adapter is validated on the new task, for the adapter would give answers that are none any more.
    ``keep``: the adapter goes on. Either way it is validated on the new task."""
    tick_seconds: float = Field(default=5.0, gt=0)
    """How often the promoter judges canaries that get no traffic, and compares adapters with their tasks."""

    @model_validator(mode="after")
    def shares_rise(self) -> Self:
        shares = self.shares
        if not shares or list(shares) != sorted(set(shares)) or not 0 < shares[0] <= shares[-1] < 1:
            raise ValueError(f"shares is {list(shares)}: give rising shares of the users, such as [0.1, 0.5]")
        return self


class QuantizerPolicy(Table):
    """Which quantized forms of a model are made, and what they may lose."""

    schemes: tuple[str, ...] = ("int8", "nf4")
    """The schemes that a registered model is quantized to, unless the request names others."""
    max_loss_rise: float = Field(default=1.0, gt=0)
    """The loss on general text may rise by this over the source model's, in nats per token."""

    @model_validator(mode="after")
    def schemes_are_known(self) -> Self:
        if reason := unknown_schemes(self.schemes):
            raise ValueError(f"schemes: {reason}")
        return self


class RetentionPolicy(Table):
    """How long is kept what would otherwise grow for ever. Each agent deletes what it owns; docs/storage.md has a table
    of everything that is kept, and says what must outlive what."""

    feature_days: float = Field(default=365.0, ge=1)
    """Rows of the feature table, after their last event. A drift check's reference window stays longer."""
    pending_days: float = Field(default=30.0, ge=1)
    """Feedback on answers that never came, after the last feedback."""
    journal_days: float = Field(default=20.0, ge=1)
    """The notes of which events were handled. A topic must not deliver an event again after its note is gone."""
    run_days: float = Field(default=30.0, ge=1)
    """The rows of runs that ended: drift checks, trainings, validations, quantizations, rebuilds."""
    run_folder_days: float = Field(default=1.0, ge=0)
    """The working folders of runs that succeeded; their results are elsewhere."""
    failed_run_folder_days: float = Field(default=14.0, ge=0)
    """The working folders of runs that failed, with their logs."""
    report_days: float = Field(default=14.0, ge=0)
    """The reports of drift checks that found no drift."""
    alarm_report_days: float = Field(default=180.0, ge=1)
    """The reports of drift checks that found drift, and the reports on validations of adapters that are gone."""
    check_days: float = Field(default=365.0, ge=1)
    """The results of drift checks. The newest of each task stays."""
    rejected_adapter_days: float = Field(default=14.0, ge=1)
    """Adapters that the validator rejected."""
    adapter_days: float = Field(default=60.0, ge=1)
    """Other adapters that are not in service and that no rollback returns to."""
    rollbacks: int = Field(default=5, ge=1)
    """How many champions before the current one are kept with their adapters, so that a rollback can return to them."""
    release_days: float = Field(default=30.0, ge=1)
    """The history of releases, and the champions in it. What rollbacks need of it stays."""
    dataset_days: float = Field(default=60.0, ge=1)
    """Datasets. Those of adapters that are kept stay, and that of each task's newest validated adapter."""
    registry_days: float = Field(default=365.0, ge=1)
    """Entries of the registry for adapters whose files were deleted."""
    fleet_days: float = Field(default=1.0, ge=1)
    """The last report of a worker that reports no more."""

    @model_validator(mode="after")
    def deletes_nothing_that_is_needed(self) -> Self:
        if faults := retention_faults(self):
            raise ValueError("; ".join(faults))
        return self


def retention_faults(policy: RetentionPolicy) -> list[str]:
    """Returns each setting by which something would be deleted that is still needed, with the reason and the remedy."""
    events = LONGEST_KEPT_DAYS
    least: tuple[tuple[str, float, str], ...] = (
        ("journal_days", events, f"the {events} days for which a topic may deliver an event again, which would then be "
         "handled twice"),
        ("pending_days", events, f"the {events} days for which an answer may still arrive at the recorder"),
        ("feature_days", policy.pending_days, f"pending_days = {policy.pending_days:g}: answers would go before "
         "feedback that waits for an answer"),
        ("alarm_report_days", max(events, policy.report_days), f"report_days = {policy.report_days:g}, or than the "
         f"{events} days for which events on drift.v1 name the report"),
        ("check_days", policy.alarm_report_days, f"alarm_report_days = {policy.alarm_report_days:g}: nothing "
         "would list the reports that remain"),
        ("release_days", events, f"the {events} days for which a validation may still reach the promoter, which must "
         "know that an adapter was released before"),
        ("adapter_days", 2 * events, f"the {2 * events} days that a trained adapter may wait for its validation and "
         "its release"),
        ("registry_days", policy.adapter_days, f"adapter_days = {policy.adapter_days:g}: adapters would lose their "
         "entries before their files"),
    )  # fmt: skip
    return [
        f"{name} = {getattr(policy, name):g} is shorter than {reason}: set it to {shortest:g} or more"
        for name, shortest, reason in least
        if getattr(policy, name) < shortest
    ]


class WorkerSettings(Table):
    session_timeout_seconds: float = Field(default=10.0, gt=0)
    """After this long without a sign of life Kafka gives a worker's partitions to another worker."""
    max_poll_interval_seconds: float = Field(default=300.0, gt=0)
    """After this long without reading, likewise."""
    stalled_after_seconds: float = Field(default=900.0, gt=0)
    """A worker that works on one batch for this long, without waiting for anything, exits to be restarted."""
    shutdown_seconds: float = Field(default=10.0, gt=0)
    """How long a stopping worker may take to finish its batch."""
    heartbeat_seconds: float = Field(default=2.0, gt=0)
    """How often a worker reports on fleet.v1."""


TASK_POLICIES: Mapping[str, type[Table]] = {
    "monitor": MonitorPolicy,
    "trainer": TrainerPolicy,
    "validator": ValidatorPolicy,
    "promoter": PromoterPolicy,
}
"""The tables that a task may override, as ``[tasks.NAME.trainer]`` and so on."""
