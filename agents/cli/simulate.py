"""``everlearn simulate``: shows what a policy would have done, before anybody trusts it. Needs no running stack."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.options import choose_task
from agents.cli.output import JsonObject, columns, counted, emit, note
from agents.cli.promoter import canary_line, limits, shown
from agents.cli.stores import open_feature_table
from agents.promoter.simulation import (
    CHAMPIONS,
    WORSE,
    Case,
    Recorded,
    Traffic,
    contradiction,
    recorded,
    simulate_cases,
    usual_cases,
    wilson,
)
from schemas.errors import EverlearnError, Misuse
from schemas.policies import MonitorPolicy, PromoterPolicy

if TYPE_CHECKING:
    from agents.monitor.simulation import Alarms
    from infra.settings import Settings

P = TypeVar("P")
"""A policy."""
FEWEST_RATERS = 10
MOST_ROWS = 50_000
"""The newest rows of the feature table that a simulation on the history reads."""
_PART = click.FloatRange(0, 1, min_open=True)


@click.group()
def simulate() -> None:
    """Show how often the policies of this home decide right, on simulated traffic or on its own history."""


@simulate.command()
@click.argument("task", required=False)
@click.option("--history", is_flag=True, help="Draw users from the recorded interactions; needs TASK.")
@click.option(
    "--bad", type=click.FloatRange(0, 1, max_open=True), multiple=True, metavar="RATE",
    help="The part of the champion's rated answers that are bad; may be repeated.  [default: 0.05, 0.1, 0.2 and 0.3]",
)  # fmt: skip
@click.option("--users", type=click.IntRange(10, 50_000), help="Users who rate.  [default: 5000, or the recorded ones]")
@click.option(
    "--moves", type=click.FloatRange(-1, 1), default=0.0, help="Both arms' rates change by this at each share."
)
@click.option("--displeased", type=_PART, default=0.5, show_default=True, help="The part of the displeased who rate.")
@click.option("--pleased", type=_PART, default=0.1, show_default=True, help="The part of the pleased who rate.")
@click.option("--canaries", type=click.IntRange(10, 10_000), default=200, show_default=True, help="Runs for each line.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The same seed, the same figures.")
@json_option
@pass_context
def canary(
    context: CommandContext,
    /,
    task: str | None,
    history: bool,
    bad: tuple[float, ...],
    users: int | None,
    moves: float,
    displeased: float,
    pleased: float,
    canaries: int,
    seed: int,
) -> None:
    """Simulate canaries by the policy of TASK, or by each policy of this home's tasks.

    Users come by Zipf's law, and canaries are looked at after every rating. Each line is a challenger beside a
    champion, with the part of the canaries that promote it and that roll it back. With --history the users, their
    ratings and what they met are drawn from the task's recorded interactions, in the order in which they came. A page
    with the figures and their 95 % intervals is written to reports/simulations.
    """
    settings = context.settings
    if task is not None:
        choose_task(task, settings.tasks)
    if not history:
        traffic: Traffic | Recorded = Traffic(
            users=users or 5000, moves=moves, displeased=(displeased,) * 2, pleased=(pleased,) * 2
        )
    else:
        if task is None:
            raise Misuse("--history needs a TASK: name one of everlearn.toml")
        if bad or moves:
            raise Misuse("--history takes the quality from the recorded answers: leave out --bad and --moves")
        traffic = _history(settings, task, users or 0)
    for tasks, policy in _policies(settings, task, settings.promoter_policy):
        cases = _cases(traffic, policy, bad or CHAMPIONS)
        note(f"         {len(cases) * canaries:,} canaries of {', '.join(tasks)} …")
        found = simulate_cases(policy, cases, traffic, canaries=canaries, seed=seed)
        lines = [canary_line(case, ends) for case, ends in zip(cases, found, strict=True)]
        wrong = [contradiction(case, ends) for case, ends in zip(cases, found, strict=True)]
        result: JsonObject = {
            "kind": "canary",
            "tasks": tasks,
            "policy": policy.model_dump(mode="json"),
            "traffic": _described(traffic),
            "lines": lines,
            "warnings": [str(each) for each in wrong if each is not None],
        }
        result["report"] = _write(settings, result)
        if context.json:
            emit(result)
            continue
        _show(result, policy)


@simulate.command()
@click.argument("task", required=False)
@click.option("--history", is_flag=True, help="Take the users of the recorded interactions; needs TASK.")
@click.option("--streams", type=click.IntRange(2, 1000), default=20, show_default=True, help="Streams for each line.")
@click.option("--rows", type=click.IntRange(100, 50_000), default=3000, show_default=True, help="Answers of a stream.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The same seed, the same figures.")
@json_option
@pass_context
def drift(context: CommandContext, /, task: str | None, history: bool, streams: int, rows: int, seed: int) -> None:
    """Simulate drift checks by the policy of TASK, or by each policy of this home's tasks.

    The first lines are traffic without drift: how many checks say drift all the same, and how many would start a
    training. Then come drifts, and after how many questions they are said. With --history there is
    one line: the task's recorded interactions, with the days of half of the users reversed by chance, so that nothing
    drifts; it needs the embedding model. A page with the figures is written to reports/simulations.
    """
    from agents.monitor import simulation as of_drift  # each command loads what it needs

    settings = context.settings
    if task is not None:
        choose_task(task, settings.tasks)
    elif history:
        raise Misuse("--history needs a TASK: name one of everlearn.toml")
    for tasks, policy in _policies(settings, task, settings.monitor_policy):
        if rows < policy.rows_needed:
            raise Misuse(f"--rows {rows} is less than both windows have, {policy.rows_needed}: give more")
        stable: dict[str, of_drift.Alarms] = {}
        delays: list[JsonObject] = []
        if history:
            stable["the recorded users, in another order"] = _history_alarms(settings, tasks[0], policy, streams, seed)
        else:
            questions = of_drift.made_up_questions()
            for name, traffic in of_drift.STABLE.items():
                note(f"         {name} …")
                stable[name] = of_drift.stable_alarms(traffic, questions, policy, streams=streams, rows=rows, seed=seed)
            for name, (kind, change) in of_drift.DRIFTS.items():
                note(f"         {name} …")
                traffic = replace(of_drift.MIXED, drift=change)
                found = of_drift.delays(kind, traffic, questions, policy, streams=streams, seed=seed)
                delays.append(_delay_line(name, found.tolist()))
        result: JsonObject = {
            "kind": "drift",
            "tasks": tasks,
            "policy": policy.model_dump(mode="json"),
            "streams": streams,
            "rows": rows,
            "history": history,
            "stable": [
                {
                    "traffic": name,
                    "drifted": float(each.drifted.mean()),
                    "drifted_interval": of_drift.interval(each.drifted),
                    "trains": float(each.trains.mean()),
                    "trains_interval": of_drift.interval(each.trains),
                }
                for name, each in stable.items()
            ],
            "drifts": delays,
        }
        result["report"] = _write(settings, result)
        if context.json:
            emit(result)
        else:
            _show_drift(result)


def _history_alarms(settings: Settings, task: str, policy: MonitorPolicy, streams: int, seed: int) -> Alarms:
    import numpy as np

    from agents.monitor.simulation import alarms, without_drift
    from agents.monitor.simulation import recorded as stream_of
    from infra.embedding.embedder import SentenceTransformerEmbedders

    with open_feature_table(settings) as features:
        rows = features.recent(task, MOST_ROWS)
    embedder = SentenceTransformerEmbedders(settings).of(settings.embedding.model)
    found = stream_of(rows, embedder.embed)
    answers = 0 if found is None else len(found[0])
    if found is None or answers < policy.rows_needed:
        raise EverlearnError(
            f"{task} has {answers:,} recorded answers, and both windows need {policy.rows_needed:,}: simulate without "
            "--history"
        )
    random = np.random.default_rng(seed)
    stream, questions = found
    return alarms([(without_drift(stream, random), questions) for _ in range(streams)], policy)


def _delay_line(name: str, found: Sequence[float]) -> JsonObject:
    """The part of the streams that say the drift, and after how many questions; infinity is a drift that is missed."""

    def at(quantile: float) -> float | None:
        number = sorted(found)[min(len(found) - 1, int(quantile * len(found)))]
        return number if math.isfinite(number) else None

    said = sum(map(math.isfinite, found))
    return {
        "drift": name,
        "said": said / len(found),
        "said_interval": wilson(said, len(found)),
        "questions": at(0.5),
        "questions_p90": at(0.9),
    }


def _show_drift(result: JsonObject) -> None:
    def rate(share: float, bounds: Sequence[float]) -> str:
        return f"{share:.1%} ({bounds[0]:.1%}–{bounds[1]:.1%})"

    click.echo(f"{', '.join(result['tasks'])}: {result['streams']} streams a line, 10 checks each")
    rows = [
        (
            each["traffic"],
            rate(each["drifted"], each["drifted_interval"]),
            rate(each["trains"], each["trains_interval"]),
        )
        for each in result["stable"]
    ]
    click.echo(columns(["without drift", "checks that say drift", "that start a training"], rows))
    if result["drifts"]:
        click.echo(
            columns(
                ["drift", "said", "questions", "p90"],
                [
                    (
                        each["drift"],
                        rate(each["said"], each["said_interval"]),
                        shown(each["questions"]),
                        shown(each["questions_p90"]),
                    )
                    for each in result["drifts"]
                ],
            )
        )
    click.echo(f"report: {result['report']}")


def _policies(settings: Settings, task: str | None, policy_of: Callable[[str], P]) -> list[tuple[list[str], P]]:
    """Each policy with the tasks that have it."""
    found: list[tuple[list[str], P]] = []
    for name in [task] if task is not None else sorted(settings.tasks):
        policy = policy_of(name)
        same = next((tasks for tasks, known in found if known == policy), None)
        if same is None:
            found.append(([name], policy))
        else:
            same.append(name)
    if not found:
        raise Misuse("no task is configured: run 'everlearn init', or 'everlearn tasks add NAME --instruction …'")
    return found


def _cases(traffic: Traffic | Recorded, policy: PromoterPolicy, champions: tuple[float, ...]) -> list[Case]:
    if isinstance(traffic, Recorded):
        return usual_cases(float(traffic.raters.bad.mean()), policy.margin)
    cases = [case for each in champions for case in usual_cases(each, policy.margin)]
    highest = max(case.challenger for case in cases) + max(0.0, traffic.moves) * (len(policy.shares) - 1)
    lowest = min(case.challenger for case in cases) + min(0.0, traffic.moves) * (len(policy.shares) - 1)
    if highest > 1 or lowest < 0:
        raise Misuse(f"--moves {traffic.moves:g} takes a rate of bad answers out of 0 to 1: give a smaller change")
    return cases


def _history(settings: Settings, task: str, users: int) -> Recorded:
    with open_feature_table(settings) as features:
        rows = features.recent(task, MOST_ROWS)
    found = recorded(rows, users=users)
    if found is None:
        raise EverlearnError(f"nobody has rated an answer of {task} yet: simulate without --history")
    if (raters := len(found.raters.bad)) < FEWEST_RATERS:
        raise EverlearnError(
            f"{counted(raters, 'user')} of {task} rated answers, and {FEWEST_RATERS} are needed to draw others from: "
            "simulate without --history"
        )
    return found


def _described(traffic: Traffic | Recorded) -> JsonObject:
    if isinstance(traffic, Recorded):
        return {"source": "history", "raters": len(traffic.raters.bad), "users": traffic.users}
    return {
        "source": "synthetic",
        "users": traffic.users,
        "moves": traffic.moves,
        "displeased": traffic.displeased[0],
        "pleased": traffic.pleased[0],
    }


def _write(settings: Settings, result: JsonObject) -> str:
    from infra.reports.simulation import write_simulation  # Jinja takes time to load

    return str(write_simulation(settings.reports_folder / "simulations", result))


def _show(result: JsonObject, policy: PromoterPolicy) -> None:
    click.echo(f"{', '.join(result['tasks'])}: shares {', '.join(f'{each:.0%}' for each in policy.shares)}")
    head = ["champion", "challenger", "bad", "promoted", "ratings", "p90", "rolled back", "ratings", "p90", "undecided"]
    click.echo(columns(head, [_cells(line) for line in result["lines"]]))
    note(limits(policy))
    for each in result["warnings"]:
        note(f"warning: {each}")
    most = max(line["undecided"] for line in result["lines"] if line["challenger"] == "as good")
    if most > WORSE:
        note(
            f"of equally good challengers up to {most:.0%} stay undecided: {policy.judged} users of each arm must rate "
            f"at each share, and {result['traffic']['users']:,} users rate in all"
        )
    click.echo(f"report: {result['report']}")


def _cells(line: JsonObject) -> list[object]:
    return [
        f"{100 * line['champion_bad']:.3g}%",
        line["challenger"],
        f"{100 * line['bad']:.3g}%",
        f"{line['promoted']:.1%}",
        shown(line["ratings_to_promotion"]),
        shown(line["ratings_to_promotion_p90"]),
        f"{line['rolled_back']:.1%}",
        shown(line["ratings_to_rollback"]),
        shown(line["ratings_to_rollback_p90"]),
        f"{line['undecided']:.1%}",
    ]
