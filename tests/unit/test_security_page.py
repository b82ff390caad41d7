"""docs/security.md says what the code does: its threat table names tests that there are, and its settings are those of
the installation's policy."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from headrace.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
TABLE = PAGE.partition("| attack | instead | shown by |\n|---|---|---|\n")[2].strip().splitlines()
NAMED = re.compile(r"`([\w/]+\.py)::(test_\w+)`")
HEADING = re.compile(r"\| \*\*[^|*]+\*\* \| \| \|")
ROW = re.compile(rf"\| [^|]+ \| [^|]+ \| {NAMED.pattern}(?:, {NAMED.pattern})* \|")
ROWS = [line for line in TABLE if not HEADING.fullmatch(line)]


def names_in(file: Path) -> set[str]:
    """The tests that stand in a file, without running it."""
    functions = (each for each in ast.walk(ast.parse(file.read_text())) if isinstance(each, ast.FunctionDef))
    return {each.name for each in functions}


@pytest.mark.parametrize("row", ROWS, ids=[row.split("|")[1].strip()[:60] for row in ROWS])
def test_a_row_of_the_threat_table_names_tests_that_there_are(row: str) -> None:
    assert ROW.fullmatch(row), "an attack, what happens instead, and one test at least as `path.py::test_name`"
    for file, name in NAMED.findall(row):
        assert name in names_in(ROOT / "tests" / file), f"{file} has no {name}"


def test_no_test_shows_two_promises() -> None:
    assert len(ROWS) > 50
    named = Counter(NAMED.findall("\n".join(TABLE)))
    assert [each for each, times in named.items() if times > 1] == []
    assert len({row.split("|")[1] for row in ROWS}) == len(ROWS), "an attack stands there once"


def test_every_setting_that_widens_what_a_job_may_is_on_the_page_and_empty_by_default() -> None:
    lists = [name for name in Settings.model_fields if name.startswith("allowed_")] + ["flink_allowed_hosts"]
    keys = [name for name in Settings.model_fields if name.endswith(("_keys_file", "_login_file"))]
    assert len(lists) > 8
    assert len(keys) == 3
    assert [name for name in (*lists, *keys) if f"`HEADRACE_{name.upper()}`" not in PAGE] == []
    assert [name for name in (*lists, *keys) if Settings.model_fields[name].default] == []


def test_every_setting_that_the_page_names_is_one() -> None:
    named = set(re.findall(r"HEADRACE_([A-Z_]+[A-Z])", PAGE))
    assert named - {name.upper() for name in Settings.model_fields} == set()


def test_its_links_lead_somewhere() -> None:
    for file, heading in re.findall(r"\]\(([\w-]+\.md)?(?:#([\w-]+))?\)", PAGE):
        text = (ROOT / "docs" / (file or "security.md")).read_text()
        headings = {
            re.sub(r"[^\w -]", "", each).strip().lower().replace(" ", "-") for each in re.findall("^#+(.*)", text, re.M)
        }
        assert not heading or heading in headings, f"{file}#{heading}"
