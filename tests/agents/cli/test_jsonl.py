"""What a file of JSON lines may hold, and what is said of every line that cannot be used."""

from __future__ import annotations

import pytest

from agents.cli.jsonl import Faulty, Item, Refusal, parse, read_object, refuse_unknown


def all_of(text: bytes):
    return list(parse(text.splitlines(keepends=True), "in.jsonl", lambda fields: fields))


def test_a_wrong_line_is_named_and_the_others_are_kept():
    found = all_of(b'{"a": 1}\n{"a": \n{"a": 3}\n')
    assert found[0] == Item("in.jsonl:1", {"a": 1})
    assert found[2] == Item("in.jsonl:3", {"a": 3})
    assert str(found[1]).startswith("in.jsonl:2: is not JSON: ")


def test_lines_of_white_space_are_passed_over_and_still_counted():
    assert all_of(b'\n  \n{"a": 1}') == [Item("in.jsonl:3", {"a": 1})]


def test_a_byte_order_mark_is_no_part_of_the_first_line():
    assert all_of(b'\xef\xbb\xbf{"a": 1}\r\n') == [Item("in.jsonl:1", {"a": 1})]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": "\xff"}', "byte 8 of the line is not UTF-8"),
        (b"[1, 2]", "is a list, not an object"),
        (b'"text"', "is a text, not an object"),
        (b"null", "is null, not an object"),
        (b"12", "is a number, not an object"),
        (b'{"a": NaN}', "holds NaN"),
        (b'{"a": -Infinity}', "holds -Infinity"),
        (b'{"a": 1e999}', "too large for a number"),
        (b'{"a": 1, "a": 2}', "names 'a' twice"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": 1\n', "is not JSON: Expecting ',' delimiter at column 8"),
        (b'{"a": 1} {"b": 2}', "is not JSON: Extra data at column 10"),
    ],
)
def test_each_kind_of_wrong_line_has_a_reason_of_its_own(line: bytes, reason: str):
    with pytest.raises(Faulty, match=reason.replace("(", r"\(")):
        read_object(line)


def test_unknown_fields_are_named_beside_the_known_ones():
    with pytest.raises(Faulty, match="unknown fields 'txet', 'titel'; it takes id, text"):
        refuse_unknown({"id": "1", "txet": "", "titel": ""}, ("id", "text"))


def test_a_refusal_reads_as_file_line_reason():
    assert str(Refusal("in.jsonl:7", "is empty")) == "in.jsonl:7: is empty"
