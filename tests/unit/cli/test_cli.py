"""The CLI against a scripted HTTP API: what it sends, prints, and exits with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from headrace.cli import connection, main

Answers = Callable[[httpx.Request], httpx.Response]
OPERATION = {"id": "o1", "kind": "SUBMIT", "state": "ACCEPTED", "reason": "", "savepoint_path": None}


def problem(status: int, detail: str, **more: Any) -> httpx.Response:
    return httpx.Response(status, json={"status": status, "detail": detail, **more})


def test_a_script_is_sent_with_its_hash(run: Any, tmp_path: Path) -> None:
    sent: list[dict[str, Any]] = []

    def answers(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        return httpx.Response(202, json={"job_id": "a", "status": "REQUESTED", "operation": OPERATION})

    script = tmp_path / "job.py"
    script.write_text("print(1)\n")
    code, out, _ = run(answers, "submit", str(script), "--name", "a", "--set", "flink_configuration.a.b=c")
    assert code == 0
    assert "o1" in out
    assert sent[0]["job_id"] == "a"
    assert sent[0]["job_config"]["script"]["content"] == "print(1)\n"
    assert len(sent[0]["job_config"]["script"]["sha256"]) == 64
    assert sent[0]["job_config"]["flink_configuration"] == {"a.b": "c"}


def test_a_retry_carries_the_same_key(run: Any) -> None:
    keys: list[str] = []

    def answers(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["idempotency-key"])
        if len(keys) < 3:
            return problem(503, "MongoDB does not answer")
        return httpx.Response(202, json={"job_id": "a", "status": "RUNNING", "operation": OPERATION})

    assert run(answers, "scale", "a", "--parallelism", "2")[0] == 0
    assert len(keys) == 3
    assert len(set(keys)) == 1


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, main.USAGE), (404, main.NOT_FOUND), (409, main.CONFLICT), (401, main.FAILURE), (503, main.FAILURE)],
)
def test_an_error_is_one_line_and_an_exit_code(run: Any, status: int, code: int) -> None:
    ended, out, err = run(lambda _: problem(status, "because of this"), "stop", "a")
    assert ended == code
    assert out == ""
    assert "because of this" in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (("describe", "orders?x=1"), b"/api/v1/flink/jobs/orders%3Fx%3D1"),
        (("logs", "orders#1"), b"/api/v1/flink/jobs/orders%231/logs"),
        (("stop", "a b"), b"/api/v1/flink/jobs/a%20b/stop"),
        (("describe", "\udcff"), b"/api/v1/flink/jobs/%FF"),
        (("describe", "orders/operations"), None),
        (("describe", ".."), None),
        (("describe", ""), None),
    ],
)
def test_an_id_is_one_part_of_a_path_whatever_it_holds(run: Any, words: tuple[str, ...], path: bytes | None) -> None:
    asked: list[bytes] = []

    def answers(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.raw_path.partition(b"?")[0])
        return problem(404, "there is none of this name")

    code, out, err = run(answers, *words)
    assert (code, out, len(err.strip().splitlines())) == (main.NOT_FOUND, "", 1)
    assert asked == ([] if path is None else [path])


def test_a_server_that_is_down_is_named_with_what_to_do(run: Any) -> None:
    def answers(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    code, _, err = run(answers, "list")
    assert code == main.FAILURE
    assert "http://api.test" in err
    assert "./run up" in err


def test_an_empty_list_is_friendly_and_off_stdout(run: Any) -> None:
    def answers(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"jobs": [], "next_cursor": None})

    code, out, err = run(answers, "list")
    assert (code, out) == (0, "")
    assert "no jobs yet" in err
    assert json.loads(run(answers, "list", "-o", "json")[1]) == []


def test_a_job_that_failed_while_waited_for_is_exit_code_three(run: Any) -> None:
    code, _, err = run(lambda _: httpx.Response(200, json={"status": "FAILED", "reason": "no such file"}), "wait", "a")
    assert code == main.JOB_FAILED
    assert "no such file" in err


def test_waiting_has_an_end(run: Any) -> None:
    def answers(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"status": "STARTING", "reason": ""})

    assert run(answers, "wait", "a", "--timeout", "0")[0] == main.TIMED_OUT


def test_a_template_and_its_script_go_together(run: Any, tmp_path: Path) -> None:
    sent: list[dict[str, Any]] = []

    def answers(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        return httpx.Response(201, json={"template_id": "t", "version": 1, "type": "PYTHON_SCRIPT"})

    (tmp_path / "job.py").write_text("print(2)\n")
    (tmp_path / "t.yaml").write_text("template_id: t\nscript: job.py\n")
    assert run(answers, "templates", "apply", "-f", str(tmp_path / "t.yaml"))[0] == 0
    assert sent[0]["script"]["content"] == "print(2)\n"
    code, _, err = run(answers, "templates", "apply", "-f", str(tmp_path / "none.yaml"))
    assert code == main.USAGE
    assert "none.yaml" in err


def test_a_stack_nearby_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADRACE_URL", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".headrace").mkdir()
    (tmp_path / "keys").write_text("secret\n")
    content = {"api_url": "http://127.0.0.1:1", "api_key_file": str(tmp_path / "keys")}
    (tmp_path / ".headrace" / "stack.json").write_text(json.dumps(content))
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    found = connection.find(None, None)
    assert (found.url, found.api_key) == ("http://127.0.0.1:1", "secret")


@pytest.fixture
def sent(run: Any) -> Any:
    """Runs a submit against an API that takes it, and returns what was sent, or the error's words."""

    def submit(*arguments: str) -> Any:
        bodies: list[dict[str, Any]] = []

        def answers(request: httpx.Request) -> httpx.Response:
            if request.method == "GET":
                declared = {"n": {"type": "INTEGER"}, "fast": {"type": "BOOLEAN"}, "s": {"type": "STRING"}}
                return httpx.Response(200, json={"template_id": "t", "parameters": declared})
            bodies.append(json.loads(request.content))
            return httpx.Response(202, json={"job_id": "a", "status": "REQUESTED", "operation": OPERATION})

        code, _, err = run(answers, "submit", *arguments)
        return bodies[0] if code == 0 else err

    return submit


