"""The routes of triggers and dead letters over in-memory ports."""

from __future__ import annotations

import json

import pytest

from tests.unit.api.test_api import Api, api  # noqa: F401 - a fixture

RULE = {"name": "uploads", "topic": "uploads", "action": {"operation": "STOP", "job_id": "${data.job}"}}
YAML = b"name: uploads\ntopic: uploads\nwhen: data.x\naction:\n  operation: STOP\n  job_id: ${data.job}\n"
BASE = "/api/v1/flink"


def test_a_trigger_is_kept_shown_and_removed(api: Api) -> None:  # noqa: F811
    made = api.posts(f"{BASE}/triggers", YAML)
    assert (made.status_code, made.headers["location"]) == (201, f"{BASE}/triggers/uploads")
    assert api.posts(f"{BASE}/triggers", YAML).json()["revision"] == 1
    assert api.v1("POST", "/triggers", RULE).json()["revision"] == 2
    [listed] = api.v1("GET", "/triggers").json()["triggers"]
    assert listed == api.v1("GET", "/triggers/uploads").json()
    assert {name: listed[name] for name in RULE} == RULE
    assert api.v1("DELETE", "/triggers/uploads").json() == {"name": "uploads", "deleted": True}
    assert api.v1("DELETE", "/triggers/uploads").status_code == 404
    assert api.v1("GET", "/triggers").json()["triggers"] == []


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"name: x", json.dumps({**RULE, "topic": 7}).encode()])
def test_a_bad_trigger_is_a_400_that_names_a_field(api: Api, content: bytes) -> None:  # noqa: F811
    answer = api.posts(f"{BASE}/triggers", content)
    assert answer.status_code == 400
    assert answer.json()["errors"]


def test_without_a_broker_there_are_no_letters(api: Api) -> None:  # noqa: F811
    assert api.v1("GET", "/dead-letters").json() == {"dead_letters": [], "next_cursor": None}
    assert api.v1("POST", "/dead-letters/0-1/replay").status_code == 404
    assert api.v1("GET", "/dead-letters?limit=0").status_code == 400


def test_the_routes_need_a_key(api: Api) -> None:  # noqa: F811
    for method, path in (("GET", "triggers"), ("DELETE", "triggers/a"), ("POST", "dead-letters/0-0/replay")):
        assert api.send(method, f"{BASE}/{path}", headers={}).status_code == 401
