"""What a validation does, on twins alone: in which order it checks, what it keeps, and why it rejects."""

import pytest

from agents.validator.ports import LoadedModel
from agents.validator.work import Validation, ValidationParts
from infra.memory.adapters import MemoryAdapters
from infra.memory.database import MemoryDatabase
from infra.memory.datasets import MemoryDatasets
from infra.memory.registry import MemoryRegistry
from infra.memory.retention import MemoryRetention
from schemas.errors import AdapterMissing, EngineCrashed
from schemas.policies import ValidatorPolicy
from schemas.registry import AdapterRecord
from tests.agents.validator.room import LABELS, NOW, ROUTING, ScriptedEngine, knows, row, rows


class Adapters(MemoryAdapters):
    """Adapters in memory, of which some are damaged. Keeps the probes that are written."""

    def check(self, adapter_id, task):
        self.verify(adapter_id)

    def write_probes(self, adapter_id, probes):
        self.probed[adapter_id] = tuple(probes)


class Room:
    def __init__(self, folder):
        (folder / "adapter_config.json").write_text("{}")
        self.folder = folder
        database = MemoryDatabase()
        self.registry, self.suite = MemoryRegistry(), MemoryRetention(database)
        self.datasets, self.adapters = MemoryDatasets(database), Adapters({"new": folder, "old": folder})
        self.dataset_id = self.datasets.put("routing", rows(), created_at=NOW).dataset_id
        for adapter_id in ("new", "old"):
            self.registry.register(
                AdapterRecord(
                    adapter_id=adapter_id, task="routing", base_model="smol", dataset_id=self.dataset_id,
                    run_id="t1", size_bytes=1, created_at=NOW,
                )
            )  # fmt: skip
        self.other_revision: set[str] = set()
        self.losses, self.reports = {}, []

    def run(self, engine=None, **changes):
        self.engine = engine or ScriptedEngine(knows("new"))
        parts = ValidationParts(
            registry=self.registry,
            datasets=self.datasets,
            suite=self.suite,
            adapters=self.adapters,
            load_model=lambda: LoadedModel(engine=self.engine, revision="rev1", check=self._check),
            cached_loss=lambda key, compute: self.losses.setdefault(key, compute()),
            write_report=self._write,
            general_texts=("Some text.",),
            now=lambda: NOW,
            sleep=lambda seconds: pytest.fail("nothing was away"),
        )
        return Validation(
            **{
                "task": ROUTING, "adapter_id": "new", "dataset_id": self.dataset_id, "champion": "old",
                "earlier": (), "folder": self.folder, "parts": parts, "policy": ValidatorPolicy(),
                "context_tokens": 500, **changes,
            }
        ).run()  # fmt: skip

    def _check(self, adapter_id):
        if adapter_id in self.other_revision:
            raise AdapterMissing(f"{adapter_id} was trained on another revision: train it anew")

    def _write(self, report):
        self.reports.append(report)
        return "memory:report"


@pytest.fixture
def room(tmp_path):
    return Room(tmp_path)


def test_a_better_adapter_is_accepted_probed_and_judged_with_the_report(room):
    result = room.run()
    assert (result["accepted"], result["report_uri"], result["at"]) == (True, "memory:report", NOW.isoformat())
    assert len(result["rows"]) == 30
    assert len(room.adapters.probed["new"]) == 4
    record = room.registry.find("new")
    assert (record.state, record.scores, record.report_uri) == ("validated", result["scores"], "memory:report")
    assert room.reports[0]["lineage"]["dataset_rows"]["held out"] == 30


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda room: room.adapters.changed.add("new"), "its files were changed"),
        (lambda room: room.other_revision.add("new"), "another revision"),
        (lambda room: room.adapters.folders.pop("old"), "there is no champion to compare it with: old is not here"),
    ],
)
def test_an_adapter_that_cannot_be_evaluated_is_rejected_before_it_answers_anything(room, spoil, reason):
    spoil(room)
    result = room.run()
    assert not result["accepted"]
    assert reason in result["reasons"][0]
    assert room.engine.calls == []
    assert room.registry.find("new").state == "rejected"
    assert "scores" not in room.reports[0]


class Unsteady(ScriptedEngine):
    """Answers a lone request differently from several."""

    def generate(self, requests):
        said = super().generate(requests)
        return said if len(requests) > 1 else [type(each)(**{**vars(each), "text": "alone"}) for each in said]


def test_an_adapter_without_a_steady_answer_is_rejected_because_no_answerer_could_recognise_it(room):
    result = room.run(Unsteady(knows("new")))
    assert result["reasons"] == [
        "no prompt gets the same answer alone and in company: nothing to recognise the adapter by"
    ]
    assert room.adapters.probed == {}


def test_the_base_models_loss_is_cached_by_model_engine_and_texts(room):
    room.run(ScriptedEngine(knows("new"), {None: 3.5, "new": 3.6}))
    assert list(room.losses.values()) == [3.5]
    (key,) = room.losses
    assert key.startswith("rev1 memory ")


def test_a_crash_of_the_engine_ends_the_run_and_judges_nobody(room):
    engine = ScriptedEngine(knows("new"))
    engine.crash_on = "message 7"
    with pytest.raises(EngineCrashed):
        room.run(engine)
    assert room.registry.find("new").state == "trained"
    assert room.reports == []


def put(room, numbers):
    made = [row(number, LABELS[number % 3]) for number in numbers]
    return room.datasets.put("routing", made, created_at=NOW).dataset_id


def test_candidates_that_were_judged_on_the_same_rows_count_as_tries(room):
    other, overlapping = put(room, range(200, 220)), put(room, range(29, 60))
    earlier = (room.dataset_id, room.dataset_id, overlapping, other, "gone")
    result = room.run(earlier=earlier)
    assert (result["tries"], result["level"]) == (5, pytest.approx(0.05 * 6 / (3.14159265 * 5) ** 2))
    assert (room.reports[0]["tries"], room.reports[0]["level"]) == (result["tries"], result["level"])
    assert room.run(earlier=(other,))["tries"] == 1


def test_rows_of_labels_that_the_task_has_no_more_judge_nobody(room):
    room.dataset_id = room.datasets.put("routing", [*rows(), row(90, "old team")], created_at=NOW).dataset_id
    stale = [row(number, "older team") for number in range(1000, 2500)]
    room.suite.add("routing", [*stale, *(row(n, LABELS[n % 3]) for n in range(100, 110))], "d0", NOW)
    result = room.run()
    assert result["accepted"]
    assert (result["scores"]["current.rows"], result["scores"]["retention.rows"]) == (30, 10)
    assert room.reports[0]["stale"] == [
        {"suite": "dataset", "right": "old team", "rows": 1},
        {"suite": "retention", "right": "older team", "rows": 1500},
    ]


def test_a_golden_set_that_is_answered_worse_rejects_what_is_better_elsewhere(room):
    golden = [row(number, LABELS[number % 3], split="golden") for number in range(60, 70)]
    room.dataset_id = room.datasets.put("routing", [*rows(), *golden], created_at=NOW).dataset_id

    def script(adapter_id, text):
        return knows("new" if int(text.split()[-1]) < 60 else "old")(adapter_id, text)

    result = room.run(ScriptedEngine(script))
    assert any("on 10 rows of the golden set" in reason for reason in result["reasons"])
    assert result["rows"] == []
    assert room.run()["accepted"]
    assert {each["split"] for each in room.run()["rows"]} == {"holdout"}, "golden rows stay in the golden set"
