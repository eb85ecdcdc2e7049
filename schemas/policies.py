"""The tables of ``everlearn.toml``: every setting with its default, its limits and its documentation.

The tables that a room decides by are called policies; the room's pure functions take them as they are.
``infra/settings.py`` reads the file and the environment into these classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from schemas.event import Name

EMBEDDED = "embedded"


class Table(BaseModel):
    """A table of everlearn.toml. An unknown setting is an error. The text below a setting documents it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class KafkaSettings(Table):
    bootstrap_servers: str = EMBEDDED
    """``host:port`` of a Kafka cluster, several with commas; ``embedded`` for the one that ``everlearn up`` starts."""
    security_protocol: str = "PLAINTEXT"
    """PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
    sasl_mechanism: str | None = None
    """PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, with a SASL protocol."""
    sasl_username: str | None = None
    """The user name, with a SASL protocol."""
    sasl_password: SecretStr | None = None
    """Only from the environment: EVERLEARN_KAFKA_SASL_PASSWORD."""
    ssl_cafile: Path | None = None
    """The certificate authorities that sign the brokers' certificates; the system's where absent."""
    replication_factor: int = Field(default=1, ge=1)
    """Copies of each topic that Everlearn creates; 3 on a real cluster."""


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
    """What runs it; ``auto``: torch where there is a GPU, else OpenVINO, or torch where that does not run the model."""


class ModelSettings(Table):
    base: str = "smollm2-135m-instruct"
    """A causal language model by name or path; the default is the one that ships with Everlearn."""
    engine: str = "transformers"
    """What runs it: ``transformers``."""
    folder: Path | None = None
    """Where converted models are kept, seen from the home folder; ``models`` where absent. Homes may share one."""
    threads: int | None = Field(default=None, ge=1)
    """Processor threads of a worker with a model; one a core where absent. Fewer while others use the processor."""


class IndexerSettings(Table):
    chunk_tokens: int = Field(default=220, ge=16, le=8192)
    """The longest chunk, tokens of the embedding model."""
    overlap_tokens: int = Field(default=30, ge=0, le=1024)
    """Tokens that two neighbouring chunks share."""
    batch: int = Field(default=64, ge=1, le=1024)
    """Most documents that one worker handles together."""
    bulk_batch: int = Field(default=512, ge=1, le=4096)
    """The same of the loader, which does bulk loads."""
    keep_vectors_days: float = Field(default=30.0, ge=0)
    """How long the embedding of a text is kept after its last use, so that the text is not embedded again."""


class RetrievalSettings(Table):
    cross_encoder: str | None = None
    """A sentence-transformers cross-encoder by name or path, which puts the best hits in order; none where absent."""
    reranked: int = Field(default=24, ge=1, le=200)
    """So many hits of each search it looks at."""


class TenantsSettings(Table):
    names: tuple[Name, ...] = ()
    """The tenants that there are; any where it is empty. Documents and questions of others are refused."""


class AnswererSettings(Table):
    batch: int = Field(default=32, ge=1, le=512)
    """Most questions that are generated together."""
    context_tokens: int = Field(default=1400, ge=128)
    """Most tokens of a prompt; the least similar sources and the oldest turns are left out first."""
    unprobed: bool = False
    """Whether an adapter is served that no validator has probed, such as one that was installed by hand."""


class RegistrySettings(Table):
    url: str = EMBEDDED
    """An SQLAlchemy URL of MLflow's tables; ``embedded`` for SQLite in the home folder."""


class MonitorPolicy(Table):
    reference_rows: int = Field(default=400, ge=20)
    """Answers after a promotion that say what is normal."""
    current_rows: int = Field(default=200, ge=20)
    """The latest answers, which are held against those."""
    every_rows: int = Field(default=50, ge=1)
    """A check is made after so many new answers."""
    alpha: float = Field(default=0.01, ge=0.001, lt=1)
    """How often one window may be flagged by chance, over all of its tests together."""
    flags: int = Field(default=2, ge=1)
    """So many of the last ``of`` windows must be flagged for the same kind before it is drift."""
    of: int = Field(default=3, ge=1, le=10)
    """See ``flags``; each of these windows ends ``every_rows`` answers before the next."""
    min_rated: int = Field(default=20, ge=1)
    """With fewer ratings in the current window nobody can say whether new questions are answered well."""
    min_corrected: int = Field(default=10, ge=1)
    """With fewer corrections in the current window there is nothing to train on yet."""
    cool_down_seconds: float = Field(default=3600.0, ge=0)
    """After drift was told, the same task's drift is not told again for so long, unless an adapter was promoted."""
    tick_seconds: float = Field(default=30.0, gt=0)
    """How often the monitor looks for checks that are due."""


