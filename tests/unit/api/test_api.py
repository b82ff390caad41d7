"""The HTTP API over in-memory ports."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from api.access import gate
from api.app import create_app
from headrace.cli import fleet, history, timeline
from headrace.domain.pods import MAIN_CONTAINER as MAIN
from headrace.domain.runtime_reports import Process
from headrace.domain.savepoints import Savepoint
from headrace.errors import Unavailable
from headrace.ports import ExceptionSeen
from tests.support.given import pod_labels
from tests.support.world import SCRIPT, World

KEY = {"Authorization": "Bearer k"}


class Api:
    """Requests to the app without a socket."""

    def __init__(self, world: World) -> None:
        self._app = create_app(world.services, gate(world.services, [b"k"]), tenant="default", wait_limit_seconds=1)

    def send(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> httpx.Response:
        async def sent() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
                return await client.request(method, path, json=body, headers=KEY if headers is None else headers)

        return asyncio.run(sent())

    def routes(self) -> list[Any]:
        return list(self._app.routes)

    def posts(self, path: str, content: bytes, **headers: str) -> httpx.Response:
        """A POST of these very bytes."""

        async def sent() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
                return await client.post(path, content=content, headers={**KEY, **headers})

        return asyncio.run(sent())

    def v1(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        return self.send(method, f"/api/v1/flink{path}", body, {**KEY, **headers})


@pytest.fixture
def api(world: World, socket_enabled: None) -> Api:
    """asyncio's own loop needs a socket pair; nothing else here opens one."""
    return Api(world)


TEMPLATE = {"template_id": "counting", "type": "PYTHON_SCRIPT", "script": SCRIPT, "env": {"DB_PASSWORD": "canary"}}


def test_the_documented_submit_works_as_it_stands(api: Api, world: World) -> None:
    assert api.v1("POST", "/templates", TEMPLATE).status_code == 201
    answer = api.v1("POST", "/jobs/submit", {"template_id": "counting", "job_config": {"parallelism": 2}})
    assert answer.status_code == 202
    content = answer.json()
    assert set(content) >= {"job_id", "status", "flink_job_id", "operation"}
    assert answer.headers["location"] == f"/api/v1/flink/operations/{content['operation']['id']}"
    assert api.v1("GET", answer.headers["location"].removeprefix("/api/v1/flink")).status_code == 200
    world.execute(content["job_id"])
    assert world.whole(content["job_id"])["spec"]["job"]["parallelism"] == 2


def test_an_idempotency_key_is_honoured(api: Api) -> None:
    body = {"job_id": "a", "job_config": {"script": SCRIPT}}
    first = api.v1("POST", "/jobs/submit", body, **{"Idempotency-Key": "k1"})
    again = api.v1("POST", "/jobs/submit", body, **{"Idempotency-Key": "k1"})
    other = api.v1("POST", "/jobs/submit", {**body, "job_id": "b"}, **{"Idempotency-Key": "k1"})
    assert first.json()["operation"]["id"] == again.json()["operation"]["id"]
    assert other.status_code == 409


def test_no_key_no_answer(api: Api) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"X-API-Key": "wrong"}):
        answer = api.send("GET", "/api/v1/flink/jobs", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
    assert api.send("GET", "/api/v1/flink/jobs", headers={"X-API-Key": "k"}).status_code == 200
    assert api.send("GET", "/livez", headers={}).status_code == 200
    assert "headrace_http_requests_total" in api.send("GET", "/metrics", headers={}).text


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/jobs/submit", {"job_config": {"script": SCRIPT, "parallelism": 0}}, "job_config.parallelism"),
        ("/jobs/submit", {"job_konfig": {}}, "job_konfig"),
        ("/jobs/submit", {"template_id": "none"}, "template_id"),
        ("/templates", {"template_id": "x", "script": SCRIPT, "imagee": "y"}, "imagee"),
    ],
)
def test_a_wrong_body_names_its_field(api: Api, world: World, path: str, body: Any, field: str) -> None:
    answer = api.v1("POST", path, body)
    assert answer.status_code == 400
    assert field in [error["field"] for error in answer.json()["errors"]]
    assert not world.store._operations


