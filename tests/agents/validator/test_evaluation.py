"""The evaluation: the answerer's own prompts, each row asked of every arm, and answers no longer than needed."""

from dataclasses import replace

import pytest

from agents.prompt import build_prompt, hit_of
from agents.validator.evaluation import (
    BASE_ROWS,
    DIVERGENCE_ROWS,
    EvaluationPlan,
    evaluate,
    golden_rows,
    held_out_rows,
    retention_rows,
    without_stale,
)
from agents.validator.probes import choose, make_probes
from agents.validator.report import build_report, scores
from agents.validator.verdict import decide
from infra.memory.engine import MemoryEngine
from schemas.policies import ValidatorPolicy
from schemas.questions import Turn
from tests.agents.validator.room import LABELS, ROUTING, SUPPORT, ScriptedEngine, knows, row, rows

TURNS = (Turn(role="user", text="message 0"), Turn(role="assistant", text="0"))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    return tmp_path


def plan(**changes):
    values = {
        "task": ROUTING, "adapter_id": "new", "champion": "old", "rows": tuple(rows()), "suite": (),
        "general": ("Some text.",), "context_tokens": 500,
    }  # fmt: skip
    return EvaluationPlan(**{**values, **changes})


def evaluated(folder, engine, told=None, **changes):
    engine.set_adapters({"new": folder, "old": folder})
    wanted = plan(**changes)

    def report(done, of):
        if told is not None:
            told.append((done, of))

    return evaluate(wanted, engine, report, lambda: engine.loss(wanted.general))


def test_every_row_is_asked_of_candidate_and_champion_and_some_of_the_base_model(folder):
    engine = ScriptedEngine(knows("new"))
    told: list[tuple[int, int]] = []
    found = evaluated(folder, engine, told, rows=tuple(rows(50)), suite=tuple(row(n) for n in range(100, 110)))
    asked = [request.adapter_id for call in engine.calls for request in call]
    assert (asked.count("new"), asked.count("old"), asked.count(None)) == (60, 60, BASE_ROWS)
    assert told[-1] == (160, 160)
    assert found.evidence.reference == "the champion"
    assert found.evidence.current.gain == 1.0
    assert scores(found, champion=True)["current.base"] == 0.0


def test_without_a_champion_the_base_model_is_the_reference(folder):
    engine = ScriptedEngine(knows("new"), {"new": 3.2})
    found = evaluated(folder, engine, champion=None)
    assert {request.adapter_id for call in engine.calls for request in call} == {"new", None}
    divergence = found.evidence.divergence
    assert divergence is not None
    assert scores(found, champion=False) == {
        "current.candidate": 1.0,
        "current.base": 0.0,
        "current.rows": 30.0,
        "flips.rows": 0.0,
        "flips.of": 30.0,
        "divergence.candidate": divergence,
        "general_loss.candidate": 3.2,
        "general_loss.base": 3.0,
    }


def test_the_prompt_is_the_answerers_with_the_sources_that_the_row_kept(folder):
    source = {"document_id": "d1", "chunk_id": "c1", "score": 0.9, "text": "Five days.", "title": "Refunds"}
    engine = ScriptedEngine(lambda adapter, text: "five days")
    evaluated(folder, engine, task=SUPPORT, rows=(row(1, "five days", sources=(source,)),))
    count = engine.count_tokens
    prompt = build_prompt(SUPPORT, "message 1", [hit_of(source)], (), budget=500, count=count)
    assert engine.calls[0][0].messages == prompt.messages
    assert "Refunds\nFive days." in prompt.messages[-1].content


def test_a_follow_up_is_asked_after_the_turns_that_were_served(folder):
    engine = ScriptedEngine(knows("new"))
    evaluated(folder, engine, rows=(row(1, history=TURNS),))
    assert [(each.role, each.content) for each in engine.calls[0][0].messages[1:]] == [
        ("user", "message 0"), ("assistant", "0"), ("user", "message 1"),
    ]  # fmt: skip


def test_a_row_that_the_answerer_would_refuse_as_too_long_is_left_out(folder):
    found = evaluated(folder, ScriptedEngine(knows("new")), rows=(row(1), row(2, input="word " * 3000)))
    assert (len(found.current), found.left_out) == (1, 1)


