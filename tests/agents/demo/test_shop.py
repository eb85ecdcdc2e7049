"""The demo's data is what the demo says it is: enough of it, and nothing held out that a training has nearly seen."""

from __future__ import annotations

import json
import tomllib
from collections import Counter

import numpy as np

from agents.demo import shop
from infra.settings import load

HELD_OUT = ("heldout_old", "heldout_new")


def test_there_are_enough_documents_messages_and_customers():
    documents = [json.loads(line) for line in shop.DOCUMENTS.read_text("utf-8").splitlines()]
    rows = shop.messages()
    sizes = Counter(row.split for row in rows)

    assert len({document["id"] for document in documents}) == len(documents) >= 40
    assert len(rows) >= 800
    assert sizes["heldout_old"] >= 100
    assert sizes["heldout_new"] >= 60
    assert len({row.user for row in rows}) >= 100


def test_every_message_is_there_once_and_has_a_team():
    rows = shop.messages()

    assert len({row.text.casefold() for row in rows}) == len({row.id for row in rows}) == len(rows)
    assert {row.label for row in rows} == set(shop.TEAMS)
    assert {row.label for row in rows if row.split in ("drift_new", "canary_new", "heldout_new")} == {"skates"}
    assert "skates" not in {row.label for row in shop.messages("examples", "ordinary", "canary_first", "heldout_old")}


def test_no_held_out_message_is_nearly_one_that_is_learned_from(message_vectors):
    rows = shop.messages()
    vectors = np.asarray([message_vectors[row.text] for row in rows])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    held_out = np.array([row.split in HELD_OUT for row in rows])

    nearest = (vectors[held_out] @ vectors[~held_out].T).max()

    assert nearest < 0.95


def test_its_configuration_is_one_that_everlearn_takes(tmp_path):
    (tmp_path / "everlearn.toml").write_text(shop.configuration())

    settings = load(tmp_path, environ={})

    assert settings.tasks["routing"].labels == shop.TEAMS
    assert tomllib.loads(shop.configuration())["promoter"]["shares"] == list(settings.promoter.shares)


def test_interleaving_keeps_every_message_and_spreads_each_group():
    old, new = shop.messages("canary_old"), shop.messages("canary_new")

    mixed = shop.interleaved(old, new)

    assert sorted(row.id for row in mixed) == sorted(row.id for row in [*old, *new])
    half = Counter(row.split for row in mixed[: len(mixed) // 2])
    assert abs(half["canary_old"] - len(old) / 2) <= 1


def test_examples_are_lines_that_publish_takes(tmp_path):
    path = shop.write_examples(tmp_path / "e.jsonl", shop.messages("examples")[:2])

    lines = [json.loads(line) for line in path.read_text().splitlines()]

    assert [set(line) for line in lines] == [{"task", "input", "output"}] * 2
