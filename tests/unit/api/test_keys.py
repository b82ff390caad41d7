"""API keys and roles over in-memory ports: who may ask for what, by HTTP and by the command line."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import httpx
import limits.storage.memory
import pytest
from loguru import logger

from api import access
from api.access import gate
from api.app import BASE, create_app
from headrace.cli import connection, main
from headrace.cli import keys as keys_command
from headrace.cli.main import app as command_line
from headrace.client import Client
from headrace.domain.api_keys import MOST_API_KEYS, Role
from headrace.errors import Unavailable
from headrace.services.api_keys import SEEN_FOR
from tests.support.clocks import held_clock
from tests.support.world import SCRIPT, World

SUBMIT = {"job_id": "a", "job_config": {"script": SCRIPT}}
ROLES = tuple(Role)


class Api:
    """Requests to the app without a socket, with any key."""

    def __init__(self, world: World, requests_per_minute: int = 0) -> None:
        opened = gate(world.services, [b"root-key"], requests_per_minute)
        self.app = create_app(world.services, opened, tenant="default", wait_limit_seconds=1)

    def send(self, request: httpx.Request) -> httpx.Response:
        async def sent() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
                return await client.send(request)

        answer = asyncio.run(sent())
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    def v1(self, key: str | None, method: str, path: str, body: Any = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}"} if key is not None else {}
        return self.send(httpx.Request(method, f"http://api{BASE}{path}", json=body, headers=headers))

    def key(self, role: str, name: str | None = None, days: float | None = 1) -> str:
        """A new key with this role."""
        body = {"name": name or f"a-{role}", "role": role, "expires_in_days": days}
        answer = self.v1("root-key", "POST", "/keys", body)
        assert answer.status_code == 201, answer.text
        made: str = answer.json()["key"]
        return made


@pytest.fixture
def api(world: World, socket_enabled: None) -> Api:
    """asyncio's own loop needs a socket pair; nothing else here opens one."""
    return Api(world)


def test_a_key_is_shown_once_and_only_its_digest_is_kept(api: Api, world: World) -> None:
    key = api.key("operator", "ci")
    assert api.v1(key, "POST", "/jobs/submit", SUBMIT).status_code == 202
    listed = api.v1("root-key", "GET", "/keys")
    assert key not in listed.text
    (record,) = world.store.api_keys("default")
    assert key not in repr(record)
    assert record.digest not in listed.text
    assert (record.name, record.role, record.created_by) == ("ci", Role.OPERATOR, "file-1")


def test_each_operation_says_whose_key_asked_for_it(api: Api, world: World) -> None:
    key = api.key("operator", "night-shift")
    operation = api.v1(key, "POST", "/jobs/submit", SUBMIT).json()["operation"]
    assert operation["source"] == {"via": "http", "by": "night-shift"}
    assert world.store.operation("default", operation["id"]).source.detail == {"by": "night-shift"}
    stop = api.v1("root-key", "POST", "/jobs/a/stop", {}).json()["operation"]
    assert stop["source"] == {"via": "http", "by": "file-1"}


def test_what_writes_is_logged_with_whose_key_it_was(api: Api) -> None:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level="INFO")
    key = api.key("operator", "night-shift")
    api.v1(key, "DELETE", "/savepoints?path=none")
    api.v1(key, "GET", "/jobs")
    logger.remove(sink)
    said = [line for line in lines if "night-shift" in line]
    assert len(said) == 1
    assert f"DELETE '{BASE}/savepoints' by night-shift: 404" in said[0]
    assert not any(key in line for line in lines)


def test_a_key_that_is_revoked_or_has_expired_opens_nothing_and_says_so(api: Api, world: World) -> None:
    revoked, expired = api.key("operator", "left"), api.key("operator", "old", days=0.5)
    assert [api.v1(key, "GET", "/jobs").status_code for key in (revoked, expired)] == [200, 200]
    assert api.v1("root-key", "DELETE", "/keys/left").status_code == 200
    assert api.v1("root-key", "DELETE", "/keys/left").status_code == 200, "a second time changes nothing"
    world.clock.advance(SEEN_FOR.total_seconds() + 1)
    answer = api.v1(revoked, "GET", "/jobs")
    assert (answer.status_code, "was revoked at" in answer.json()["detail"]) == (401, True)
    assert api.v1(expired, "GET", "/jobs").status_code == 200
    world.clock.advance(43_200)
    answer = api.v1(expired, "GET", "/jobs")
    assert (answer.status_code, "expired at" in answer.json()["detail"]) == (401, True)


