"""`--set`, `--env`, `--param`: taken as meant, or refused in one line that names no value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.cli import assignments
from headrace.errors import InvalidRequest


def config(*given_: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for text in given_:
        assignments.set_in(made, text)
    return made


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("parallelism=2", {"parallelism": 2}),
        ("resources.task_manager.slots=2", {"resources": {"task_manager": {"slots": 2}}}),
        ("pod.node_selector.kubernetes.io/arch=amd64", {"pod": {"node_selector": {"kubernetes.io/arch": "amd64"}}}),
        ('pod.node_selector."kubernetes.io/arch"=amd64', {"pod": {"node_selector": {"kubernetes.io/arch": "amd64"}}}),
        ("pod.node_selector.'kubernetes.io/arch'=amd64", {"pod": {"node_selector": {"kubernetes.io/arch": "amd64"}}}),
        (r"pod.node_selector.kubernetes\.io/arch=amd64", {"pod": {"node_selector": {"kubernetes.io/arch": "amd64"}}}),
        ("pod.node_selector.spot=true", {"pod": {"node_selector": {"spot": "true"}}}),
        ("pod.annotations.example.com/x=1", {"pod": {"annotations": {"example.com/x": "1"}}}),
        ("labels.example.com/team=a=b", {"labels": {"example.com/team": "a=b"}}),
        ('labels."a=b"=c', {"labels": {"a=b": "c"}}),
        ("flink_configuration.state.backend.type=rocksdb", {"flink_configuration": {"state.backend.type": "rocksdb"}}),
        ("env.N=0755", {"env": {"N": "0755"}}),
        ("env.X=", {"env": {"X": ""}}),
        ("env={A: 10:30}", {"env": {"A": "10:30"}}),
        ("args=[a, --b, 1.5, 2024-01-01, on, 0755]", {"args": ["a", "--b", 1.5, "2024-01-01", "on", "0755"]}),
        ("args=", {"args": None}),
        ('a."b.c".d=x', {"a": {"b.c": {"d": "x"}}}),
        (r"a\=b=c", {"a=b": "c"}),
    ],
)
def test_a_path_is_taken_as_it_was_meant(text: str, made: dict[str, Any]) -> None:
    assert config(text) == made


@pytest.mark.parametrize(
    "text",
    [
        "canary",
        "=canary",
        "a..b=canary",
        ".a=canary",
        "a.=canary",
        '"a=canary',
        '"a"b=canary',
        "a.b=[canary",
        "a=*canary",
    ],
)
def test_what_cannot_be_meant_is_one_line_without_the_value(text: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        config(text)
    assert "canary" not in str(raised.value)
    assert "\n" not in str(raised.value)


names = st.text(min_size=1, max_size=12)


@given(st.lists(names, min_size=1, max_size=4))
def test_any_name_can_be_quoted(path: list[str]) -> None:
    quoted = ".".join('"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' for name in path)
    at = config(f"x.{quoted}=1")["x"]
    for name in path[:-1]:
        at = at[name]
    assert at == {path[-1]: 1}


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("7", "INTEGER", 7),
        ("-7", "INTEGER", -7),
        ("7_000", "INTEGER", "7_000"),
        (" 7", "INTEGER", 7),
        ("٣", "INTEGER", "٣"),
        ("0755", "INTEGER", "0755"),
        ("true", "INTEGER", "true"),
        ("7.0", "INTEGER", "7.0"),
        ("7.5", "NUMBER", 7.5),
        ("7", "NUMBER", 7),
        ("nan", "NUMBER", "nan"),
        (".inf", "NUMBER", ".inf"),
        ("1e400", "NUMBER", "1e400"),
        ("9" * 400, "INTEGER", "9" * 400),
        ("[1]", "NUMBER", "[1]"),
        ("True", "BOOLEAN", True),
        ("yes", "BOOLEAN", "yes"),
        ("7", "STRING", "7"),
    ],
)
def test_a_parameter_is_of_its_declared_type_or_the_text_that_it_was(text: str, kind: str, value: Any) -> None:
    found = assignments.typed(text, kind)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--env", "canary"), "--env: must be KEY=VALUE"),
        (("--env", "=canary"), "--env: must be KEY=VALUE"),
        (("--env", "A=1", "--env", "A=canary"), "--env: A is given twice"),
        (("--set", "args=[a]", "--arg", "canary"), "args: is set by --set and by --arg"),
        (("--set", "parallelism=1", "--parallelism", "2"), "parallelism: is set by --set and by --parallelism"),
        (("--set", "env=1", "--env", "X=canary"), "env: was set to a value of its own"),
        (("--set", "resources=1", "--set", "resources.task_manager.slots=2"), "resources: was set to a value"),
        (("--template", "t"), "give either a program"),
    ],
)
def test_two_words_about_one_thing_are_refused(run: Any, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    script = tmp_path / "job.py"
    script.write_text("print(1)\n")
    code, out, err = run(lambda _: httpx.Response(500, json={}), "submit", str(script), *words)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert said in err
    assert "canary" not in err


@pytest.mark.parametrize("words", [("--file", "x.py"), ("--main", "x.py")])
def test_what_would_be_sent_beside_a_program_is_not_dropped_beside_a_template(run: Any, words: tuple[str, ...]) -> None:
    code, _, err = run(lambda _: httpx.Response(500, json={}), "submit", "--template", "t", *words)
    assert code == 2
    assert f"{words[0]}: goes with a program" in err


@pytest.mark.parametrize("command", ["submit", "render"])
def test_submit_and_render_take_the_same_program(run: Any, tmp_path: Path, command: str) -> None:
    sent: list[dict[str, Any]] = []

    def answers(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        operation = {"id": "o", "state": "ACCEPTED", "kind": "SUBMIT"}
        return httpx.Response(202, json={"job_id": "a", "status": "REQUESTED", "operation": operation})

    script = tmp_path / "job.py"
    script.write_bytes("# 中\r\nprint(1)\r\n".encode())
    given_ = ("--name", "a", "--env", "A.B=1", "--arg", "--x", "--parallelism", "3", "--set", "labels.a/b=c")
    assert run(answers, command, str(script), *given_)[0] == 0
    job = sent[0]["job_config"]
    assert job["script"]["content"] == "# 中\r\nprint(1)\r\n", "as it is on the disk"
    del job["script"]
    assert job == {"env": {"A.B": "1"}, "args": ["--x"], "parallelism": 3, "labels": {"a/b": "c"}}
    assert sent[0]["job_id"] == "a"