def test_what_is_not_there_is_404_and_what_cannot_be_is_409(api: Api, world: World) -> None:
    assert api.v1("POST", "/jobs/none/stop").status_code == 404
    assert api.v1("GET", "/jobs/none").status_code == 404
    assert api.v1("GET", "/operations/none").status_code == 404
    assert api.v1("GET", "/templates/none").status_code == 404
    world.runs()
    assert api.v1("POST", "/jobs/submit", {"job_id": "orders", "job_config": {"script": SCRIPT}}).status_code == 409
    assert api.v1("PUT", "/jobs").status_code == 405
    assert api.v1("PUT", "/templates").headers["allow"] == "GET, POST"


def test_jobs_come_in_pages(api: Api, world: World) -> None:
    for name in ("a", "b", "c"):
        world.submit(name)
    first = api.v1("GET", "/jobs?limit=2").json()
    rest = api.v1("GET", f"/jobs?limit=2&cursor={first['next_cursor']}").json()
    assert [job["job_id"] for job in first["jobs"] + rest["jobs"]] == ["a", "b", "c"]
    assert rest["next_cursor"] is None
    assert api.v1("GET", "/jobs?cursor=%20").status_code == 400


def test_a_fleet_is_read_in_brief_with_what_is_open_at_one_read_a_page(api: Api, world: World) -> None:
    for name in ("a", "b"):
        world.runs(name)
    world.scale(3, "b")
    world.becomes("a", job={"state": "RESTARTING"})
    world.sync()
    read: list[str] = []
    world.store.operation = lambda *_: read.append("operation")  # type: ignore[method-assign]
    world.store.document = lambda *_: read.append("document")  # type: ignore[method-assign]
    answer = api.v1("GET", "/jobs?brief=true&limit=500")
    first, second = answer.json()["jobs"]
    assert (first["status"], first["restarts"], first["open_operations"]) == ("RESTARTING", 1, [])
    assert (second["status"], second["restarts"]) == ("RUNNING", 0)
    assert [(each["kind"], each["step"]) for each in second["open_operations"]] == [("SCALE", "BEGIN")]
    assert first["phase_since"] == first["observed_at"]
    assert fleet.asked(second) == "SCALE BEGIN"
    assert "request" not in first
    assert len(answer.content) < 2 * 1500
    assert read == []


def test_a_job_shows_what_is_open_also_where_it_was_only_just_accepted(api: Api, world: World) -> None:
    world.runs()
    assert api.v1("GET", "/jobs/orders").json()["open_operations"] == []
    accepted = api.v1("POST", "/jobs/orders/scale", {"parallelism": 2}).json()["operation"]
    [shown] = api.v1("GET", "/jobs/orders").json()["open_operations"]
    assert shown == {name: accepted[name] for name in ("id", "kind", "sequence", "state", "step", "accepted_at")}


def test_a_time_line_is_drawn_of_what_the_api_gives(api: Api, world: World) -> None:
    world.runs()
    world.clock.advance(60)
    world.becomes(job={"state": "RESTARTING"})
    world.settle()
    world.clock.advance(30)
    job, transitions = api.v1("GET", "/jobs/orders").json(), api.v1("GET", "/jobs/orders/transitions").json()
    spans = timeline.spans(job, transitions["transitions"], world.clock.now())
    assert [(span.phase, span.seconds) for span in spans] == [("REQUESTED", 0), ("RUNNING", 60), ("RESTARTING", 30)]
    assert timeline.notes(transitions["transitions"]) == []
    [operation] = api.v1("GET", "/jobs/orders/operations").json()["operations"]
    assert history.of_operation(operation)["by"] == "http"