def test_one_that_expires_while_it_is_remembered_opens_nothing(api: Api, world: World) -> None:
    key = api.key("viewer", "short", days=5 / 86_400)
    assert api.v1(key, "GET", "/jobs").status_code == 200
    world.clock.advance(6)
    assert api.v1(key, "GET", "/jobs").status_code == 401


def test_a_name_is_one_keys_for_good(api: Api) -> None:
    api.key("operator", "ci")
    api.v1("root-key", "DELETE", "/keys/ci")
    answer = api.v1("root-key", "POST", "/keys", {"name": "ci", "role": "viewer", "expires_in_days": None})
    assert answer.status_code == 409
    assert "choose another name" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["name", "role", "expires_in_days"]),
        ({"name": "Not OK", "role": "root", "expires_in_days": 0}, ["name", "role", "expires_in_days"]),
        ({"name": "file-1", "role": "viewer", "expires_in_days": 1}, ["name"]),
        ({"name": "x" * 64, "role": "viewer", "expires_in_days": True}, ["name", "expires_in_days"]),
        ({"name": "a", "role": "viewer", "expires_in_days": 1, "admin": True}, ["admin"]),
        ({"name": "a", "role": ["admin"], "expires_in_days": float(10**9)}, ["role", "expires_in_days"]),
    ],
)
def test_a_wrong_key_names_its_fields(api: Api, world: World, body: Any, fields: list[str]) -> None:
    answer = api.v1("root-key", "POST", "/keys", body)
    assert answer.status_code == 400
    assert sorted(each["field"] for each in answer.json()["errors"]) == sorted(fields)
    assert not world.store.api_keys("default")


