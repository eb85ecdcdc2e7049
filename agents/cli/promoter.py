"""``everlearn promoter explain``: how often a promoter's policy decides right, by simulation."""

from __future__ import annotations

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.options import choose_task
from agents.cli.output import JsonObject, note, show_rows
from agents.promoter.simulation import Case, End, Ends, Traffic, contradictions, simulate_cases, usual_cases
from schemas.policies import PromoterPolicy


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
    median of the canaries that ended so. Undecided canaries hold, for want of users who rate or of evidence. The limits
    of the guardrails follow, and the cases in which the policy errs too often, if there are any.
    """
    settings = context.settings
    choose_task(task, settings.tasks)
    policy = settings.promoter_policy(task)
    cases = usual_cases(bad, policy.margin)
    note("         " + ", ".join(each.name for each in cases) + " …")
    found = simulate_cases(policy, cases, Traffic(users=users), canaries=canaries)
    show_rows(
        [canary_line(case, ends) for case, ends in zip(cases, found, strict=True)],
        ["challenger", "bad", "promoted", "ratings", "rolled back", "ratings", "undecided"],
        _cells,
        fields=lambda line: line,
        empty="",
        as_json=context.json,
    )
    note(limits(policy))
    for each in contradictions(policy, canaries=max(canaries // 2, 50)):
        note(f"warning: {each}")


def canary_line(case: Case, ends: Ends) -> JsonObject:
    """A case's figures for programs. The intervals are of 95 %; ratings are users of the challenger who rated."""

    def ratings(end: End, quantile: float) -> float | None:
        return ends.outcomes_until(end, quantile)

    return {
        "challenger": case.name,
        "champion_bad": round(case.champion, 4),
        "bad": round(case.challenger, 4),
        "promoted": ends.share("promoted"),
        "promoted_interval": ends.interval("promoted"),
        "rolled_back": ends.share("rolled back"),
        "rolled_back_interval": ends.interval("rolled back"),
        "undecided": ends.share("undecided"),
        "undecided_interval": ends.interval("undecided"),
        "ratings_to_promotion": ratings("promoted", 0.5),
        "ratings_to_promotion_p90": ratings("promoted", 0.9),
        "ratings_to_rollback": ratings("rolled back", 0.5),
        "ratings_to_rollback_p90": ratings("rolled back", 0.9),
    }


def limits(policy: PromoterPolicy) -> str:
    """What the guardrails allow, in a sentence."""
    shorter = f", {policy.max_shorter:g} times as short" if policy.max_shorter is not None else ""
    return (
        "guardrails: a challenger is rolled back, whatever its ratings, when it certainly has more than "
        f"{policy.max_failed:.0%} more failed answers, {policy.max_declined:.0%} more that decline or "
        f"{policy.max_asked_back:.0%} more that ask back, is more than {policy.max_slower:g} times as slow, or answers "
        f"more than {policy.max_longer:g} times as long{shorter}"
    )


def _cells(line: JsonObject) -> list[object]:
    return [
        line["challenger"],
        f"{100 * line['bad']:.3g}%",
        f"{line['promoted']:.1%}",
        shown(line["ratings_to_promotion"]),
        f"{line['rolled_back']:.1%}",
        shown(line["ratings_to_rollback"]),
        f"{line['undecided']:.1%}",
    ]


def shown(ratings: float | None) -> str:
    """A number of ratings, or a dash where no canary ended so."""
    return "–" if ratings is None else f"{ratings:.0f}"
