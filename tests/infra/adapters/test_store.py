"""What every adapter store does, and that an id from a message cannot lead out of the folder."""

import pytest

from infra.adapters.store import FolderAdapters
from infra.memory.adapters import MemoryAdapters
from schemas.errors import AdapterMissing


@pytest.fixture(params=["memory", "folder"])
def adapters(request, tmp_path):
    (tmp_path / "adapters" / "a7").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    if request.param == "memory":
        return MemoryAdapters({"a7": tmp_path / "adapters" / "a7"})
    return FolderAdapters(tmp_path / "adapters")


def test_an_adapter_is_found_by_its_id(adapters):
    assert adapters.path("a7").name == "a7"


def test_an_adapter_that_is_not_there_is_named(adapters):
    with pytest.raises(AdapterMissing, match=r"b8 is not .*: train it again, or roll back"):
        adapters.path("b8")


@pytest.mark.parametrize(
    "adapter_id", ["../secret", "a7/../../secret", "..", ".", "", "/etc", "a\0b", "a7\n", "x" * 300]
)
def test_an_id_cannot_lead_out_of_the_folder(adapters, adapter_id):
    with pytest.raises(AdapterMissing):
        adapters.path(adapter_id)
