"""What people read stays readable, whatever others wrote into it."""

from __future__ import annotations

from agents.cli.output import columns, counted, facts, one_line, printable


def test_columns_are_as_wide_as_their_widest_cell():
    assert columns(("id", "n"), [("long-name", 1), ("b", None)]) == "ID         N\nlong-name  1\nb          –"


def test_control_characters_never_reach_the_terminal():
    assert printable("a\x1b[31mb\nc\td\x07") == "a\ufffd[31mb\nc\td\ufffd"


def test_control_characters_in_names_and_cells_do_not_either():
    assert facts({"a\x1b[2J": "b\x1b[2J"}) == "a\ufffd[2J  b\ufffd[2J"
    assert columns(("id",), [("b\x1b[2J",)]) == "ID\nb\ufffd[2J"


def test_a_long_text_becomes_its_beginning_on_one_line():
    assert one_line("one\n two   three", 9) == "one two…"
    assert one_line("short") == "short"


def test_facts_leave_out_what_is_unknown_and_indent_further_lines():
    assert facts({"id": "a1", "none": None, "text": "x\ny"}) == "id    a1\ntext  x\n      y"


def test_numbers_are_counted_in_words():
    assert (counted(1, "line"), counted(2000, "line")) == ("1 line", "2,000 lines")
