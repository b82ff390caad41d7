"""What is printed: tables that fit, text that is readable, and nothing that moves a terminal."""

from __future__ import annotations

import json
import os
import re
import sys
from datetime import timedelta
from typing import Any

import httpx
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from headrace.cli import output
from headrace.cli.output import Format
from tests.unit.cli.conftest import NOON

RAW = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
HOSTILE = "\x1b[2J\x1b]0;owned\x07 \x9b31m \u202eback\r\n中文 🙂"
AT = (NOON - timedelta(days=2, hours=3, minutes=5)).isoformat()
JOB: dict[str, Any] = {
    "job_id": "orders",
    "status": "FAILED",
    "run": 2,
    "parallelism": 4,
    "observation": "FRESH",
    "observed_at": AT,
    "created_at": AT,
    "flink_job_id": "f" * 32,
    "savepoint_path": "s3://bucket/" + "path/" * 30,
    "reason": f"the program ended: {HOSTILE} " + "word " * 60,
    "next_step": "",
    "error": None,
    "desired": "RUNNING",
    "namespace": "default",
    "deployment_name": "orders",
    "template_id": None,
    "logs": "kubectl logs",
}
OPERATION = {"id": "op-1", "sequence": 1, "kind": "SUBMIT", "state": "FAILED", "step": "", "accepted_at": AT}
CHANGE = {"at": AT, "run": 2, "from": "STARTING", "to": "FAILED", "gap": False, "reason": HOSTILE}


def api(request: httpx.Request) -> httpx.Response:
    page = request.url.path.removeprefix("/api/v1/flink/")
    pages: dict[str, Any] = {
        "jobs": {"jobs": [JOB, {**JOB, "job_id": "payments", "status": "RUNNING"}], "next_cursor": None},
        "jobs/orders": JOB,
        "jobs/orders/operations": {"operations": [OPERATION, {**OPERATION, "id": "op-2", "ended_at": AT}]},
        "jobs/orders/transitions": {"transitions": [CHANGE]},
        "jobs/orders/events": {
            "events": [{"at": AT, "type": "Warning", "reason": "x", "message": HOSTILE}],
            "note": "",
        },
        "jobs/orders/exceptions": {
            "exceptions": [{"at": AT, "exception_name": HOSTILE, "stacktrace": f"boom {HOSTILE}\n\tat x"}],
            "kept": "",
            "note": HOSTILE,
        },
        "templates": {"templates": [{"template_id": "t", "version": 1, "type": "SQL"}], "next_cursor": None},
        "templates/t": {"template_id": "t", "env": {"X": HOSTILE}, "sql": "SELECT 1;\n-- 中文\nSELECT 2;\n"},
    }
    return httpx.Response(200, json=pages[page]) if page in pages else httpx.Response(404, json={"detail": HOSTILE})


