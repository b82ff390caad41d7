"""No possessive repeat and no atomic group in what is shipped: Python 3.11.2, which is Debian 12's, gets them wrong."""

from __future__ import annotations

import ast
import re
import re._constants as kinds
import re._parser as parser
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
SHIPPED = ("flink_app", "headrace", "api", "worker", "consumer", "beat", "local", "examples")
BROKEN = (kinds.POSSESSIVE_REPEAT, kinds.ATOMIC_GROUP)


def programs() -> list[Path]:
    return [ROOT / "run", *(program for folder in SHIPPED for program in sorted((ROOT / folder).rglob("*.py")))]


def texts(program: str) -> Iterator[tuple[int, str]]:
    """Every text of a program with its line: any of them may be a pattern. What an f-string fills in is `x` here."""
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "x" for part in node.values)
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        elif isinstance(node, ast.Constant) and isinstance(node.value, bytes):
            yield node.lineno, node.value.decode("latin-1")


def has_broken(text: str) -> bool:
    """Whether one of them stands in this text, read as a pattern in either way of writing one."""
    return any(any(part is one for part in parts(parsed(text, flags)) for one in BROKEN) for flags in (0, re.VERBOSE))


def parsed(text: str, flags: int) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):
            return parser.parse(text, flags)
    except re.error:
        return None


def parts(tree: Any) -> Iterator[Any]:
    if isinstance(tree, parser.SubPattern | list | tuple):
        for branch in tree:
            yield from parts(branch)
    else:
        yield tree


def test_what_is_shipped_has_no_possessive_repeat_and_no_atomic_group() -> None:
    found = {
        f"{program.relative_to(ROOT)}:{line}: {text[:100]!r}"
        for program in programs()
        for line, text in texts(program.read_text())
        if has_broken(text)
    }
    assert not found


@pytest.mark.parametrize(
    "program",
    [
        "re.compile(r'a*+')",
        "re.compile(br'(?:a|b)++')",
        "A = '[ab]?+'",
        "re.compile('a{2,3}' '+')",
        "re.search('(?=x|(?>a))', b)",
        "re.compile('''x | (y (?!z))*+ # why''', re.VERBOSE)",
        "re.compile(f'^(?:{A}|{B})*+$')",
    ],
)
def test_one_is_found_however_it_is_written(program: str) -> None:
    assert any(has_broken(text) for _, text in texts(program))