def test_waiting_is_bounded_and_says_the_end(api: Api, world: World) -> None:
    world.runs()
    answer = api.v1("POST", "/jobs/orders/scale?wait=100", {"parallelism": 2})
    assert answer.status_code == 202
    world.execute()
    world.becomes()
    world.settle()
    operation = answer.json()["operation"]["id"]
    assert api.v1("GET", f"/operations/{operation}?wait=1").json()["operation"]["state"] == "SUCCEEDED"


@pytest.mark.parametrize("end", ["FINISHED", "FAILED", "CANCELED"])
def test_a_submit_of_another_run_shows_the_accepted_run_and_not_the_end_of_the_one_before(
    api: Api, world: World, end: str
) -> None:
    world.runs()
    world.becomes(job={"state": end})
    world.settle()
    ended = api.v1("GET", "/jobs/orders").json()
    assert ended["status"] == {"CANCELED": "CANCELLED"}.get(end, end)
    body = {"job_id": "orders", "job_config": {"script": SCRIPT, "parallelism": 3}}
    answer = api.v1("POST", "/jobs/submit", body, **{"Idempotency-Key": "again"})
    assert answer.status_code == 202
    assert (answer.json()["status"], answer.json()["flink_job_id"]) == ("REQUESTED", None)
    repeated = api.v1("POST", "/jobs/submit", body, **{"Idempotency-Key": "again"}).json()
    assert repeated["status"] == "REQUESTED"
    asked = api.v1("GET", f"/operations/{answer.json()['operation']['id']}").json()
    assert (asked["status"], asked["flink_job_id"]) == ("REQUESTED", None)
    job = api.v1("GET", "/jobs/orders").json()
    assert (job["status"], job["run"], job["reason"], job["flink_job_id"]) == ("REQUESTED", 2, "", None)
    assert job["request"]["parallelism"] == 3
    assert [each["status"] for each in api.v1("GET", "/jobs").json()["jobs"]] == ["REQUESTED"]
    assert api.v1("GET", f"/jobs?phase={ended['status']}").json()["jobs"] == []
    for _ in range(3):
        world.execute()
        world.clock.advance(2)
    world.becomes()
    world.settle()
    job = api.v1("GET", "/jobs/orders").json()
    assert (job["status"], job["run"]) == ("RUNNING", 2)


def test_a_run_that_is_stopped_before_it_began_leaves_the_end_of_the_one_before(api: Api, world: World) -> None:
    world.runs()
    world.becomes(job={"state": "FINISHED"})
    world.settle()
    assert api.v1("POST", "/jobs/submit", {"job_id": "orders", "job_config": {"script": SCRIPT}}).status_code == 202
    assert api.v1("POST", "/jobs/orders/stop", {}).status_code == 202
    assert api.v1("GET", "/jobs/orders").json()["status"] == "FINISHED"
    world.settle()
    world.settle()
    job = api.v1("GET", "/jobs/orders").json()
    assert (job["status"], job["desired"], job["run"]) == ("FINISHED", "CANCELLED", 1)


def test_a_secret_is_not_shown(api: Api, world: World) -> None:
    api.v1("POST", "/templates", TEMPLATE)
    operation = api.v1("POST", "/jobs/submit", {"template_id": "counting", "job_id": "a"}).json()["operation"]
    pages = ["/templates", "/templates/counting", "/jobs", "/jobs/a", "/jobs/a/operations"]
    pages.append(f"/operations/{operation['id']}")
    for page in pages:
        assert "canary" not in api.v1("GET", page).text


def pod(name: str, component: str = "jobmanager", **container: Any) -> dict[str, Any]:
    running = {"name": MAIN, "ready": True, "restartCount": 0, "state": {"running": {}}, **container}
    status = {"phase": "Running", "startTime": "2026-01-01T00:00:00Z", "containerStatuses": [running]}
    labels = pod_labels("orders", component)
    return {"metadata": {"name": name, "labels": labels}, "spec": {"containers": [{"name": MAIN}]}, "status": status}


