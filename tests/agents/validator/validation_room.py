"""A validation run on memory twins and real adapters on disk, with an engine that says what a test wants."""

import shutil
from functools import partial

import pytest

from agents.validator.evaluation import general_texts
from agents.validator.ports import LoadedModel
from agents.validator.work import ValidationParts
from agents.wiring.validator import AdaptersOnDisk, validation
from infra.adapters.files import install, read_card
from infra.adapters.integrity import BaseIdentity
from infra.memory.database import MemoryDatabase
from infra.memory.registry import MemoryRegistry
from infra.memory.retention import MemoryRetention
from infra.models.scoring import cached_loss
from infra.reports.validation import write_report
from infra.settings import Settings
from schemas.datasets import DatasetManifest
from schemas.policies import ValidatorPolicy
from schemas.registry import AdapterRecord
from tests.agents.validator.room import NOW, ROUTING, ScriptedEngine, knows, row, rows


class Datasets:
    """Snapshots that were put in."""

    def __init__(self, **snapshots):
        self.snapshots = snapshots

    def manifest(self, dataset_id):
        if dataset_id not in self.snapshots:
            return None
        found = self.snapshots[dataset_id]
        held = sum(each.split == "holdout" for each in found)
        return DatasetManifest(
            dataset_id=dataset_id, task="routing", created_at=NOW, train_rows=len(found) - held, holdout_rows=held,
            fresh_rows=len(found), counts={"correction": len(found)},
        )  # fmt: skip

    def rows(self, dataset_id):
        return self.snapshots[dataset_id]


class Room:
    def __init__(self, home, adapters, **validator):
        self.settings = Settings(home=home, tasks={"routing": ROUTING}, validator=ValidatorPolicy(**validator))
        self.folder = home / "work" / "runs" / "r1"
        self.folder.mkdir(parents=True)
        self.registry, self.suite = MemoryRegistry(), MemoryRetention(MemoryDatabase())
        self.datasets = Datasets(d1=rows(), few=[row(1, split="train")])
        self.engine = ScriptedEngine(knows())
        card = read_card(adapters["red"])
        self.base = BaseIdentity(revision=card.base_revision, chat_template=card.chat_template)
        for name in ("red", "blue"):
            shutil.copytree(adapters[name], self.settings.adapters_folder / adapters[name].name)
            self.register(adapters[name].name)

    def register(self, adapter_id):
        self.registry.register(
            AdapterRecord(
                adapter_id=adapter_id, task="routing", base_model="smollm2-135m-instruct", dataset_id="d1",
                run_id="t1", size_bytes=1, created_at=NOW,
            )
        )  # fmt: skip

    def adopt(self, made):
        """Installs and registers an adapter as a training would have left it."""
        adapter_id, _ = install(made, self.settings.adapters_folder)
        self.register(adapter_id)
        return adapter_id

    def run(self, adapter_id, *, dataset_id="d1", champion=None, engine=None, sleep=pytest.fail, texts=None):
        self.engine = engine or ScriptedEngine(knows(adapter_id))
        arguments = {"task": "routing", "adapter_id": adapter_id, "dataset_id": dataset_id, "champion": champion}
        adapters, reports = AdaptersOnDisk(self.settings), self.settings.reports_folder / "validation" / "routing"
        parts = ValidationParts(
            registry=self.registry,
            datasets=self.datasets,
            suite=self.suite,
            adapters=adapters,
            load_model=lambda: LoadedModel(
                engine=self.engine,
                revision=self.base.revision,
                check=lambda each: self.base.check(each, read_card(adapters.path(each))),
            ),
            cached_loss=partial(cached_loss, self.folder / "general-loss.json"),
            write_report=lambda report: write_report(reports, report).as_uri(),
            general_texts=texts or general_texts(),
            sleep=sleep,
        )
        return validation(self.settings, arguments, self.folder, parts).run()

    def folder_of(self, adapter_id):
        return self.settings.adapters_folder / adapter_id