def test_a_row_beyond_the_answerers_context_is_left_out_though_the_model_would_take_it(folder):
    found = evaluated(folder, ScriptedEngine(knows("new")), rows=(row(1), row(2, input="word " * 600)))
    assert (len(found.current), found.left_out) == (1, 1)


def test_an_answer_much_longer_than_any_right_one_is_cut_and_wrong(folder):
    engine = ScriptedEngine(lambda adapter, text: "orders " * 20)
    found = evaluated(folder, engine, rows=(row(1, "orders"), row(2, "orders " * 9 + "x")))
    assert {request.max_tokens for call in engine.calls for request in call} == {18}
    assert found.current[0].answers["candidate"].endswith(" …")
    assert found.evidence.current.candidate == (0.0, 0.0)


def test_other_metrics_let_answers_reach_the_tasks_limit(folder):
    engine = ScriptedEngine(lambda adapter, text: "orders")
    evaluated(folder, engine, task=SUPPORT)
    assert {request.max_tokens for call in engine.calls for request in call} == {24}


def test_only_fresh_rows_that_people_wrote_must_fit_their_inputs(folder):
    mixed = (*rows(6), row(6, "orders", origin="approved"), row(7, "courses", fresh=False), row(8, origin="example"))
    (correction, example) = evaluated(folder, ScriptedEngine(knows("new")), rows=mixed).evidence.labelled
    assert (correction.origin, len(correction.right), correction.answers) == ("correction", 6, correction.right)
    assert (example.origin, example.right) == ("example", ("orders",))


def test_the_held_out_rows_are_always_the_same_part():
    many = [*rows(40), *(row(100 + number, split="train") for number in range(10))]
    some = held_out_rows(many[::-1], 12)
    assert some == held_out_rows(many, 12)
    assert set(some) <= set(held_out_rows(many, 20))
    assert {each.split for each in held_out_rows(many, 100)} == {"holdout"}


def test_another_candidate_is_judged_on_other_rows_where_there_are_more_than_are_asked():
    many = rows(200)
    drawn = {each: set(held_out_rows(many, 60, draw=each)) for each in ("a1", "a2")}
    assert len(drawn["a1"] & drawn["a2"]) == pytest.approx(60 * 60 / 200, abs=10)
    assert drawn["a1"] == set(held_out_rows(many[::-1], 60, draw="a1"))
    assert set(held_out_rows(many, 200, draw="a1")) == set(many)
    golden = [row(number, split="golden") for number in range(5)]
    assert set(golden_rows([*many, *golden], 60, draw="a1")) == set(golden)
    assert len(retention_rows(many, [], 60, draw="a1")) == 60


def test_rows_whose_right_answer_the_task_has_no_more_are_left_out_and_counted():
    found = [row(1, " ORDERS "), row(2, "old"), row(3, "older"), row(4, "old")]
    assert without_stale(ROUTING, found) == ([found[0]], {"old": 2, "older": 1})
    assert without_stale(SUPPORT, found) == (found, {})


def test_the_golden_set_is_asked_and_scored_apart(folder):
    golden = tuple(row(number, LABELS[number % 3], split="golden") for number in range(60, 70))
    found = evaluated(folder, ScriptedEngine(knows("new")), golden=golden)
    assert (found.evidence.golden.rows, found.evidence.golden.gain, found.evidence.current.rows) == (10, 1.0, 30)
    assert (scores(found, champion=True)["golden.candidate"], found.evidence.together.rows) == (1.0, 40)
    assert [suite for suite, _ in found.judged].count("golden") == 10


def test_right_answers_that_turned_wrong_are_listed_golden_ones_first(folder):
    golden = tuple(row(number, LABELS[number % 3], split="golden") for number in range(60, 64))
    suite = tuple(row(number, LABELS[number % 3]) for number in range(100, 180))
    found = evaluated(folder, ScriptedEngine(knows("old")), golden=golden, suite=suite)
    assert len(found.flips) == 114
    flips = build_report(plan(), found, decide(found.evidence, ValidatorPolicy()), ValidatorPolicy(), {})["flips"]
    assert (flips["rows"], flips["of"], len(flips["listed"])) == (114, 114, 50)
    assert {each["suite"] for each in flips["listed"][:4]} == {"golden"}
    first = flips["listed"][0]
    assert (first["reference"], first["candidate"]) == (first["right"], "I am not sure about that")


