"""The private names of Faust and aiokafka that ``agents.delivery`` uses still exist, with the same meaning."""

from __future__ import annotations

import inspect

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.group_coordinator import GroupCoordinator
from faust.transport.consumer import Consumer, ConsumerThread, ThreadDelegateConsumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP

from agents.delivery.faust_consumer import _NoReadOffsets


def test_faust_still_has_the_offset_attributes_that_we_replace() -> None:
    source = inspect.getsource(Consumer.__init__)
    assert "self._read_offset = defaultdict(lambda: None)" in source
    assert "self._committed_offset = defaultdict(lambda: None)" in source


def test_fausts_consumer_runs_in_a_thread_that_accepts_calls() -> None:
    assert "_thread" in inspect.getsource(ThreadDelegateConsumer)
    assert issubclass(AIOKafkaConsumerThread, ConsumerThread)
    assert callable(AIOKafkaConsumerThread._ensure_consumer)
    assert callable(AIOKafkaConsumerThread.call_thread)
    assert "self.thread_loop" in inspect.getsource(AIOKafkaConsumerThread)


def test_aiokafka_keeps_the_error_of_a_group_until_it_is_checked() -> None:
    source = inspect.getsource(GroupCoordinator)
    assert "self._coordination_task" in source
    assert "self._pending_exception" in source
    assert callable(GroupCoordinator.check_errors)
    assert "_coordinator" in inspect.getsource(AIOKafkaConsumer)


def test_offsets_that_faust_notes_as_read_are_not_kept() -> None:
    offsets = _NoReadOffsets()
    offsets[TP("t", 0)] = 5
    offsets.update({TP("t", 1): 7})
    assert offsets[TP("t", 0)] is None
    assert dict(offsets) == {}
