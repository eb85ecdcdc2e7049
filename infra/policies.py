"""The settings of the loop: when drift is told, what is trained on, what is let through, how a canary is judged."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

EMBEDDED = "embedded"


class Table(BaseModel):
    """A table of everlearn.toml; an unknown setting is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RegistrySettings(Table):
    url: str = EMBEDDED
    """An SQLAlchemy URL of MLflow's tables; ``embedded`` for SQLite in the home folder."""


class MonitorSettings(Table):
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


class TrainerSettings(Table):
    window_rows: int = Field(default=2000, ge=1)
    """The latest rated answers that a training is about, at most."""
    replay_share: float = Field(default=0.25, ge=0, lt=1)
    """At least this part of the training rows repeats what was learned before, as far as there is such."""
    holdout_share: float = Field(default=0.15, gt=0, lt=0.9)
    """The part of the rows that is kept from training and judged on."""
    minimum_rows: int = Field(default=40, ge=2)
    """Fewer rows than this are not trained on."""
    epochs: float = Field(default=3.0, gt=0)
    learning_rate: float = Field(default=1e-3, gt=0)
    batch_rows: int = Field(default=8, ge=1)
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


class ValidatorSettings(Table):
    min_gain: float = Field(default=0.02, ge=0)
    """The metric must rise by this over the champion, or over the base model where there is none."""
    max_drop: float = Field(default=0.03, ge=0)
    """The metric may fall by this on what earlier adapters were judged on."""
    max_general_loss: float = Field(default=0.25, ge=0)
    """The loss on general text may rise by this over the base model's, nats per token."""
    chance: float = Field(default=0.05, gt=0, lt=1)
    """How often an adapter that is no better than what is served may pass as better, by chance."""
    max_adapter_bytes: int = Field(default=500_000_000, ge=1)
    current_rows: int = Field(default=200, ge=1)
    """Held-out rows that are generated, at most."""
    retention_rows: int = Field(default=200, ge=0)
    """Rows of earlier held-out sets that are generated, at most."""


class PromoterSettings(Table):
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


class QuantizerSettings(Table):
    schemes: tuple[str, ...] = ("int8", "nf4")
    """What a registered model is quantized to, unless the request says."""
    max_loss_rise: float = Field(default=1.0, gt=0)
    """The loss on general text may rise by this over the source model's, nats per token."""