def test_slices_are_reported_with_the_scores_of_both_arms(folder):
    found = evaluated(folder, ScriptedEngine(knows("old")), rows=(*rows(89), row(89, LABELS[2], tenant="acme")))
    report = build_report(plan(), found, decide(found.evidence, ValidatorPolicy()), ValidatorPolicy(), {})
    assert [each for each in report["slices"] if each["kind"] == "label"] == [
        {"kind": "label", "name": name, "rows": 30, "candidate": 0.0, "reference": 1.0, "drop": 1.0, "passed": False}
        for name in sorted(LABELS)
    ]
    assert report["small_slices"] == [{"kind": "tenant", "name": "acme", "rows": 1}]


class Walker(ScriptedEngine):
    """Notes the exchanges on which a divergence is measured."""

    def divergence(self, exchanges, adapter_id):
        self.walked = exchanges
        return super().divergence(exchanges, adapter_id)


@pytest.mark.parametrize("champion", [None, "old"])
def test_the_divergence_is_measured_along_the_base_models_own_answers(folder, champion):
    engine = Walker(lambda adapter, text: adapter or "the base says")
    found = evaluated(folder, engine, champion=champion, rows=tuple(rows(50)))
    assert len(engine.walked) == DIVERGENCE_ROWS
    assert {answer for _, answer in engine.walked} == {"the base says"}
    assert scores(found, champion=champion is not None)["divergence.candidate"] == found.evidence.divergence


def test_the_retention_suite_leaves_out_what_the_dataset_holds():
    dataset = [row(1, split="train"), row(2)]
    suite = [row(1), row(2), row(3), row(50, input=" Message 1")]
    assert retention_rows(suite, dataset, 10) == (row(3),)
    follow_up = row(60, input="message 1", history=TURNS)
    assert retention_rows([follow_up], dataset, 10) == (follow_up,), "another input than the same words alone"
    assert retention_rows(rows(9), [], 4) == held_out_rows(rows(9), 4)


def test_probes_prefer_answers_that_differ_from_the_champions_and_from_each_other(folder):
    engine = ScriptedEngine(lambda adapter, text: knows("new" if int(text.split()[-1]) % 2 else "old")("new", text))
    found = evaluated(folder, engine, champion="old")
    chosen = choose(found.current)
    assert {each.answers["candidate"] for each in chosen} >= {"orders", "courses", "repairs"}
    probes = make_probes(found.current, "new", engine)
    assert [probe.output for probe in probes] == [each.answers["candidate"] for each in chosen]
    assert {probe.engine for probe in probes} == {"memory"}
    assert all(probe.max_tokens <= 16 for probe in probes)


class MoodyEngine(MemoryEngine):
    """Says something else in company, to every second prompt."""

    def generate(self, requests):
        made = super().generate(requests)
        if len(requests) == 1:
            return made
        return [replace(each, text=f"{each.text}!") if place % 2 else each for place, each in enumerate(made)]


def test_an_answer_that_depends_on_its_company_is_no_probe(folder):
    engine = MoodyEngine()
    found = evaluated(folder, engine)
    assert len(make_probes(found.current, "new", engine)) == 2


def test_the_report_shows_confusion_and_what_changed(folder):
    found = evaluated(folder, ScriptedEngine(knows("new")))
    verdict = decide(found.evidence, ValidatorPolicy())
    assert verdict.accepted
    report = build_report(plan(), found, verdict, ValidatorPolicy(), {"dataset": "d1"})
    assert {(each["right"], each["said"], each["rows"]) for each in report["confusion"]["candidate"]} == {
        ("orders", "orders", 10),
        ("courses", "courses", 10),
        ("repairs", "repairs", 10),
    }
    assert {each["said"] for each in report["confusion"]["reference"]} == {"(something else)"}
    assert (len(report["better"]), report["worse"]) == (12, [])
    assert report["better"][0]["reference"] == "I am not sure about that"
