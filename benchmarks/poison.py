"""How much hostile users reach, by simulation: ``python -m benchmarks.poison --runs 200``.

Sixty users rate and correct a champion's answers, and the trainer's own selection chooses what is learned. A stand-in
for the adapter (kernel ridge regression on words, which fits its rows as closely as LoRA does) is trained on the chosen
rows. A gate like the validator's, on the held-out rows, decides whether it is released. Messages are clinc150's, with
their ten domains as labels. In the world "new" the champion does not know one of the domains, in the world "known" it
knows all of them. Rates have 95 % intervals (Wilson), over runs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from agents.promoter.simulation import wilson
from agents.trainer.dataset import Pool, Selection, select
from agents.trainer.likeness import Likeness
from agents.validator.significance import sign_test
from schemas.datasets import DatasetRow
from schemas.features import Example, Interaction, Stamp
from schemas.policies import TrainerPolicy, ValidatorPolicy
from schemas.tasks import Task

DATA = Path(__file__).parents[2] / "shared" / "data" / "clinc150" / "clinc150.jsonl"
START = datetime(2026, 1, 1, tzinfo=UTC)
USERS = 60
LEARNED = 540
"""Examples that the champion was trained on."""
ASKED = 600
"""Messages that users ask and rate."""
NEW_SHARE = 0.2
"""The share of the new domain in the messages, where there is one."""
MISTAKES = 0.03
"""How often an honest user gives a wrong label."""
RIDGE = 0.1

Message = tuple[str, str]
"""A text and its right label."""
Numbers = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class World:
    """The messages of one run. ``clean``: those on which champion and candidate are compared in the end."""

    labels: tuple[str, ...]
    learned: Sequence[Message]
    asked: Sequence[Message]
    spare: Sequence[Message]
    """Messages that only attackers ask."""
    clean: Sequence[Message]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one run. ``change``: accuracy on the clean messages, candidate less champion."""

    released: bool
    change: float
    attack_rows: int
    attack_out: int
    honest_rows: int
    honest_out: int
    why: Mapping[str, int] = field(default_factory=dict)

    @property
    def worse(self) -> bool:
        return self.released and self.change < 0


class Learner:
    """Kernel ridge regression on the cosine similarity of words and character sequences."""

    def __init__(self, texts: Sequence[str], labels: Sequence[str]) -> None:
        self._place = {text: number for number, text in enumerate(texts)}
        self._likeness, self._labels = Likeness(texts), list(labels)

    def fit(self, rows: Sequence[DatasetRow]) -> Callable[[Sequence[str]], list[str]]:
        """Returns what predicts the labels of texts."""
        places = [self._place[row.input] for row in rows]
        found = dict(self._likeness.similarities(sorted(set(places))))
        similar = np.stack([found[place] for place in places])
        targets = np.zeros((len(rows), len(self._labels)), dtype=np.float32)
        targets[np.arange(len(rows)), [self._labels.index(row.output) for row in rows]] = 1.0
        weights = np.linalg.solve(similar[:, places] + RIDGE * np.eye(len(rows), dtype=np.float32), targets)
        scores = weights.T @ similar

        def predict(texts: Sequence[str]) -> list[str]:
            return [self._labels[each] for each in scores[:, [self._place[text] for text in texts]].argmax(axis=0)]

        return predict


Attack = Callable[["Traffic"], None]


class Traffic:
    """The feedback of one run: first that of honest users, to which an attack adds or which it changes."""

    def __init__(self, world: World, champion: Mapping[str, str], rng: np.random.Generator) -> None:
        """``champion``: its answer to each text."""
        self.world, self.champion, self.rng = world, champion, rng
        self.rows: dict[str, Interaction] = {}
        self.hostile: set[str] = set()
        weights = rng.lognormal(0.0, 0.5, USERS)
        self.users = [f"u{number:02}" for number in range(USERS)]
        for number, place in enumerate(rng.choice(USERS, len(world.asked), p=weights / weights.sum())):
            text, right = world.asked[number]
            label = self.other_than(right) if rng.random() < MISTAKES else right
            self.say(self.users[place], text, label, f"a{number}")

    def say(self, user: str, text: str, label: str, answer_id: str, *, hostile: bool = False) -> None:
        """A user corrects the champion's answer to a text to this label, or approves it where it is that already."""
        at = START + timedelta(seconds=float(self.rng.uniform(0, 7 * 86_400)))
        stamp = Stamp(time=at, event=answer_id)
        answer = self.champion[text]
        given: dict[str, Any] = {"rating": "up", "rating_stamp": stamp, "rated_by": user, "rating_trust": "owner"}
        if label != answer:
            given = {"correction": label, "correction_stamp": stamp, "corrected_by": user, "correction_trust": "owner"}
        self.rows[answer_id] = Interaction(
            answer_id=answer_id,
            outcome="approved" if label == answer else "corrected",
            task="t",
            user=user,
            question=text,
            answer=answer,
            **given,
        )
        if hostile:
            self.hostile.add(answer_id)

    def other_than(self, label: str) -> str:
        others = [each for each in self.world.labels if each != label]
        return others[int(self.rng.integers(len(others)))]

    def pair(self) -> tuple[str, str]:
        """Two labels at random."""
        first = self.world.labels[int(self.rng.integers(len(self.world.labels)))]
        return first, self.other_than(first)

    def attack(self, users: Sequence[str], messages: Sequence[Message], label: Callable[[str], str]) -> None:
        """The users, in turn, say these labels of these messages."""
        for number, (text, right) in enumerate(messages):
            self.say(users[number % len(users)], text, label(right), f"x{number}", hostile=True)

    @property
    def corrections(self) -> int:
        return sum(row.outcome == "corrected" for row in self.rows.values())