def test_a_log_is_text_with_its_pod_named(api: Api, world: World) -> None:
    world.runs()
    world.runtime.put_pod("default", pod("orders-1"))
    for number in range(300):
        world.runtime.print_line("orders-1", MAIN, f"line {number}")
    answer = api.v1("GET", "/jobs/orders/logs")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert (answer.headers["headrace-pod"], answer.headers["headrace-container"]) == ("orders-1", MAIN)
    assert len(answer.text.splitlines()) == 200
    assert api.v1("GET", "/jobs/orders/logs?tail=1").text == "line 299\n"
    assert api.v1("GET", "/jobs/orders/logs?tail=1&pod=orders-1&container=" + MAIN).text == "line 299\n"


@pytest.mark.parametrize(
    ("query", "field", "allowed"),
    [
        ("component=jm", "component", "jobmanager or taskmanager"),
        ("tail=-1", "tail", "0 to 10000"),
        ("tail=10001", "tail", "0 to 10000"),
        ("since=yesterday", "since", "90s, 5m, 2h or 1d"),
        ("since=31d", "since", "up to 30d"),
        ("follow=perhaps", "follow", "true or false"),
        ("previous=true&follow=true", "follow", "leave out follow or previous"),
        ("container=sidecar", "container", MAIN),
    ],
)
def test_a_wrong_parameter_of_a_log_names_itself_and_what_is_allowed(
    api: Api, world: World, query: str, field: str, allowed: str
) -> None:
    world.runs()
    world.runtime.put_pod("default", pod("orders-1"))
    answer = api.v1("GET", f"/jobs/orders/logs?{query}")
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    (error,) = answer.json()["errors"]
    assert error["field"] == field
    assert allowed in error["detail"]


def test_a_log_of_nobody_is_404_in_words(api: Api, world: World) -> None:
    assert api.v1("GET", "/jobs/none/logs").status_code == 404
    world.runs()
    world.runtime.put_pod("default", pod("orders-1"))
    other = api.v1("GET", "/jobs/orders/logs?pod=payments-1")
    assert other.status_code == 404
    assert "it has orders-1" in other.json()["detail"]
    assert "never restarted" in api.v1("GET", "/jobs/orders/logs?previous=true").json()["detail"]
    nothing = api.v1("GET", "/jobs/orders/logs?component=taskmanager")
    assert nothing.status_code == 404
    assert nothing.json()["detail"] == "the TaskManager's pod of job orders is not there: the job is RUNNING"


def test_a_log_is_cut_at_a_mebibyte_and_says_so(api: Api, world: World) -> None:
    world.runs()
    world.runtime.put_pod("default", pod("orders-1"))
    for _ in range(20):
        world.runtime.print_line("orders-1", MAIN, "x" * 100_000)
    answer = api.v1("GET", "/jobs/orders/logs")
    assert 900_000 < len(answer.content) < 1_100_000
    assert answer.text.splitlines()[-1] == "# cut after 1048576 bytes; ask for fewer lines"


def test_events_and_exceptions_are_json(api: Api, world: World) -> None:
    world.runs()
    about = {"kind": "FlinkDeployment", "name": "orders"}
    seen = {"involvedObject": about, "type": "Normal", "reason": "Submit", "message": "Starting deployment"}
    world.runtime.put_event("default", {**seen, "lastTimestamp": "2026-01-01T00:00:00Z", "count": 2})
    (event,) = api.v1("GET", "/jobs/orders/events").json()["events"]
    assert event == {
        "at": "2026-01-01T00:00:00+00:00",
        "type": "Normal",
        "reason": "Submit",
        "message": "Starting deployment",
        "object": "FlinkDeployment/orders",
        "count": 2,
    }
    at = datetime(2026, 1, 1, tzinfo=UTC)
    world.job_manager.history = [ExceptionSeen(at, "java.lang.Exception", "boom\n\tat x", "Map (1/1)")]
    content = api.v1("GET", "/jobs/orders/exceptions").json()
    assert content["exceptions"][0]["exception_name"] == "java.lang.Exception"
    assert content["exceptions"][0]["task_name"] == "Map (1/1)"
    assert (content["kept"], content["note"]) == ("", "")


