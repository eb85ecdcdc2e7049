"""A broker that answers a join with an error, as one does while it loads its groups: the member joins all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka.consumer.group_coordinator import CoordinatorGroupRebalance
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError

from infra.kafka import KafkaClientConfig
from tests.flows.test_stream_positions import Reading, publish, topic

__all__ = ["topic"]
pytestmark = pytest.mark.flow


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Exception]]:
    """Joins are answered with these errors, one after the other, before they are answered well."""
    join = CoordinatorGroupRebalance.perform_group_join

    def refuse(*errors: Exception) -> list[Exception]:
        left = list(errors)

        async def answered(self: Any) -> Any:
            if left:
                raise left.pop(0)
            return await join(self)

        monkeypatch.setattr(CoordinatorGroupRebalance, "perform_group_join", answered)
        return left

    return refuse


async def test_a_member_that_is_refused_joins_again(
    kafka_config: KafkaClientConfig, topic: str, tmp_path: Path, refused: Callable[..., list[Exception]]
) -> None:
    await publish(kafka_config, topic, 2)
    left = refused(KafkaError("UnknownError()"), KafkaError("UnknownError()"))
    async with asyncio.timeout(60), Reading(kafka_config, topic, tmp_path) as reading:
        assert left == []
        await reading.until(1)
        assert not reading.stream.ended()
    assert reading.delivered == [0, 1]


async def test_one_that_is_refused_in_the_middle_of_its_life_goes_on_or_ends(
    kafka_config: KafkaClientConfig, topic: str, tmp_path: Path, refused: Callable[..., list[Exception]]
) -> None:
    async with asyncio.timeout(60), Reading(kafka_config, topic, tmp_path) as reading:
        left = refused(KafkaError("UnknownError()"))
        thread = reading.stream._app.consumer._thread
        thread.thread_loop.call_soon_threadsafe(thread._consumer._coordinator.request_rejoin)
        await publish(kafka_config, topic, 2)
        while not (reading.stream.ended() or reading.delivered == [0, 1]):
            await reading.stream.lag()
            await asyncio.sleep(0.5)
    assert left == []


async def test_what_will_not_go_away_ends_the_stream(
    kafka_config: KafkaClientConfig, topic: str, tmp_path: Path, refused: Callable[..., list[Exception]]
) -> None:
    refused(GroupAuthorizationFailedError("everlearn-reader"))
    reading = Reading(kafka_config, topic, tmp_path)
    async with asyncio.timeout(60):
        joining = asyncio.ensure_future(reading.__aenter__())
        try:
            await asyncio.sleep(0)
            with pytest.raises(GroupAuthorizationFailedError):
                await reading.stream.crashed
        finally:
            joining.cancel()
            await reading.__aexit__()