def test_a_folder_is_sent_whole_but_for_what_is_nobodys_source(sent: Any, tmp_path: Path) -> None:
    for name in ("main.py", "shop/prices.py", "requirements.txt", "__pycache__/x.pyc", ".git/config"):
        file = tmp_path / "job" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    config = sent(str(tmp_path / "job"))["job_config"]
    assert config["script"]["name"] == "main.py"
    assert [file["name"] for file in config["files"]] == ["requirements.txt", "shop/prices.py"]
    assert "has no job.py" in sent(str(tmp_path / "job"), "--main", "job.py")


def test_files_go_beside_a_script_and_statements_as_sql(sent: Any, tmp_path: Path) -> None:
    for name in ("job.py", "util.py", "job.sql", "job.jar"):
        (tmp_path / name).write_text(f"-- {name}")
    config = sent(str(tmp_path / "job.py"), "--file", str(tmp_path / "util.py"))["job_config"]
    assert [file["name"] for file in config["files"]] == ["util.py"]
    config = sent(str(tmp_path / "job.sql"), "--jar-file", "https://x/a.jar", "--jar-file", "local:///b.jar")[
        "job_config"
    ]
    assert config == {"type": "SQL", "sql": "-- job.sql", "jar_files": ["https://x/a.jar", "local:///b.jar"]}
    assert "https URL" in sent(str(tmp_path / "job.jar"))
    assert "cannot be read" in sent(str(tmp_path / "none.py"))


def test_a_url_says_its_type(sent: Any) -> None:
    jar = sent("https://x/a.jar", "--main-class", "com.example.A", "--arg", "--rate", "--arg", "5")["job_config"]
    assert jar == {"type": "JAR", "jar": "https://x/a.jar", "main_class": "com.example.A", "args": ["--rate", "5"]}
    assert sent("https://x/a.sql?v=1")["job_config"] == {"type": "SQL", "script": "https://x/a.sql?v=1"}
    assert sent("local:///opt/a.py")["job_config"] == {"script": "local:///opt/a.py"}


def test_parameters_are_sent_in_their_declared_types(sent: Any) -> None:
    given = ("--param", "n=7", "--param", "fast=true", "--param", "s=1=2", "--param", "x=y", "--template-version", "3")
    body = sent("--template", "t", *given)
    assert body["parameters"] == {"n": 7, "fast": True, "s": "1=2", "x": "y"}
    assert body["template_version"] == 3
    assert sent("--template", "t", "--param", "n=seven")["parameters"] == {"n": "seven"}, "refused with the API's words"
    assert "KEY=VALUE" in sent("--template", "t", "--param", "n")


def log(text: str, *, pod: str = "orders-1", has_ended: bool = True) -> httpx.Response:
    headers = {"Headrace-Pod": pod, "Headrace-Ended": "true" if has_ended else "false"}
    return httpx.Response(200, text=text, headers=headers)


def test_a_log_is_printed_as_it_is_and_asked_for_as_told(run: Any) -> None:
    asked: list[dict[str, str]] = []

    def answers(request: httpx.Request) -> httpx.Response:
        asked.append(dict(request.url.params))
        return log("one\n\ttwo \r three\u2028four\nfive")

    code, out, err = run(answers, "logs", "orders", "--since", "5m", "--tail", "7", "-p", "--component", "taskmanager")
    assert (code, err) == (0, "")
    assert out == "one\n\ttwo \r three\u2028four\nfive\n"
    assert asked == [{"since": "5m", "tail": "7", "component": "taskmanager", "previous": "true"}]
    run(answers, "logs", "orders", "--pod", "orders-1", "--container", "fetch")
    assert asked[1] == {"pod": "orders-1", "container": "fetch"}