def test_a_kubernetes_api_that_is_down_is_503_and_names_its_setting(api: Api, world: World) -> None:
    world.runs()
    world.runtime.outage = True
    for page in ("logs", "logs?follow=true", "events"):
        answer = api.v1("GET", f"/jobs/orders/{page}")
        assert answer.status_code == 503
        assert "HEADRACE_KUBECONFIG" in answer.json()["detail"]


def test_a_body_that_is_too_large_or_of_no_given_length_is_not_read(api: Api) -> None:
    for headers, status in (({"Content-Length": str(3 * 1024 * 1024)}, 413), ({"Transfer-Encoding": "chunked"}, 411)):
        answer = api.send("POST", "/api/v1/flink/jobs/submit", headers={**KEY, **headers})
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("host", ["x/livez?", "x/metrics#", "livez", "x/readyz/"])
def test_no_host_header_opens_a_route_that_needs_a_key(api: Api, host: str) -> None:
    assert api.send("GET", "/api/v1/flink/jobs", headers={"Host": host}).status_code == 401


@pytest.mark.parametrize("body", [b"[" * 25_000, b"- " * 60_000, b"a: &a [1]\nb: *a", b"!!int abc", b"default: .nan"])
def test_a_template_that_nobody_could_use_is_a_400(api: Api, body: bytes) -> None:
    answer = api.posts("/api/v1/flink/templates", body)
    assert answer.status_code == 400, answer.text


@pytest.mark.parametrize("parameters", [{}, {"n": {"default": "5"}}], ids=["plain", "with parameters"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("args", "--rate ${n}"),
        ("args", None),
        ("args", {"rate": "${n}"}),
        ("env", None),
        ("env", [{"name": "A", "value": "${n}"}]),
        ("env", "A=${n}"),
        ("flink_configuration", None),
        ("flink_configuration", "pipeline.name: ${n}"),
        ("flink_configuration", ["${n}"]),
        ("labels", "${n}"),
        ("pod", ["${n}"]),
    ],
)
def test_a_field_of_another_shape_is_refused_by_its_name(api: Api, field: str, value: Any, parameters: Any) -> None:
    body = {"template_id": "t", "script": SCRIPT, field: value, **({"parameters": parameters} if parameters else {})}
    answer = api.v1("POST", "/templates", body)
    assert answer.status_code == 400, answer.text
    assert {error["field"].partition(".")[0] for error in answer.json()["errors"]} == {field}


LONG = "x = 1\n" * 20_000


def test_lists_and_operations_show_a_files_size_and_hash_and_one_page_has_its_text(api: Api, world: World) -> None:
    files = [{"name": "more.py", "content": LONG}]
    for number in range(3):
        script = {"script": {"name": "job.py", "content": LONG}, "files": files}
        assert api.v1("POST", "/templates", {"template_id": f"t{number}", **script}).status_code == 201
        answer = api.v1("POST", "/jobs/submit", {"job_id": f"job{number}", "job_config": script})
        world.execute(f"job{number}")
    sql = {"type": "SQL", "sql": f"/* {LONG} */ INSERT INTO a SELECT 1;"}
    assert api.v1("POST", "/templates", {"template_id": "sql", **sql}).status_code == 201
    operation = answer.json()["operation"]["id"]
    for page in ("/jobs", "/jobs/job1/operations", f"/operations/{operation}", "/templates"):
        content = api.v1("GET", page).text
        assert len(content) < 20_000, page
        assert '"bytes":120000' in content, page
        assert '"name":"job.py"' in content, page
    assert api.v1("GET", "/jobs/job1").json()["request"]["script"]["content"] == LONG
    assert api.v1("GET", "/templates/t1").json()["script"]["content"] == LONG


