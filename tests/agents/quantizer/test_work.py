"""What a quantization does, on twins alone: what it registers, what it refuses, and how a killed run ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agents.quantizer.ports import ModelFigures
from agents.quantizer.work import QuantizationRun
from infra.memory.registry import MemoryRegistry
from schemas.errors import ModelMissing
from schemas.policies import QuantizerPolicy
from schemas.registry import ModelRecord

SOURCE = ModelRecord(name="m", location="m-1b", size_bytes=9, created_at=datetime(2026, 5, 1, tzinfo=UTC))


@dataclass(frozen=True)
class Figures:
    size_bytes: int
    loss: float
    sample: str = "been used"


@dataclass
class FakeQuantization:
    """Models that have figures and no weights. ``quantized``: the figures of what it makes."""

    quantized: Figures = field(default_factory=lambda: Figures(4, 3.9))
    measured: int = 0

    def locate(self, location: str) -> Path:
        if location != SOURCE.location:
            raise ModelMissing(f"there is no model {location}: add another one")
        return Path("/models", location)

    def weight_bytes(self, folder: Path) -> int:
        return 9

    def measure(self, folder: Path) -> Figures:
        self.measured += 1
        return Figures(9, 3.8)

    def quantize(self, source: Path, target: Path, scheme: str, accept: Callable[[ModelFigures], None]) -> Figures:
        accept(self.quantized)
        target.mkdir(parents=True)
        return self.quantized


class Room:
    def __init__(self, folder: Path) -> None:
        self.folder, self.registry, self.quantization = folder, MemoryRegistry(), FakeQuantization()

    def run(self, run_id: str = "r1") -> dict[str, object]:
        folder = self.folder / run_id
        folder.mkdir(exist_ok=True)
        return QuantizationRun(
            name="m",
            version=1,
            scheme="int8",
            folder=folder,
            models_folder=self.folder / "models",
            registry=self.registry,
            quantization=self.quantization,
            policy=QuantizerPolicy(max_loss_rise=1.0),
            sleep=lambda _: setattr(self.registry, "away", False),
        ).run()


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def test_a_sound_model_is_registered_beside_its_source(room: Room):
    room.registry.register_model(SOURCE)
    result = room.run()
    assert result["location"] == str(room.folder / "models" / "m" / "1-int8")
    assert result["sample"] == "been used"
    quantized = max(room.registry.models("m"), key=lambda each: each.version)
    assert (quantized.version, quantized.scheme, quantized.source_version, quantized.loss) == (2, "int8", 1, 3.9)


def test_an_unsound_model_is_refused_with_the_reason_and_leaves_nothing(room: Room):
    room.registry.register_model(SOURCE)
    room.quantization.quantized = Figures(4, 18.7)
    assert "m as int8 failed its checks: its loss on general text is 18.70" in str(room.run()["reason"])
    assert len(room.registry.models("m")) == 1
    assert not (room.folder / "models").exists()


def test_a_loss_that_the_registry_knows_is_not_measured_again(room: Room):
    room.registry.register_model(replace(SOURCE, loss=3.8))
    assert "quantized" in room.run()
    assert room.quantization.measured == 0


def test_a_run_that_was_killed_after_it_registered_reports_the_same_model(room: Room):
    room.registry.register_model(SOURCE)
    first = room.run()
    assert room.run() == first
    assert room.run("r2") == {"reason": "m is registered as int8 already: version 2"}


def test_a_model_that_is_not_there_is_the_reason_and_a_registry_that_is_away_is_waited_for(room: Room):
    room.registry.register_model(replace(SOURCE, location="gone"))
    room.registry.away = True
    assert room.run() == {"reason": "there is no model gone: add another one"}