def test_there_is_a_bound_on_keys(api: Api, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.testing.MOST_API_KEYS", 2)
    api.key("viewer", "a")
    api.key("viewer", "b")
    answer = api.v1("root-key", "POST", "/keys", {"name": "c", "role": "viewer", "expires_in_days": 1})
    assert answer.status_code == 429
    assert str(MOST_API_KEYS) in answer.json()["detail"]


def test_where_the_store_is_away_nobody_is_called_a_stranger(
    api: Api, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = api.key("viewer")

    def away(*_: object) -> None:
        raise Unavailable("MongoDB does not answer")

    monkeypatch.setattr(world.store, "api_key", away)
    assert api.v1(key, "GET", "/whoami").status_code == 503
    assert api.v1("root-key", "GET", "/whoami").json()["role"] == "admin", "the file is there before the store"
    monkeypatch.undo()
    assert api.v1(key, "GET", "/whoami").json()["name"] == "a-viewer"
    monkeypatch.setattr(world.store, "api_key", away)
    assert api.v1(key, "GET", "/whoami").status_code == 200, "it was seen a moment ago"


def test_a_stranger_who_tries_often_costs_little(api: Api, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    read = world.store.api_key

    def counted(tenant: str, digest: str) -> Any:
        asked.append(digest)
        return read(tenant, digest)

    monkeypatch.setattr(world.store, "api_key", counted)
    assert [api.v1("a wrong one", "GET", "/jobs").status_code for _ in range(20)] == [401] * 20
    assert len(asked) == 1
    assert api.v1("", "GET", "/jobs").status_code == 401
    assert len(asked) == 1


def test_a_key_may_send_so_many_requests_within_a_minute(
    world: World, socket_enabled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_clock(monkeypatch, access, limits.storage.memory)  # it may be the end of a minute here
    api = Api(world, requests_per_minute=3)
    key = api.key("viewer", "busy")
    assert [api.v1(key, "GET", "/whoami").status_code for _ in range(4)] == [200, 200, 200, 429]
    answer = api.v1(key, "GET", "/whoami")
    assert answer.headers["retry-after"]
    assert "HEADRACE_API_REQUESTS_PER_MINUTE" in answer.json()["detail"]
    assert api.v1("root-key", "GET", "/whoami").status_code == 200, "each key has a count of its own"


EXPECTED: Mapping[tuple[str, str], Role | None] = {
    ("GET", "/livez"): None,
    ("GET", "/readyz"): None,
    ("GET", "/metrics"): None,
    ("POST", f"{BASE}/jobs/render"): Role.VIEWER,
    ("POST", f"{BASE}/keys"): Role.ADMIN,
    ("GET", f"{BASE}/keys"): Role.ADMIN,
    ("DELETE", f"{BASE}/keys/{{name}}"): Role.ADMIN,
    ("POST", f"{BASE}/triggers"): Role.ADMIN,
    ("DELETE", f"{BASE}/triggers/{{name}}"): Role.ADMIN,
}
"""Beside these, what reads needs a viewer's key, and what writes an operator's."""


def needed(method: str, path: str) -> Role | None:
    return EXPECTED.get((method, path), Role.VIEWER if method == "GET" else Role.OPERATOR)


def test_three_roles_and_every_route(api: Api) -> None:
    keys = {role: api.key(role) for role in ROLES}
    found: list[Any] = list(api.app.routes)
    routes = [(route.path, method) for route in found for method in sorted(getattr(route, "methods", ()))]
    assert len(routes) > 40
    assert {(method, path) for path, method in routes} >= set(EXPECTED), "a row names a route that is not there"
    for path, method in routes:
        role = needed("GET" if method == "HEAD" else method, path)
        sent = path.replace("{", "").replace("}", "")
        for each, key in {None: None, **keys}.items():
            request = httpx.Request(
                method,
                f"http://api{sent}",
                headers={"Authorization": f"Bearer {key}"} if key else {},
                content=b"{}" if method == "POST" else b"",
            )
            status = api.send(request).status_code
            asked = f"{method} {path} with {each}"
            if role is None or (each is not None and each.may(role)):
                assert status not in (401, 403), asked
            else:
                assert status == (401 if each is None else 403), asked


def test_what_no_route_has_needs_a_key_too(api: Api) -> None:
    viewer = api.key("viewer")
    for path in ("/nothing", "/jobs/a/nothing", "/keys/", "/triggers/../keys"):
        assert api.v1(None, "GET", path).status_code == 401
    assert api.v1(viewer, "POST", "/jobs/a/nothing", {}).status_code == 403
    assert api.v1(viewer, "GET", "/keys/").status_code == 403
    assert api.v1(viewer, "PATCH", "/jobs/a", {}).status_code == 403


def test_a_dry_run_needs_what_the_operation_would(api: Api, world: World) -> None:
    viewer = api.key("viewer")
    for query in ("dry_run=true", "dry_run=false", "dry_run=true&dry_run=false"):
        assert api.v1(viewer, "POST", f"/jobs/submit?{query}", SUBMIT).status_code == 403
    assert not world.store._operations


URL = "https://example.com/job.py"
READS: Mapping[str, list[str]] = {
    "list": [],
    "get": ["a"],
    "top": [],
    "logs": ["a"],
    "events": ["a"],
    "exceptions": ["a"],
    "render": [URL],
    "doctor": [],
    "templates get": ["none"],
    "triggers show": ["none"],
    "triggers test": ["none", "--event", "TEMPLATE"],
    "dead-letters list": [],
    "describe": ["a"],
    "operations": ["a"],
    "history": ["a"],
    "versions": ["a"],
    "savepoints": [],
    "templates list": [],
    "triggers list": [],
    "whoami": [],
}
WRITES: Mapping[str, list[str]] = {
    "submit": [URL],
    "upgrade": ["a", "--set", "parallelism=2"],
    "diff": ["a", "--set", "parallelism=2"],
    "dispose": ["file:///none"],
    "templates apply": ["-f", "TEMPLATE"],
    "dead-letters replay": ["none"],
    "scale": ["a", "--parallelism", "2"],
    "stop": ["a"],
    "suspend": ["a"],
    "resume": ["a"],
    "restart": ["a"],
    "savepoint": ["a"],
    "rollback": ["a"],
    "delete": ["a"],
    "undelete": ["a"],
    "release": ["a"],
    "adopt": ["a"],
}
ADMINS: Mapping[str, list[str]] = {
    "keys list": [],
    "keys revoke": ["none"],
    "keys create": ["by-cli", "--role", "viewer"],
    "triggers delete": ["none"],
    "triggers apply": ["TEMPLATE"],
}


@pytest.fixture
def run(api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `headrace` with a key: its exit code, stdout and stderr."""

    def run_with(key: str, *words: str) -> tuple[int, str, str]:
        monkeypatch.setenv("HEADRACE_URL", "http://api")
        monkeypatch.setenv("HEADRACE_API_KEY", key)
        made = Client("http://api", key, transport=httpx.MockTransport(api.send), tries=1)
        monkeypatch.setattr(connection, "client", lambda _, **__: made)
        monkeypatch.setattr("sys.argv", ["headrace", *words])
        code = main.main()
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run_with


@pytest.mark.parametrize(
    ("verb", "words", "role"),
    [
        (verb, words, role)
        for role, verbs in zip(ROLES, (READS, WRITES, ADMINS), strict=True)
        for verb, words in verbs.items()
    ],
)
def test_three_roles_and_every_verb(
    api: Api, run: Any, verb: str, words: list[str], role: Role, tmp_path: Path
) -> None:
    (file := tmp_path / "body.yaml").write_text("template_id: counting\n")
    words = [str(file) if word == "TEMPLATE" else word for word in words]
    api.v1("root-key", "POST", "/jobs/submit", SUBMIT)
    for each in ROLES:
        _, out, err = run(api.key(each), *verb.split(), *words)
        is_refused = f"has the role {each}, and this needs {role}" in err
        assert is_refused is not each.may(role), (verb, each, out, err)


def test_every_verb_that_asks_the_api_is_in_the_matrix() -> None:
    """But for those that ask nobody, and `wait`, which reads what `operations` does."""
    alone = {"completion", "version", "wait"}
    assert set(verbs(command_line)) == {*READS, *WRITES, *ADMINS, *alone}


def verbs(group: click.Group, before: str = "") -> list[str]:
    found = []
    for name, command in group.commands.items():
        named = f"{before}{name}"
        found += verbs(command, f"{named} ") if isinstance(command, click.Group) else [named]
    return found


def test_a_key_goes_into_a_file_for_its_owner_alone(api: Api, run: Any, tmp_path: Path) -> None:
    file = tmp_path / "ci.key"
    code, out, err = run("root-key", "keys", "create", "ci", "--role", "operator", "--to", str(file), "-o", "json")
    assert code == 0, err
    key = file.read_text().strip()
    assert key not in out + err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert api.v1(key, "GET", "/whoami").json()["name"] == "ci"
    code, _, err = run("root-key", "keys", "create", "other", "--role", "viewer", "--to", str(file))
    assert (code, "name a file that is not there" in err) == (2, True)
    assert api.v1("root-key", "GET", "/keys").json()["keys"][0]["name"] == "ci"
    assert len(api.v1("root-key", "GET", "/keys").json()["keys"]) == 1, "none was made that nobody could read"


def test_one_that_was_not_made_leaves_no_file(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "ci.key"
    code, _, _ = run("root-key", "keys", "create", "NOT OK", "--role", "operator", "--to", str(file))
    assert (code, file.exists()) == (2, False)


def test_one_that_could_not_be_written_down_is_said_to_be_nobodys(
    api: Api, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_full(_: int, __: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    file = tmp_path / "ci.key"
    with monkeypatch.context() as patched:
        patched.setattr(keys_command, "os", SimpleNamespace(**{**vars(os), "write": is_full}))
        code, _, err = run("root-key", "keys", "create", "ci", "--role", "operator", "--to", str(file))
    assert (code != 0, file.exists()) == (True, False)
    assert "No space left on device" in err
    assert "headrace keys revoke ci" in err
    assert api.v1("root-key", "GET", "/keys").json()["keys"][0]["name"] == "ci"


def test_a_key_alone_is_what_a_shell_takes(api: Api, run: Any) -> None:
    code, out, err = run("root-key", "keys", "create", "ci", "--role", "operator", "--expires-in", "never")
    assert code == 0, err
    assert api.v1(out.strip(), "GET", "/whoami").json() == {"name": "ci", "role": "operator", "expires_at": None}


def test_the_doctor_says_whose_key_it_is(run: Any) -> None:
    code, out, _ = run("root-key", "doctor")
    assert code == 0
    assert "the key is taken: file-1, with the role admin" in out
