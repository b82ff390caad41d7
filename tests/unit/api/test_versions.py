"""A job's versions over HTTP: pages, one whole, and what is not shown."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from headrace.domain.operations import KindName
from tests.support.world import World
from tests.unit.api.test_api import Api, api  # noqa: F401 - a fixture


def upgraded(world: World, api: Api, **config: Any) -> None:  # noqa: F811
    assert api.v1("POST", "/jobs/orders/upgrade", {"job_config": config}).status_code == 202
    world.execute()
    world.becomes()
    for _ in range(2):
        world.clock.advance(10)
        world.settle()
        world.services.redeliver.run()


def test_versions_come_newest_first_and_in_pages(world: World, api: Api) -> None:  # noqa: F811
    world.runs(job_config={"args": ["--0"]})
    for count in range(1, 5):
        upgraded(world, api, args=[f"--{count}"])
    first = api.v1("GET", "/jobs/orders/versions?limit=2").json()
    assert [each["version"] for each in first["versions"]] == [5, 4]
    rest = api.v1("GET", f"/jobs/orders/versions?limit=100&cursor={first['next_cursor']}").json()
    assert ([each["version"] for each in rest["versions"]], rest["next_cursor"]) == ([3, 2, 1], None)
    newest = first["versions"][0]
    assert (newest["kind"], newest["state"], newest["source"]["via"], newest["run"]) == (
        "UPGRADE",
        "SUCCEEDED",
        "http",
        1,
    )
    assert newest["changes"] == [{"field": "args", "path": ["args"], "before": ["--3"], "after": ["--4"]}]
    assert "request" not in newest


def test_one_version_has_its_request_and_no_program(world: World, api: Api) -> None:  # noqa: F811
    world.runs(job_config={"args": ["--0"]})
    shown = api.v1("GET", "/jobs/orders/versions/1").json()
    assert (shown["request"]["args"], shown["request"]["script"]["bytes"]) == (["--0"], 9)
    assert "print" not in str(shown)


def test_that_a_secret_changed_is_shown_and_no_value(world: World, api: Api) -> None:  # noqa: F811
    world.runs(job_config={"env": {"DB_PASSWORD": "hunter2hunter2", "LOG": "debug"}})
    upgraded(world, api, env={"LOG": "info", "DB_PASSWORD": "hunter3hunter3"})
    upgraded(world, api, env={"DB_PASSWORD": "hunter2hunter2", "LOG": "info"})
    text = "".join(api.v1("GET", f"/jobs/orders/versions{path}").text for path in ("", "/1", "/2", "/3"))
    assert "hunter" not in text
    assert "sealed" not in text
    changes = api.v1("GET", "/jobs/orders/versions").json()["versions"][1]["changes"]
    by_field = {each["field"]: (each["before"], each["after"]) for each in changes}
    assert by_field == {"env.DB_PASSWORD": ("…", "…"), "env.LOG": ("debug", "info")}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/jobs/nobody/versions", 404),
        ("/jobs/nobody/versions/1", 404),
        ("/jobs/orders/versions/2", 404),
        ("/jobs/orders/versions/0", 404),
        ("/jobs/orders/versions/one", 400),
        ("/jobs/orders/versions?limit=101", 400),
        ("/jobs/orders/versions?cursor=0", 400),
        ("/jobs/orders/versions?cursor=1", 200),
    ],
)
def test_what_there_is_not_is_said(world: World, api: Api, path: str, status: int) -> None:  # noqa: F811
    world.runs()
    assert api.v1("GET", path).status_code == status


@pytest.mark.parametrize(
    ("body", "status"), [({"to": 9}, 404), ({"to": 1}, 409), ({}, 409), ({"to": 0}, 400), ({"t": 1}, 400)]
)
def test_a_rollback_to_nothing_is_a_problem_in_words(world: World, api: Api, body: Any, status: int) -> None:  # noqa: F811
    world.runs()
    answer = api.v1("POST", "/jobs/orders/rollback", body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["detail"]
    assert len(world.store.operations_of(world.job().key)) == 1


def test_a_job_whose_records_are_gone_has_none(world: World, api: Api) -> None:  # noqa: F811
    world.runs()
    world.accept(KindName.DELETE, "orders", force=True)
    for _ in range(3):
        world.settle()
        if world.runtime.get("default", "orders") is not None:
            world.is_suspended("s3://b/savepoint-1")
    world.clock.advance(timedelta(days=31).total_seconds())
    assert world.services.prune.run().forgotten
    assert api.v1("GET", "/jobs/orders/versions").status_code == 404
    assert api.v1("GET", "/jobs/orders/versions/1").status_code == 404
