"""Knows which topics a worker reads, by Kafka's ids: a topic that is made anew keeps its name and repeats its offsets.

Whatever is stored by topic, partition and offset is true of one topic only. When the database meets another topic of a
known name, or another cluster, the log says what that means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from hashlib import blake2b

import structlog

from agents.delivery.ports import KnownTopics, TopicLookup
from schemas.delivery import KafkaTopic
from schemas.errors import EverlearnError

log = structlog.get_logger()


class TopicMadeAnew(EverlearnError):
    """A topic that is being read was deleted and made anew; the worker must start again, at its beginning."""


class TopicIds:
    """The ids of the topics that a worker reads, and what its database knows of them."""

    def __init__(
        self, topics: Sequence[str], lookup: TopicLookup, known: KnownTopics, *, clock: Callable[[], datetime]
    ) -> None:
        self._topics = tuple(topics)
        self._lookup = lookup
        self._known = known
        self._clock = clock
        self._ids: dict[str, str] = {}
        self._current = False

    def __getitem__(self, topic: str) -> str:
        """Returns the id of the topic that has this name now. ``learn`` must have been called."""
        return self._ids[topic]

    @property
    def fingerprint(self) -> str:
        """Eight characters that are the same as long as the topics are."""
        return blake2b(" ".join(sorted(self._ids.values())).encode(), digest_size=4).hexdigest()

    def forget(self) -> None:
        """Asks Kafka again at the next ``learn``; call it whenever partitions were assigned."""
        self._current = False

    async def learn(self) -> None:
        """Asks Kafka for the ids, and says so if the database knows other topics of these names. Raises Unavailable."""
        if self._current:
            return
        ids = await self._ask()
        cluster = next(iter(ids.values())).cluster_id
        before = await asyncio.to_thread(self._known.meet, list(ids.values()), self._clock())
        moved = sorted(name for name, topic in before.items() if topic.cluster_id != cluster)
        anew = sorted(before.keys() - set(moved))
        if moved:
            log.warning("another cluster", topics=moved, meaning=meaning(before[moved[0]].cluster_id, cluster))
        if anew:
            log.warning("topics made anew", topics=anew, meaning="their earlier messages are gone: send them again")
        self._ids = {name: topic.topic_id for name, topic in ids.items()}
        self._current = True

    async def check(self) -> None:
        """Raises TopicMadeAnew if a topic has another id than ``learn`` found. Raises Unavailable."""
        for name, topic in (await self._ask()).items():
            if self._ids.get(name, topic.topic_id) != topic.topic_id:
                raise TopicMadeAnew(f"{name} was deleted and made anew: the worker starts again, to read all of it")

    async def _ask(self) -> dict[str, KafkaTopic]:
        return {topic.name: topic for topic in await asyncio.to_thread(self._lookup.topics, self._topics)}


def meaning(earlier: str, now: str) -> str:
    """Says what it means that the database was used with one Kafka cluster and meets another one."""
    return (
        f"this home's database was used with the Kafka cluster {earlier} and now meets {now}. What only the earlier "
        "cluster held is not there: events that were not handled yet, dead letters, and how far each agent had read. "
        "What the database holds stays, and the promoter publishes the releases again. Send again what was not "
        "handled: documents with 'everlearn publish documents FOLDER --all'. If this is not the Kafka that you want, "
        "correct [kafka] bootstrap_servers"
    )
