"""``everlearn promoter explain``: how often a promoter's policy decides right, by simulation."""

from __future__ import annotations

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.options import choose_task
from agents.cli.output import JsonObject, note, show_rows
from agents.promoter.simulation import Traffic, simulate
from schemas.errors import Misuse

WORSE = 0.1
"""A challenger with so many more bad answers should hardly ever be promoted."""
MUCH_WORSE = 0.25


@click.group()
def promoter() -> None:
    """Show what the promoter's policy does."""


@promoter.command()
@click.argument("task")
@click.option(
    "--bad", type=click.FloatRange(0, 1, max_open=True), default=0.2, show_default=True, metavar="RATE",
    help="The part of the champion's rated answers that are bad.",
)  # fmt: skip
@click.option("--users", type=click.IntRange(10, 50_000), default=5000, show_default=True, help="Users who may rate.")
@click.option("--canaries", type=click.IntRange(10, 10_000), default=200, show_default=True, help="Runs for each line.")
@json_option
@pass_context
def explain(context: CommandContext, /, task: str, bad: float, users: int, canaries: int) -> None:
    """Simulate canaries of TASK: how often its policy promotes and rolls back, and after how many users' ratings.

    Each line is a challenger that is better or worse than the champion by so much. Ratings are the challenger's, the
    median of the canaries that ended so. Undecided canaries hold, for want of users who rate or of evidence.
    """
    settings = context.settings
    choose_task(task, settings.tasks)
    policy = settings.promoter_policy(task)
    challengers = {
        "half as bad": bad / 2,
        "as good": bad,
        **{f"worse by {each:.0%}": bad + each for each in sorted({policy.margin, WORSE, MUCH_WORSE})},
    }
    lines = []
    for name, rate in challengers.items():
        if rate >= 1:
            raise Misuse(f"--bad {bad:g} leaves no room for a challenger that is {name}: give a lower rate")
        note(f"         {name} …")
        ends = simulate(policy, Traffic(champion=bad, challenger=rate, users=users), canaries=canaries)
        lines.append(
            {
                "challenger": name,
                "bad": round(rate, 4),
                "promoted": ends.share("promoted"),
                "rolled_back": ends.share("rolled back"),
                "undecided": ends.share("undecided"),
                "ratings_to_promotion": ends.outcomes_until("promoted"),
                "ratings_to_rollback": ends.outcomes_until("rolled back"),
            }
        )
    show_rows(
        lines,
        ["challenger", "bad", "promoted", "ratings", "rolled back", "ratings", "undecided"],
        _cells,
        fields=lambda line: line,
        empty="",
        as_json=context.json,
    )


def _cells(line: JsonObject) -> list[object]:
    def ratings(value: float | None) -> str:
        return "–" if value is None else f"{value:.0f}"

    return [
        line["challenger"],
        f"{line['bad']:.0%}",
        f"{line['promoted']:.1%}",
        ratings(line["ratings_to_promotion"]),
        f"{line['rolled_back']:.1%}",
        ratings(line["ratings_to_rollback"]),
        f"{line['undecided']:.1%}",
    ]
