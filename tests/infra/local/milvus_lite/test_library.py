"""The private names of milvus-lite that our server uses: these tests fail first when an upgrade changes them."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import pytest
from milvus_lite.db import MilvusLite
from milvus_lite.engine.collection import Collection
from milvus_lite.schema.types import CollectionSchema, DataType, FieldSchema

import infra.local.milvus_lite as package
from infra.local.milvus_lite.library import PRIVATE_NAMES, REPLACED_GLOBALS

CHECKED_VERSION = "3.2.2"
SIGNATURES = {
    "Collection._refresh_segment_cache": ["self"],
    "Collection._apply": ["self", "op"],
    "Collection._get_raw": ["self", "pk"],
    "Collection._num_entities": ["self", "partition_names"],
    "Collection._build_or_load_segment_index": ["self", "seg", "spec"],
    "Collection._compile_filter": ["self", "expr_str", "timezone"],
    "MemTable._build_data_table": ["self", "rows"],
}
SCHEMA = CollectionSchema(
    fields=[
        FieldSchema(name="id", dtype=DataType.VARCHAR, is_primary=True, max_length=64),
        FieldSchema(name="vector", dtype=DataType.FLOAT_VECTOR, dim=2),
    ]
)
FILES = sorted(Path(package.__path__[0]).glob("*.py"))


@pytest.fixture
def objects(tmp_path: Path) -> Iterator[dict[str, object]]:
    """An object of each class that has private names which we use."""
    with closing(Collection("test", str(tmp_path), SCHEMA)) as collection:
        yield {
            "Collection": collection,
            "DeltaIndex": collection._delta_index,
            "MemTable": collection._memtable,
        }


@pytest.mark.parametrize("name", PRIVATE_NAMES)
def test_the_library_has_the_private_name(name: str, objects: dict[str, object]):
    owner, attribute = name.split(".")
    assert type(objects[owner]).__name__ == owner
    assert hasattr(objects[owner], attribute)


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_private_method_that_is_replaced_has_the_same_parameters(name: str, objects: dict[str, object]):
    owner, attribute = name.split(".")
    method = getattr(type(objects[owner]), attribute)
    assert list(inspect.signature(method).parameters) == SIGNATURES[name]


@pytest.mark.parametrize("name", REPLACED_GLOBALS)
def test_the_library_has_the_global_that_is_replaced(name: str):
    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(module), attribute)


def test_the_list_of_private_names_is_complete():
    listed = {name.rpartition(".")[2] for name in PRIVATE_NAMES}
    library = next(file for file in FILES if file.name == "library.py")
    assert _private_names(library) == listed | {"_compiling"}, "list it in PRIVATE_NAMES with the reason"


@pytest.mark.parametrize("file", [file for file in FILES if file.name != "library.py"], ids=lambda file: file.name)
def test_no_other_file_uses_a_private_name_of_a_library(file: Path):
    listed = {name.rpartition(".")[2] for name in PRIVATE_NAMES}
    assert _private_names(file) & listed == set()
    assert _private_names_of_others(file) == set()


def test_the_version_is_the_one_that_was_checked():
    assert version("milvus-lite") == CHECKED_VERSION, "run the tests of this folder, then change the version here"


def test_the_database_opens_collections_of_the_class_that_is_put_in_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Ours(LookupError):
        def __init__(self, *_args: object, **_options: object) -> None:
            raise self

    monkeypatch.setattr("milvus_lite.db.Collection", Ours)
    with closing(MilvusLite(str(tmp_path))) as database, pytest.raises(Ours):
        database.create_collection("test", SCHEMA)


def _private_names(file: Path) -> set[str]:
    """The attributes and functions of a file that begin with one underscore."""
    names = {
        node.attr if isinstance(node, ast.Attribute) else node.name
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute | ast.FunctionDef)
    }
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def _private_names_of_others(file: Path) -> set[str]:
    """The attributes with one underscore that a file reads of other objects than ``self``."""
    return {
        node.attr
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and not (isinstance(node.value, ast.Name) and node.value.id == "self")
    }