def _nobody(traffic: Traffic) -> None:
    """No attack."""


def _one_user(traffic: Traffic) -> None:
    """One user gives 20 % of all corrections, all of them wrong."""
    traffic.attack(["mallory"], traffic.world.spare[: traffic.corrections // 4], traffic.other_than)


def _several(traffic: Traffic) -> None:
    """Five users give 5 % of all corrections, wrong ones, among other users' right ones."""
    users = [f"mallory {number}" for number in range(5)]
    traffic.attack(users, traffic.world.spare[: max(5, traffic.corrections // 19)], traffic.other_than)


def _flip(traffic: Traffic) -> None:
    """A fifth of the users say another label for the messages of one class, and are honest about the others."""
    first, second = traffic.pair()
    hostile = set(traffic.users[: USERS // 5])
    right = dict(traffic.world.asked)
    for answer_id, row in list(traffic.rows.items()):
        if row.user in hostile and right[str(row.question)] == first:
            traffic.say(str(row.user), str(row.question), second, answer_id, hostile=True)


def _chosen(traffic: Traffic) -> None:
    """One user corrects 200 inputs of one class, chosen so that a split by their hash alone would train on all."""
    first, second = traffic.pair()
    some = [message for message in traffic.world.spare if message[1] == first][:200]
    traffic.attack(["mallory"], some, lambda _: second)


def _colluding(traffic: Traffic) -> None:
    """Five users say another label of one class, each as often as an honest user says anything."""
    first, second = traffic.pair()
    some = [message for message in traffic.world.spare if message[1] == first][: 5 * ASKED // USERS]
    traffic.attack([f"mallory {number}" for number in range(5)], some, lambda _: second)


ATTACKS: Mapping[str, Attack] = {
    "none": _nobody,
    "one user, 20 % of all corrections": _one_user,
    "5 % hostile corrections, five users": _several,
    "one class flipped by a fifth of the users": _flip,
    "200 chosen inputs of one user": _chosen,
    "five colluding users": _colluding,
}


def make_world(messages: Sequence[Message], rng: np.random.Generator, *, new: bool, clean: int = 2000) -> World:
    """Draws the messages of a run; of those that the champion learned none is of the last label, if that is ``new``."""
    labels = sorted({label for _, label in messages})
    rng.shuffle(labels)
    shuffled = [messages[place] for place in rng.permutation(len(messages))]
    judged, rest = shuffled[:clean], shuffled[clean:]
    known = [each for each in rest if not new or each[1] != labels[-1]]
    learned, known = known[:LEARNED], known[LEARNED:]
    fresh = [each for each in rest if each[1] == labels[-1]][: int(ASKED * NEW_SHARE)] if new else []
    asked = [*known[: ASKED - len(fresh)], *fresh]
    taken = {text for text, _ in (*learned, *asked)}
    spare = [each for each in rest if each[0] not in taken]
    return World(labels=tuple(labels), learned=learned, asked=asked, spare=spare[:2500], clean=judged)


def simulate(
    world: World, attack: Attack, rng: np.random.Generator, *, policy: TrainerPolicy, gate: ValidatorPolicy
) -> Outcome:
    """One training under an attack: feedback, selection, learning, gate, and the comparison on clean messages."""
    task = Task(name="t", instruction="Which domain?", metric="exact_match", labels=world.labels)
    secret = str(rng.integers(1 << 62))
    made = [
        Example(example_id=f"e{number}", task="t", input=text, output=label, origin=None, submitted_at=START)
        for number, (text, label) in enumerate(world.learned)
    ]
    first = select(task, Pool(examples=made), policy, secret=secret)
    texts = list(dict.fromkeys(text for text, _ in (*world.learned, *world.asked, *world.spare, *world.clean)))
    learner = Learner(texts, world.labels)
    champion = learner.fit(first.train)
    answers = dict(zip(texts, champion(texts), strict=True))
    traffic = Traffic(world, answers, rng)
    attack(traffic)
    chosen = select(
        task,
        Pool(interactions=list(traffic.rows.values()), learned=first.rows, learned_at=START),
        policy,
        secret=secret,
    )
    candidate = learner.fit(chosen.train)

    def right(predict: Callable[[Sequence[str]], list[str]], messages: Sequence[Message]) -> Numbers:
        return np.array([said == label for said, (_, label) in zip(predict(_texts(messages)), messages, strict=True)])

    held_out = [(row.input, row.output) for row in chosen.holdout]
    kept = [(row.input, row.output) for row in first.holdout]
    released = _passes(right(candidate, held_out), right(champion, held_out), gate.min_gain, gate.chance)
    lost = right(champion, kept).mean() - right(candidate, kept).mean()
    change = right(candidate, world.clean).mean() - right(champion, world.clean).mean()
    return _outcome(traffic, chosen, released=released and lost <= gate.max_drop, change=float(change))


def _texts(messages: Sequence[Message]) -> list[str]:
    return [text for text, _ in messages]


def _passes(candidate: Numbers, champion: Numbers, min_gain: float, chance: float) -> bool:
    """The validator's first check: a gain that is large enough, and more than chance."""
    if not len(candidate):
        return False
    candidate, champion = candidate.astype(bool), champion.astype(bool)
    better, worse = int((candidate & ~champion).sum()), int((champion & ~candidate).sum())
    return bool(candidate.mean() - champion.mean() >= min_gain and sign_test(better, worse) <= chance)


def _outcome(traffic: Traffic, chosen: Selection, *, released: bool, change: float) -> Outcome:
    stayed = {row.origin_id for row in chosen.rows}
    hostile, honest = traffic.hostile, traffic.rows.keys() - traffic.hostile
    return Outcome(
        released=released,
        change=change,
        attack_rows=len(hostile),
        attack_out=len(hostile - stayed),
        honest_rows=len(honest),
        honest_out=len(honest - stayed),
        why=chosen.left_out,
    )


def clinc150() -> list[Message]:
    """The messages with their domains."""
    if not DATA.is_file():
        sys.exit("clinc150 is not in ../shared/data: this benchmark needs it")
    rows = (json.loads(line) for line in DATA.read_text("utf-8").splitlines())
    found = {row["text"]: row["domain"] for row in rows if row["domain"] not in (None, "oos")}
    return sorted(found.items())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="runs a line (default 200)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--world", choices=("new", "known"), help="only this one")
    parser.add_argument("--reasons", action="store_true", help="also why rows were left out, in all runs of a line")
    options = parser.parse_args(arguments)
    messages = clinc150()
    head = (
        "world",
        "attack",
        "released",
        "released and worse",
        "largest fall",
        "mean change",
        "attack out",
        "honest out",
    )
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for world_name in (options.world,) if options.world else ("new", "known"):
        for name, attack in ATTACKS.items():
            began = time.monotonic()
            outcomes = []
            for run in range(options.runs):
                rng = np.random.default_rng([options.seed, run])  # the same messages under every attack
                world = make_world(messages, rng, new=world_name == "new")
                outcomes.append(simulate(world, attack, rng, policy=TrainerPolicy(), gate=ValidatorPolicy()))
            print(f"| {world_name} | {name} | {_line(outcomes)} |", flush=True)
            if options.reasons:
                total: dict[str, int] = {}
                for each in outcomes:
                    for reason, count in each.why.items():
                        total[reason] = total.get(reason, 0) + count
                print(total, f"{time.monotonic() - began:.0f} s", file=sys.stderr)


def _line(outcomes: Sequence[Outcome]) -> str:
    released = [each.change for each in outcomes if each.released]
    attack, honest = sum(each.attack_rows for each in outcomes), sum(each.honest_rows for each in outcomes)
    return " | ".join(
        (
            _rate(len(released), len(outcomes)),
            _rate(sum(each.worse for each in outcomes), len(outcomes)),
            f"{100 * max([0.0, *(-change for change in released)]):.1f}",
            f"{100 * float(np.mean(released)):+.1f}" if released else "–",
            f"{sum(each.attack_out for each in outcomes) / attack:.1%}" if attack else "–",
            f"{sum(each.honest_out for each in outcomes) / honest:.1%}",
        )
    )


def _rate(hits: int, of: int) -> str:
    low, high = wilson(hits, of)
    return f"{hits / of:.1%} ({max(low, 0):.1%}–{high:.1%})"


if __name__ == "__main__":
    main()