def test_templates_come_in_pages(api: Api) -> None:
    for number in range(3):
        api.v1("POST", "/templates", {"template_id": f"t{number}", "script": SCRIPT})
    first = api.v1("GET", "/templates?limit=2").json()
    rest = api.v1("GET", f"/templates?limit=2&cursor={first['next_cursor']}").json()
    assert [each["template_id"] for each in first["templates"] + rest["templates"]] == ["t0", "t1", "t2"]
    assert rest["next_cursor"] is None


def test_a_body_is_taken_as_json_whatever_its_content_type(api: Api) -> None:
    body = json.dumps({"job_id": "a", "job_config": {"script": SCRIPT}}).encode()
    assert api.posts("/api/v1/flink/jobs/submit", body).status_code == 202
    for kind in ("application/x-www-form-urlencoded", "text/plain", "nonsense"):
        answer = api.posts("/api/v1/flink/jobs/submit", body.replace(b'"a"', b'"b"'), **{"Content-Type": kind})
        assert answer.status_code in (202, 409)
    wrong = api.posts("/api/v1/flink/jobs/submit", b"job_id=a", **{"Content-Type": "text/plain"})
    assert "is not JSON" in wrong.json()["detail"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"job_config": {"args": ["\\ud83d"]}}', "job_config.args.0"),
        (b'{"template_id": "\\ud83d"}', "template_id"),
        (b'{"\\ud83d": 1}', "\\ud83d"),
        (b'{"job_config": {"profile": {}}}', "job_config.profile"),
        (b'{"job_config": {"parallelism": NaN}}', "job_config.parallelism"),
        (b'{"job_config": {"parallelism": ' + b"9" * 5000 + b"}}", "job_config.parallelism"),
        (b'{"job_config": ' + b"[" * 5000, "body"),
        (b'{"parameters": [1]}', "parameters"),
        (b"\xff\xfe", "body"),
        (b"", "job_config.script"),
    ],
)
def test_a_hostile_body_is_400_and_names_its_field(api: Api, body: bytes, field: str) -> None:
    answer = api.posts("/api/v1/flink/jobs/submit", body)
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_many_problems_are_a_short_answer(api: Api) -> None:
    body = json.dumps({"job_config": {f"field-{number}": 1 for number in range(9000)}}).encode()
    answer = api.posts("/api/v1/flink/jobs/submit", body)
    assert answer.status_code == 400
    assert len(answer.content) < 30_000
    assert len(answer.json()["errors"]) == 21


def test_made_up_methods_are_one_series_of_the_metrics(api: Api) -> None:
    for number in range(20):
        api.send(f"MADEUP{number}", "/livez", headers={})
    assert "MADEUP" not in api.send("GET", "/metrics", headers={}).text
    assert 'method="OTHER"' in api.send("GET", "/metrics", headers={}).text


def test_every_route_but_three_needs_a_key(api: Api) -> None:
    paths = {getattr(route, "path", "") for route in api.routes()} | {"/", "/none", "/livez/", "//livez", "/docs"}
    answers = {path: api.send("GET", path, headers={}).status_code for path in paths if path}
    assert {path for path, status in answers.items() if status != 401} == {"/livez", "/readyz", "/metrics"}


