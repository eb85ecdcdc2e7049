"""Names the inference engines, so that answerer and validator load the same one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from agents.answerer.ports import Engine
from agents.validator.ports import EvaluationEngine
from infra.settings import Settings
from schemas.errors import ConfigurationError


class ServingEngine(Engine, EvaluationEngine, Protocol):
    """An engine that answers questions, and that adapters are validated on."""


def _transformers(settings: Settings) -> ServingEngine:
    from infra.models.loading import prepare

    prepare(settings)  # reports a missing model before the libraries are loaded, which takes seconds
    from infra.engines.transformers import TransformersEngine

    return TransformersEngine.load(settings)


ENGINES: Mapping[str, Callable[[Settings], ServingEngine]] = {"transformers": _transformers}
"""How to load each engine that ``[model] engine`` may name."""


def load_engine(settings: Settings) -> ServingEngine:
    """Loads the configured engine with the base model. Raises ModelMissing or ConfigurationError."""
    load = ENGINES.get(settings.model.engine)
    if load is None:
        raise ConfigurationError(f"[model] engine is {settings.model.engine!r}: choose from {', '.join(ENGINES)}")
    return load(settings)
