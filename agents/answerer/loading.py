"""Takes adapters into the engine beside those that serve, each verified and probed before anybody may ask for it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from agents.answerer.ports import AdapterStore, Engine
from agents.answerer.probing import objection, requests_of
from agents.errors import AdapterMissing, Unavailable


class LoadedAdapters:
    """The adapters that may be asked for. One thread at a time; batches may be generated meanwhile."""

    def __init__(self, engine: Engine, store: AdapterStore, *, unprobed: bool) -> None:
        self._engine, self._store, self._unprobed = engine, store, unprobed
        self._paths: dict[str, Path] = {}

    def ensure(self, adapter_ids: Iterable[str]) -> None:
        """Takes in what is not there yet; raises AdapterMissing for the first that cannot be, and leaves it out.

        A loaded adapter is not looked at again: its folder may be gone while it serves well.
        """
        for adapter_id in adapter_ids:
            if adapter_id not in self._paths:
                self._take_in(adapter_id)

    def holds_others(self, adapter_ids: Collection[str]) -> bool:
        """Whether ``keep_only`` would drop something."""
        return not self._paths.keys() <= set(adapter_ids)

    def keep_only(self, adapter_ids: Collection[str]) -> None:
        """Drops all others. Nothing may be generated meanwhile, else a batch could ask for one that has just gone."""
        kept = {each: path for each, path in self._paths.items() if each in adapter_ids}
        self._engine.set_adapters(dict(kept))
        self._paths = kept

    def _take_in(self, adapter_id: str) -> None:
        path = self._store.path(adapter_id)
        self._store.verify(adapter_id)
        probes = self._store.probes(adapter_id)
        if not probes:  # the weights need not be loaded to know
            self._object(objection(adapter_id, (), (), engine=self._engine.signature, unprobed=self._unprobed))
        before = dict(self._paths)
        self._engine.set_adapters({**before, adapter_id: path})
        try:
            # one by one: a batch of questions waits for one probe at most
            asked = requests_of(probes, adapter_id)
            answers = [self._engine.generate([request])[0].text for request in asked]
            engine, unprobed = self._engine.signature, self._unprobed
            self._object(objection(adapter_id, probes, answers, engine=engine, unprobed=unprobed))
        except AdapterMissing:
            self._engine.set_adapters(before)
            raise
        except Unavailable as error:
            self._engine.set_adapters(before)
            raise AdapterMissing(f"{adapter_id} cannot be probed ({error}): train it again, or roll back") from error
        self._paths = {**before, adapter_id: path}

    @staticmethod
    def _object(reason: str | None) -> None:
        if reason is not None:
            raise AdapterMissing(reason)