def test_what_nobody_foresaw_is_a_problem_without_its_words(
    api: Api, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise KeyError("canary")

    monkeypatch.setattr(world.store, "list_jobs", fails)
    answer = api.v1("GET", "/jobs")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "canary" not in answer.text
    monkeypatch.setattr("headrace.services.resolve.resolve", fails)
    refused = api.v1("POST", "/jobs/submit", {"job_id": "a", "job_config": {"script": SCRIPT}})
    assert refused.status_code == 400
    assert "canary" not in refused.text


def test_more_open_operations_than_a_job_may_have_are_a_429_that_says_so(
    api: Api, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.services.accept.MOST_OPEN", 1)
    world.runs()
    assert api.v1("POST", "/jobs/orders/scale", {"parallelism": 2}).status_code == 202
    answer = api.v1("POST", "/jobs/orders/scale", {"parallelism": 3})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
    assert "1 operations are open" in answer.json()["detail"]


def test_who_brings_no_key_is_not_told_where_the_store_is(
    api: Api, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise Unavailable("MongoDB at db.internal:27017 does not answer (HEADRACE_MONGODB_URL)")

    monkeypatch.setattr(world.store, "ping", fails)
    api = Api(world)
    for headers, is_told in (({}, False), ({"X-API-Key": "wrong"}, False), (KEY, True)):
        answer = api.send("GET", "/readyz", headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert ("db.internal" in answer.text) == is_told
        assert "does not answer" in answer.text


def savepoint(world: World, path: str, job_id: str = "orders", tenant: str = "default") -> None:
    world.clock.advance(1)
    at = world.clock.now()
    world.store.add_savepoint(
        Savepoint(tenant=tenant, job_id=job_id, path=path, kind="savepoint", run=1, at=at, format="CANONICAL")
    )


def test_savepoints_are_listed_of_a_job_and_of_all_page_by_page(api: Api, world: World) -> None:
    world.submit()
    for number, job_id in enumerate(("orders", "payments", "orders", "orders")):
        savepoint(world, f"s3://b/savepoint-{number}", job_id)
    savepoint(world, "s3://b/savepoint-of-another", tenant="other")
    first = api.v1("GET", "/savepoints?limit=3").json()
    rest = api.v1("GET", f"/savepoints?limit=3&cursor={first['next_cursor']}").json()
    assert [each["path"][-1] for each in (*first["savepoints"], *rest["savepoints"])] == ["3", "2", "1", "0"]
    assert rest["next_cursor"] is None
    found = api.v1("GET", "/jobs/orders/savepoints").json()["savepoints"]
    assert [each["path"][-1] for each in found] == ["3", "2", "0"]
    assert (found[0]["kind"], found[0]["format"], found[0]["run"]) == ("savepoint", "CANONICAL", 1)
    assert (found[0]["size_bytes"], found[0]["expires_at"], found[0]["operation"]) == (None, None, None)
    assert api.v1("GET", "/jobs/none/savepoints").status_code == 404
    assert api.v1("GET", "/savepoints?cursor=bm8=").json()["errors"][0]["field"] == "cursor"


def test_a_savepoint_is_disposed_of_or_stays_with_the_reason(api: Api, world: World) -> None:
    world.runs(job_config={"savepoints": {"kept_days": 2}})
    for number in range(3):
        savepoint(world, f"s3://b/savepoint-{number}")
    first = api.v1("DELETE", "/savepoints?path=s3://b/savepoint-0")
    assert (first.status_code, first.json()["path"]) == (202, "s3://b/savepoint-0")
    listed = {each["path"]: each for each in api.v1("GET", "/savepoints").json()["savepoints"]}
    assert listed["s3://b/savepoint-0"]["disposing_since"] is not None
    assert listed["s3://b/savepoint-1"]["expires_at"] is not None
    kept = listed["s3://b/savepoint-2"]
    assert (kept["expires_at"], kept["kept_because"]) == (None, "it is the job's last one")
    last = api.v1("DELETE", "/savepoints?path=s3://b/savepoint-2")
    assert (last.status_code, "it is the job's last one" in last.json()["detail"]) == (409, True)
    assert api.v1("DELETE", "/savepoints?path=s3://b/none").status_code == 404
    assert api.v1("DELETE", "/savepoints").status_code == 400
    body = {"job_id": "other", "job_config": {"script": SCRIPT}, "start_from": "s3://b/savepoint-0"}
    assert api.v1("POST", "/jobs/submit", body).status_code == 409


def test_a_savepoint_of_another_tenant_is_not_found(api: Api, world: World) -> None:
    savepoint(world, "s3://b/savepoint-1", tenant="other")
    body = {"job_id": "orders", "job_config": {"script": SCRIPT}, "start_from": "s3://b/savepoint-1"}
    answer = api.v1("POST", "/jobs/submit", body)
    assert answer.status_code == 404
    assert "there is no savepoint s3://b/savepoint-1 that is yours" in answer.json()["detail"]
    assert "other" not in answer.text
    assert api.v1("GET", "/jobs/orders").status_code == 404


def test_which_runtimes_work_is_what_their_processes_said(api: Api, world: World) -> None:
    silent = {"name": "operator", "is_default": True, "works": None, "lacks": [], "reported_at": None}
    assert api.v1("GET", "/runtimes").json() == {"runtimes": [{**silent, "silent": ["worker", "sync"]}]}
    world.runtime.lacking = {Process.WORKER: ["the right to patch"]}
    world.services.report_runtimes.of({Process.WORKER, Process.SYNC})
    (found,) = api.v1("GET", "/runtimes").json()["runtimes"]
    assert (found["works"], found["silent"]) == (False, [])
    assert found["lacks"] == [{"what": "the right to patch", "said_by": ["worker"]}]
    assert datetime.fromisoformat(found["reported_at"]) == world.clock.now()


def test_a_deployment_is_adopted_and_released_by_its_routes(api: Api, world: World) -> None:
    by_hand(world, "shop")
    listed = api.v1("GET", "/adoptable").json()
    assert [each["name"] for each in listed["adoptable"]] == ["shop"]
    answer = api.v1("POST", "/jobs/shop-of-eu/adopt", {"deployment": "shop"})
    assert (answer.status_code, answer.json()["job_id"]) == (202, "shop-of-eu")
    world.execute("shop-of-eu")
    job = api.v1("GET", "/jobs/shop-of-eu").json()
    assert (job["status"], job["is_as_found"], job["request"], job["deployment_name"]) == ("RUNNING", True, {}, "shop")
    assert api.v1("GET", "/adoptable").json()["adoptable"] == []
    assert api.v1("POST", "/jobs/shop-of-eu/adopt").status_code == 409
    assert api.v1("POST", "/jobs/shop-of-eu/release").status_code == 202
    world.execute("shop-of-eu")
    assert api.v1("GET", "/jobs/shop-of-eu").json()["status"] == "RELEASED"


def test_what_cannot_be_adopted_says_why(api: Api, world: World) -> None:
    by_hand(world, "session", job=None)
    world.runs()
    listed = api.v1("GET", "/adoptable?namespace=default").json()["adoptable"]
    assert [(each["name"], "session cluster" in each["why_not"]) for each in listed] == [("session", True)]
    assert api.v1("POST", "/jobs/none/adopt").status_code == 404
    refused = api.v1("POST", "/jobs/session/adopt")
    assert (refused.status_code, "session cluster" in refused.json()["detail"]) == (409, True)
    elsewhere = api.v1("GET", "/adoptable?namespace=kube-system")
    assert (elsewhere.status_code, elsewhere.json()["errors"][0]["field"]) == (400, "namespace")
    assert api.v1("POST", "/jobs/x/adopt", {"deployment": "No Name"}).status_code == 400
    world.runtime.outage = True
    assert api.v1("POST", "/jobs/session/adopt").status_code == 503
    assert api.v1("GET", "/adoptable").status_code == 503


def test_what_may_be_adopted_comes_in_pages(api: Api, world: World) -> None:
    for number in range(5):
        by_hand(world, f"j{number}")
    names, cursor = [], ""
    while True:
        page = api.v1("GET", f"/adoptable?limit=2&cursor={cursor}").json()
        assert len(page["adoptable"]) <= 2
        names += [each["name"] for each in page["adoptable"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert names == [f"j{number}" for number in range(5)]


def by_hand(world: World, name: str, **spec: Any) -> None:
    """A FlinkDeployment that somebody applied, and that runs."""
    given = {"flinkVersion": "v1_20", "job": {"jarURI": "local:///a.jar", "state": "running"}, **spec}
    given = {field: value for field, value in given.items() if value is not None}
    metadata = {"name": name, "namespace": "default", "labels": {}}
    world.runtime.create({"kind": "FlinkDeployment", "metadata": metadata, "spec": given})
    world.becomes(name)