class Terminal:
    """A stdout that says that it is a terminal of so many columns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
        monkeypatch.setattr(type(sys.stdout), "isatty", lambda _: True, raising=False)
        monkeypatch.setattr("shutil.get_terminal_size", lambda *_: os.terminal_size((columns, 24)))


COMMANDS = [
    ("list",),
    ("get", "orders"),
    ("describe", "orders"),
    ("history", "orders"),
    ("top",),
    ("operations", "orders"),
    ("events", "orders"),
    ("exceptions", "orders"),
    ("templates", "list"),
    ("templates", "get", "t"),
    ("get", "none"),
]
FORMS = [(), *(("-o", form.value) for form in Format)]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "".join(form) or "default")
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("is_terminal", [True, False])
def test_no_output_has_a_raw_control_character_and_no_text_is_escaped(
    run: Any, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], form: tuple[str, ...], is_terminal: bool
) -> None:
    if is_terminal:
        Terminal(monkeypatch, 80)
        words = (*words, "--once") if words == ("top",) else words
    code, out, err = run(api, *words, *form)
    nameless = words[0] in ("events", "exceptions", "history") and form == ("-o", "name")
    has_none = nameless or (words[0] in ("describe", "top") and form)
    assert code == (2 if has_none else 4 if words == ("get", "none") else 0)
    shown = re.sub(r"\x1b\[(0|31|32|38;5;208)m", "", out) if is_terminal else out
    assert not RAW.search(shown + err), shown
    assert "\\u4e2d" not in (out + err).lower()
    assert len(err.splitlines()) <= 1


@pytest.mark.parametrize("columns", [20, 40, 80, 120, 200])
@pytest.mark.parametrize("words", [*COMMANDS[:4], ("top", "--once"), *COMMANDS[5:7]])
def test_a_table_fits_its_terminal(
    run: Any, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], columns: int
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    Terminal(monkeypatch, columns)
    _, out, _ = run(api, *words)
    table = out.partition("history:\n")[2] if words[0] == "describe" else out
    assert all(output.width(line) <= columns for line in table.splitlines()), table
    if words == ("list",):
        assert "…" in out
        assert len(out.splitlines()) == 3


@pytest.mark.usefixtures("at_noon")
def test_ids_and_states_are_whole_in_eighty_columns_and_what_is_long_is_cut(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    Terminal(monkeypatch, 80)
    _, out, _ = run(api, "list")
    heading, first, second = out.splitlines()
    assert heading.split() == ["JOB", "ID", "STATUS", "RUN", "PARALLELISM", "OBSERVATION", "AGE", "REASON"]
    assert first.startswith("orders ")
    assert second.split()[:6] == ["payments", "RUNNING", "2", "4", "FRESH", "2d3h"]
    assert first.endswith("…")


def test_wide_a_pipe_and_data_have_the_whole(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "word word" in run(api, "list")[1].splitlines()[1][-60:]
    whole = json.loads(run(api, "list", "-o", "json")[1])
    assert whole[0] == JOB
    assert yaml.safe_load(run(api, "get", "orders", "-o", "yaml")[1]) == JOB
    Terminal(monkeypatch, 80)
    wide = run(api, "list", "-o", "wide")[1]
    assert JOB["savepoint_path"] in wide
    assert "…" not in wide


def test_names_are_what_the_next_command_takes(run: Any) -> None:
    assert run(api, "list", "-o", "name")[1] == "orders\npayments\n"
    assert run(api, "get", "orders", "-o", "name")[1] == "orders\n"
    assert run(api, "operations", "orders", "-o", "name")[1] == "op-1\nop-2\n"
    assert run(api, "templates", "list", "-o", "name")[1] == "t\n"
    nothing = {"jobs": [], "next_cursor": None}
    assert run(lambda _: httpx.Response(200, json=nothing), "list", "-o", "name") == (0, "", "")


@pytest.mark.usefixtures("at_noon")
def test_people_read_ages_and_programs_read_times(run: Any) -> None:
    for words in (
        ("list",),
        ("operations", "orders"),
        ("history", "orders"),
        ("events", "orders"),
        ("exceptions", "orders"),
    ):
        out = run(api, *words)[1]
        assert "2d3h" in out, out
        assert AT not in out
        assert AT in run(api, *words, "-o", "json")[1]
        assert AT in run(api, *words, "-o", "yaml")[1]
    described = run(api, "describe", "orders")[1]
    assert re.search(r"observed at: +2d3h ago \(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\)\n", described)
    assert AT not in described


def test_yaml_shows_a_programs_text_as_it_is(run: Any) -> None:
    out = run(api, "templates", "get", "t")[1]
    assert "sql: |\n  SELECT 1;\n  -- 中文\n  SELECT 2;\n" in out


def test_colours_are_of_terminals_and_only_where_wanted(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in run(api, "list")[1]
    Terminal(monkeypatch, 200)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[32mRUNNING\x1b[0m" in run(api, "list")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in run(api, "list")[1]
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in run(api, "list")[1]


def test_a_log_on_a_terminal_keeps_its_colours_and_nothing_else(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "\x1b[31mred\x1b[0m \x1b]0;owned\x07\ttab \x1b[2J\x9b5n done\r\n"

    def answers(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=line, headers={"Headrace-Pod": "p"})

    assert run(answers, "logs", "orders")[1] == line
    Terminal(monkeypatch, 80)
    assert run(answers, "logs", "orders")[1] == ("\x1b[31mred\x1b[0m \\x1b]0;owned\\x07\ttab \\x1b[2J\\x9b5n done\n")


content = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@given(content)
@example("\u202e\x85\u2028\ud83d\t\n")
@example({"a\n": " x\n\ny \n", "b": "\n", "c": "- x: |\n"})
def test_json_and_yaml_are_read_back_as_what_they_were(given_content: Any) -> None:
    as_json, as_yaml = output.as_json(given_content), output.as_yaml(given_content)
    assert json.loads(as_json) == given_content
    assert not RAW.search(as_json + as_yaml)
    if not re.search("[\ud800-\udfff]", json.dumps(given_content, ensure_ascii=False)):  # YAML has no half characters
        assert yaml.safe_load(as_yaml) == given_content


@given(st.lists(st.integers(0, 200), min_size=1, max_size=9), st.integers(1, 300))
@example([6, 100, 5], 40)
def test_widths_are_narrowed_only_as_far_as_needed(widths: list[int], room: int) -> None:
    found = output.fitted(widths, room)
    assert all(min(old, output.NARROWEST) <= new <= old for new, old in zip(found, widths, strict=True))
    least = sum(min(width, output.NARROWEST) for width in widths[1:]) + min(widths[0], max(room // 2, 6))
    assert sum(found) == min(sum(widths), max(room, least))


@pytest.mark.usefixtures("at_noon")
def test_the_widest_column_is_cut_and_the_others_are_whole(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert output.fitted([6, 100, 5], 40) == [6, 29, 5]
    monkeypatch.setenv("NO_COLOR", "1")
    Terminal(monkeypatch, 80)
    seen = {"at": AT, "exception_name": "x" * 200, "task_name": "Map (1/1)", "endpoint": "10.0.0.7:1", "stacktrace": ""}
    content = {"exceptions": [seen], "kept": "", "note": ""}
    row = run(lambda _: httpx.Response(200, json=content), "exceptions", "orders")[1].splitlines()[1]
    assert row.split()[0] == "2d3h"
    assert row.endswith("…   Map (1/1)   10.0.0.7:1")


@given(st.text(max_size=30), st.integers(1, 40))
@example("中文中文", 3)
@example("e\u0301e\u0301", 2)
def test_what_is_cut_fits_and_says_so(text: str, most: int) -> None:
    shown = output.cut(text, most)
    assert output.width(shown) <= most
    assert shown == text or shown.endswith("…")