def test_a_wrong_since_is_a_usage_error_in_the_servers_words(run: Any) -> None:
    errors = [{"field": "since", "detail": "'x' is not allowed: give 90s"}]
    code, out, err = run(lambda _: problem(400, "not valid", errors=errors), "logs", "orders", "--since", "x")
    assert (code, out) == (main.USAGE, "")
    assert "since: 'x' is not allowed" in err


def test_a_log_that_is_gone_is_not_found(run: Any) -> None:
    code, out, err = run(lambda _: problem(404, "the pod is gone since 12:00"), "logs", "orders")
    assert (code, out) == (main.NOT_FOUND, "")
    assert "gone since 12:00" in err


class Broken(httpx.SyncByteStream):
    """Bytes that come, and then a connection that ends."""

    def __init__(self, *pieces: bytes, error: BaseException) -> None:
        self._pieces = pieces
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        raise self._error


def test_a_followed_log_goes_on_where_it_broke_and_repeats_nothing(run: Any) -> None:
    at = "2026-01-01T00:00:0"
    dropped = httpx.RemoteProtocolError("peer closed connection")
    pieces = (f"{at}1.1Z one\n{at}1.1Z two\n".encode(), f"{at}1.1Z three\n".encode())
    given = [
        httpx.Response(200, stream=Broken(*pieces, error=dropped), headers={"Headrace-Pod": "orders-1"}),
        problem(503, "the Kubernetes API does not answer"),
        problem(503, "the Kubernetes API does not answer"),
        problem(503, "the Kubernetes API does not answer"),
        log(f"{at}0.9Z zero\n{at}1.1Z one\n{at}1.1Z two\n{at}1.1Z three\n{at}1.1Z four\n", has_ended=False),
        log(f"{at}1.1Z four\n{at}2.0Z five\n"),
    ]
    asked: list[dict[str, str]] = []

    def answers(request: httpx.Request) -> httpx.Response:
        asked.append(dict(request.url.params))
        return given.pop(0)

    code, out, err = run(answers, "logs", "orders", "-f", "--tail", "2", "--since", "5m")
    assert code == 0
    assert out.split() == ["one", "two", "three", "four", "five"]
    assert len(err.strip().splitlines()) == 2
    assert asked[0] == {"tail": "2", "since": "5m", "timestamps": "true", "follow": "true"}
    assert asked[-1]["tail"] == "10000"
    assert "since" not in asked[-1]


def test_following_ends_with_the_pod_and_does_not_show_twice_what_was_kept(run: Any) -> None:
    given = [log("2026-01-01T00:00:00.1Z one\n", has_ended=False), log("# the pod is gone\none\n", pod="")]
    code, out, _ = run(lambda _: given.pop(0), "logs", "orders", "-f")
    assert (code, out) == (0, "one\n")
    given = [log("2026-01-01T00:00:00.1Z one\n", has_ended=False), problem(404, "gone")]
    assert run(lambda _: given.pop(0), "logs", "orders", "-f")[:2] == (0, "one\n")
    assert run(lambda _: log("# the pod is gone\nkept\n", pod=""), "logs", "orders", "-f")[1].endswith("kept\n")
    assert run(lambda _: problem(404, "gone"), "logs", "orders", "-f")[0] == main.NOT_FOUND


def test_ctrl_c_ends_following_quietly(run: Any) -> None:
    stream = Broken(b"2026-01-01T00:00:00.1Z one\n", error=KeyboardInterrupt())
    code, out, err = run(lambda _: httpx.Response(200, stream=stream), "logs", "orders", "-f")
    assert (code, out, err) == (main.INTERRUPTED, "one\n", "")


def test_events_are_a_table_or_data_and_a_note_is_no_data(run: Any) -> None:
    event = {"at": "2026", "type": "Warning", "reason": "BackOff", "object": "Pod/x", "count": 3, "message": "[fetch]"}
    content = {"events": [event], "note": ""}
    code, out, err = run(lambda _: httpx.Response(200, json=content), "events", "orders")
    assert (code, err) == (0, "")
    assert "BackOff" in out
    assert "[fetch]" in out
    assert json.loads(run(lambda _: httpx.Response(200, json=content), "events", "orders", "-o", "json")[1]) == content
    empty = {"events": [], "note": "no events of the last hour"}
    assert run(lambda _: httpx.Response(200, json=empty), "events", "orders") == (0, "", f"{empty['note']}\n")


