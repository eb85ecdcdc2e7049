"""A cross-encoder reads question and chunk together: slower than comparing vectors, and a better judge of both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from infra.models.hub import local_folder
from infra.models.threads import in_one_thread, torch_team
from schemas.errors import ModelMissing, first_line
from schemas.retrieval import Hit, headings_above

_SETTING = "[retrieval] cross_encoder"


class CrossEncoderReranker:
    """A sentence-transformers cross-encoder in this process. Raises ModelMissing."""

    def __init__(self, name: str) -> None:
        """``name``: of the model on the hub, or the path of its folder."""
        folder = local_folder(name, _SETTING)
        # Imported here: it takes ten seconds, which a process without a cross-encoder must not pay.
        from sentence_transformers import CrossEncoder

        try:
            self._model: Any = CrossEncoder(str(folder), local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ModelMissing(
                f"{_SETTING}: {folder} does not load as a cross-encoder ({first_line(error)})"
            ) from error
        self._team = torch_team(self._model.device.type)

    def order(self, text: str, hits: Sequence[Hit]) -> list[Hit]:
        """The hits, most relevant first; ties stay in their order."""
        if not hits:
            return []
        pairs = [
            (text, "\n".join([*headings_above(hit.chunk.title, hit.chunk.heading), hit.chunk.text])) for hit in hits
        ]
        scores = self._scores(pairs)
        order = sorted(range(len(hits)), key=lambda place: -float(scores[place]))
        return [hits[place] for place in order]

    @in_one_thread
    def _scores(self, pairs: list[tuple[str, str]]) -> Any:
        with self._team.at_work():
            return self._model.predict(pairs, show_progress_bar=False)
