"""Log calls on failure paths cannot fail themselves: structlog's own argument is named ``event``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
METHODS = {"debug", "info", "warning", "error", "exception", "critical", "bind", "log", "_log"}


def log_calls() -> Iterator[tuple[str, ast.Call]]:
    for folder in ("agents", "infra", "schemas", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def test_no_log_call_names_a_field_like_structlogs_own_argument():
    calls = list(log_calls())
    assert len(calls) > 30
    assert [place for place, call in calls if any(keyword.arg == "event" for keyword in call.keywords)] == []


def test_every_log_call_says_what_happened_in_a_text_of_its_own():
    vague = [
        place
        for place, call in log_calls()
        if isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "log"
        and not (call.args and isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str))
    ]
    assert vague == []