def test_exceptions_come_with_their_stack_traces_or_what_was_kept(run: Any) -> None:
    seen = {"at": "2026", "exception_name": "java.lang.Exception", "task_name": "Map", "stacktrace": "boom\n\tat x"}
    content = {"exceptions": [seen], "kept": "", "note": ""}
    _, out, _ = run(lambda _: httpx.Response(200, json=content), "exceptions", "orders")
    assert "java.lang.Exception" in out
    assert "boom\n\tat x\n" in out
    gone = {"exceptions": [], "kept": "it was so", "note": "the JobManager does not run"}
    code, out, err = run(lambda _: httpx.Response(200, json=gone), "exceptions", "orders")
    assert (code, out.strip(), err.strip()) == (0, "it was so", "the JobManager does not run")
    assert "kept: it was so" in run(lambda _: httpx.Response(200, json=gone), "exceptions", "orders", "-o", "yaml")[1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[" * 25_000, "levels deep"),
        (b"a: &x 1\nb: *x", "anchors"),
        (b'template_id: x\nscript: "a\\0b"', "cannot be read"),
        (b"template_id: x\nfiles: 5", "must be a list"),
        (b'template_id: x\nfiles: ["no-such-file.py"]', "cannot be read"),
        (b"\xff", "UTF-8"),
        (b"", "must be an object"),
    ],
)
def test_a_template_file_that_cannot_be_used_is_one_line(run: Any, tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "template.yaml"
    file.write_bytes(content)
    code, _, err = run(lambda _: problem(500, "must not be asked"), "templates", "apply", "-f", str(file))
    assert code != 0
    assert words in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["--set", "args=[a"],
        ["--set", "args=*x"],
        ["--set", "resources=1", "--set", "resources.task_manager.slots=2"],
        ["--set", "env=1", "--env", "X=1"],
        ["--set", "nothing"],
    ],
)
def test_a_setting_that_cannot_be_used_is_one_line(run: Any, tmp_path: Path, words: list[str]) -> None:
    script = tmp_path / "job.py"
    script.write_text("print(1)\n")
    code, _, err = run(lambda _: problem(500, "must not be asked"), "submit", str(script), *words)
    assert code != 0
    assert len(err.splitlines()) == 1


def test_values_of_a_template_are_as_they_were_written(run: Any, tmp_path: Path) -> None:
    sent: list[dict[str, Any]] = []

    def answers(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        return httpx.Response(201, json={"template_id": "x", "version": 1, "type": "SQL"})

    file = tmp_path / "template.yaml"
    file.write_text("template_id: x\nenv: {START: 2024-01-01, AT: 10:30, MODE: 0755, ON: on}\n")
    assert run(answers, "templates", "apply", "-f", str(file))[0] == 0
    assert sent[0]["env"] == {"START": "2024-01-01", "AT": "10:30", "MODE": "0755", "ON": "on"}


SAVED = {
    **{"job_id": "orders", "path": "s3://b/savepoint-1", "kind": "savepoint", "run": 2, "format": "CANONICAL"},
    **{"at": "2026-01-01T00:00:00Z", "operation": "o1", "size_bytes": 4711, "expires_at": None},
}


def test_savepoints_of_a_job_and_of_all_are_listed(run: Any) -> None:
    asked: list[str] = []

    def answers(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(200, json={"savepoints": [SAVED], "next_cursor": None})

    assert run(answers, "savepoints", "orders", "-o", "name")[1] == "s3://b/savepoint-1\n"
    code, out, _ = run(answers, "savepoints", "-o", "wide")
    assert code == 0
    assert all(text in out for text in ("orders", "savepoint", "CANONICAL", "4711", "o1", "s3://b/savepoint-1"))
    assert asked == ["/api/v1/flink/jobs/orders/savepoints", "/api/v1/flink/savepoints"]


def test_a_savepoint_is_disposed_of_by_its_path(run: Any) -> None:
    def answers(request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.params["path"]) == ("DELETE", "s3://b/savepoint-1")
        return httpx.Response(202, json={**SAVED, "disposing_since": "2026-01-02T00:00:00Z"})

    code, _, said = run(answers, "dispose", "s3://b/savepoint-1")
    assert (code, said) == (0, "s3://b/savepoint-1 is to go: `headrace savepoints` has it until it is gone\n")


def test_no_savepoint_is_said_off_stdout(run: Any) -> None:
    def answers(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"savepoints": [], "next_cursor": None})

    assert run(answers, "savepoints", "orders")[1:] == ("", "none of job orders is on record\n")


def test_a_savepoint_is_asked_for(run: Any) -> None:
    asked: list[str] = []

    def answers(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(202, json={"job_id": "orders", "status": "RUNNING", "operation": OPERATION})

    assert run(answers, "savepoint", "orders")[0] == 0
    assert asked == ["/api/v1/flink/jobs/orders/savepoint"]