class TrainerPolicy(Table):
    window_rows: int = Field(default=2000, ge=1)
    """The latest rated answers that a training is about, at most."""
    replay_share: float = Field(default=0.25, ge=0, lt=1)
    """At least this part of the training rows repeats what was learned before, as far as there is such."""
    holdout_share: float = Field(default=0.15, gt=0, lt=0.9)
    """The part of the rows that is kept from training and judged on."""
    minimum_rows: int = Field(default=40, ge=2)
    """Fewer rows than this are not trained on."""
    epochs: float = Field(default=3.0, gt=0)
    """How often the training rows are gone through."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """At its highest; it falls linearly to 0 after a tenth of the steps."""
    batch_rows: int = Field(default=8, ge=1)
    """Rows of one training step."""
    rank: int = Field(default=8, ge=1, le=320)
    """Of the LoRA matrices, on all linear layers."""
    alpha: float = Field(default=16.0, gt=0)
    """LoRA's scale is alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    quantization: Literal["none", "nf4"] = "none"
    """``nf4`` trains on the base model in 4 bits (QLoRA)."""
    checkpoint_steps: int = Field(default=10, ge=1)
    """A killed training goes on from its last checkpoint."""
    max_tokens: int = Field(default=1024, ge=32)
    """Longer rows are left out."""
    threads: int | None = Field(default=None, ge=1)
    """Processor threads of a training; one a core but one where absent, for the stack goes on beside it."""
    seed: int = 0
    """Of the order of the rows and of LoRA's first weights: the same rows and seed give the same adapter."""


class ValidatorPolicy(Table):
    min_gain: float = Field(default=0.02, ge=0)
    """The metric must rise by this over the champion, or over the base model where there is none."""
    max_drop: float = Field(default=0.03, ge=0)
    """The metric may fall by this on what earlier adapters were judged on."""
    max_general_loss: float = Field(default=0.25, ge=0)
    """The loss on general text may rise by this over the base model's, nats per token."""
    chance: float = Field(default=0.05, gt=0, lt=1)
    """How often an adapter that is no better than what is served may pass as better, by chance."""
    max_adapter_bytes: int = Field(default=500_000_000, ge=1)
    """A larger adapter is refused by the validator and by the answerers."""
    current_rows: int = Field(default=200, ge=1)
    """Held-out rows that are generated, at most."""
    retention_rows: int = Field(default=200, ge=0)
    """Rows of earlier held-out sets that are generated, at most."""


class PromoterPolicy(Table):
    shares: tuple[float, ...] = (0.1, 0.5)
    """The parts of the users that a canary answers, one after the other."""
    judged: int = Field(default=30, ge=1)
    """Rated or corrected answers of the challenger, at each share, before it is judged."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """How certain it must be that the challenger is worse, to roll it back early."""
    margin: float = Field(default=0.05, ge=0, lt=1)
    """The challenger's rate of bad answers may be this much above the champion's."""
    max_failed: float = Field(default=0.1, ge=0, lt=1)
    """The challenger's rate of failed answers may be this much above the champion's."""
    watch_seconds: float = Field(default=86_400.0, gt=0)
    """A canary that was not judged by then at one share, for want of ratings, is rolled back."""
    tick_seconds: float = Field(default=5.0, gt=0)
    """How often the promoter looks at canaries without traffic."""


class QuantizerPolicy(Table):
    schemes: tuple[str, ...] = ("int8", "nf4")
    """What a registered model is quantized to, unless the request says."""
    max_loss_rise: float = Field(default=1.0, gt=0)
    """The loss on general text may rise by this over the source model's, nats per token."""


class WorkerSettings(Table):
    session_timeout_seconds: float = Field(default=10.0, gt=0)
    """After this long without a sign of life Kafka gives a worker's partitions to another."""
    max_poll_interval_seconds: float = Field(default=300.0, gt=0)
    """After this long without reading, likewise."""
    stalled_after_seconds: float = Field(default=900.0, gt=0)
    """A worker that is at one batch for this long, without waiting for anything, ends itself to be restarted."""
    shutdown_seconds: float = Field(default=10.0, gt=0)
    """How long a stopping worker may take to end the batch it is at."""
    heartbeat_seconds: float = Field(default=2.0, gt=0)
    """How often a worker reports on fleet.v1."""
