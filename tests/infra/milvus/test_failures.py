"""What Milvus would refuse each time is the input's fault; every other failure of the server is waited for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import grpc
import numpy as np
import pytest
from pymilvus.exceptions import DataNotMatchException, ErrorCode, MilvusException, ParamError

from agents.delivery.outcome import NOTHING, Outcome
from infra.milvus.connection import MilvusConnection
from infra.milvus.stores import MilvusChunks
from schemas.envelope import Received
from schemas.errors import ConfigurationError, EverlearnError, Unavailable
from schemas.event import Event
from schemas.retrieval import Chunk
from tests.agents.delivery.rig import Rig, feedback
from tests.fixtures.disk import SmallDisk
from tests.fixtures.milvus import PrivateMilvus

DIMENSION = 4
VECTOR = np.array([[1, 0, 0, 0]], dtype=np.float32)
WORDS = "words that fill a disk " * 100


def chunk(name: str = "c", text: str = "text") -> Chunk:
    return Chunk(chunk_id=name, tenant="default", document_id="d", version="v", ordinal=0, text=text)


@pytest.fixture
def chunks(milvus_uri: str, unique_index: str) -> Iterator[MilvusChunks]:
    store = MilvusChunks(milvus_uri, None, unique_index, DIMENSION)
    yield store
    store.drop()
    store.close()


class _Refusal(grpc.RpcError):
    """A failed call, as gRPC raises it."""

    def __init__(self, status: grpc.StatusCode) -> None:
        super().__init__(status.value[1])
        self._status = status

    def code(self) -> grpc.StatusCode:
        return self._status


INPUT = [
    MilvusException(1100, "the length (70000) of 0th VarChar text exceeds max length (65535): invalid parameter"),
    MilvusException(1102, "parameter too large"),
    MilvusException(6, "VARCHAR field 'text' value length 70000 exceeds max_length=65535", 6),
    MilvusException(65535, "mistake of the caller", is_input_error=True),
    ParamError(message="wrong type of rows"),
    DataNotMatchException(message="Insert missed a field"),
    _Refusal(grpc.StatusCode.INVALID_ARGUMENT),
]
SERVER = [
    MilvusException(1, "[Errno 28] No space left on device", 0),
    MilvusException(2, "service unavailable"),
    MilvusException(3, "memory limit exceeded"),
    MilvusException(5, "service internal error"),
    MilvusException(6, "cross cluster routing", 1),
    MilvusException(ErrorCode.RATE_LIMIT, "rate limited"),
    MilvusException(ErrorCode.FORCE_DENY, "disk quota exhausted"),
    MilvusException(100, "collection not found"),
    MilvusException(101, "collection not loaded"),
    MilvusException(700, "index not found"),
    MilvusException(1001, "io failed"),
    MilvusException(2000, "segcore error"),
    MilvusException(65535, "a code that nobody knows"),
    MilvusException(1, "later", retriable=True),
    *(
        _Refusal(status)
        for status in grpc.StatusCode
        if status.name not in ("OK", "INVALID_ARGUMENT", "UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED")
    ),
]
SETTINGS = [_Refusal(grpc.StatusCode.UNAUTHENTICATED), _Refusal(grpc.StatusCode.PERMISSION_DENIED)]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        *((error, EverlearnError) for error in INPUT),
        *((error, Unavailable) for error in SERVER),
        *((error, ConfigurationError) for error in SETTINGS),
    ],
    ids=str,
)
def test_each_error_has_its_class(error: Exception, raised: type[EverlearnError]):
    failure, _ = MilvusConnection("http://milvus:1", None, lambda client: None)._failure(error)
    assert type(failure) is raised
    assert "\n" not in str(failure)


@pytest.mark.parametrize("wrong", [chunk(text="x" * 70_000), chunk("x" * 100)])
def test_a_text_longer_than_its_field_is_refused_each_time_and_the_next_chunk_is_taken(
    chunks: MilvusChunks, wrong: Chunk
):
    for _ in range(2):
        with pytest.raises(EverlearnError, match=r"refused: .*length") as caught:
            chunks.upsert([wrong], VECTOR)
        assert not isinstance(caught.value, Unavailable)
    chunks.upsert([chunk()], VECTOR)
    assert chunks.count() == 1


def test_a_vector_that_is_no_number_is_as_unlike_as_can_be(chunks: MilvusChunks):
    vectors = np.array([[1, 0, 0, 0], [np.nan, 0, 0, 0]], dtype=np.float32)
    chunks.upsert([chunk("a"), chunk("b")], vectors)
    found = chunks.search(VECTOR, tenant="default", k=2)[0]
    assert [(hit.chunk.chunk_id, hit.score) for hit in found] == [("a", 1.0), ("b", -1.0)]


async def test_a_full_disk_at_milvus_dead_letters_nothing_and_work_goes_on_when_there_is_room(small_disk: SmallDisk):
    server, rig, waits = PrivateMilvus(small_disk.folder), Rig(), []
    server.start()
    store = MilvusChunks(server.uri, None, "full", DIMENSION)
    store.upsert([chunk("first")], VECTOR)

    async def index(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        for received in batch:
            store.upsert(
                [chunk(f"{received.event.key}-{n}", f"{n} {WORDS}") for n in range(100)], VECTOR.repeat(100, 0)
            )
        return [NOTHING for _ in batch]

    async def sleep(seconds: float) -> None:
        waits.append(delivery.waiting)
        if len(waits) == 12:
            small_disk.make_room()
        await rig.clock.sleep(seconds)

    delivery = rig.delivery(index, sleep=sleep)
    small_disk.fill()
    await delivery.deliver([feedback(n) for n in range(4)])
    assert len(waits) == 12
    assert all("takes no writes: the disk of" in str(reason) for reason in waits), waits[0]
    assert rig.dead_letters() == []
    assert delivery.waiting is None
    assert store.count() == 401
    store.close()
    server.stop()
