"""The OpenAPI document, held to what the API does: drawn requests, the wrong ones too, are answered with a status that
it names, in the form that it gives, and never with a 5xx. Over in-memory ports.

HEADRACE_TESTS_REQUESTS says how many requests are drawn for each operation.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import allow_header_conformance, positive_data_acceptance

from api.access import gate
from api.app import BASE, create_app
from headrace.bootstrap import wired
from headrace.settings import Settings
from headrace.testing import (
    FixedClock,
    InMemoryJobManager,
    InMemoryQueue,
    InMemoryRuntime,
    InMemoryStore,
    ReversingSealer,
)
from tests.support.world import SCRIPT, World

COUNT = int(os.environ.get("HEADRACE_TESTS_REQUESTS", "10"))
KEY = {"Authorization": "Bearer an-admins-key"}
NAMES = {"job_id": ("orders", "gone"), "template_id": ("counting",), "name": ("uploads", "ci"), "number": (1,)}
RULE = {"name": "uploads", "topic": "uploads", "action": {"operation": "STOP", "job_id": "${data.job}"}}
TEMPLATE = {"template_id": "counting", "type": "PYTHON_SCRIPT", "script": SCRIPT}


SUBMIT = {"job_id": "orders", "job_config": {"script": SCRIPT}}
FIT: Mapping[str, Mapping[str, Any]] = {
    "/jobs/submit": SUBMIT,
    "/jobs/render": SUBMIT,
    "/templates": TEMPLATE,
    "/triggers": RULE,
    "/keys": {"name": "ci", "role": "viewer", "expires_in_days": 1},
    "/jobs/{job_id}/scale": {"parallelism": 2},
    "/jobs/{job_id}/upgrade": {"job_config": {"args": ["--fast"]}},
    "/jobs/{job_id}/rollback": {"to": 1},
    **{f"/jobs/{{job_id}}/{word}": {} for word in ("restart", "savepoint", "suspend")},
}
"""What is taken where names are free: each of them is given another time by time; what is asked of a job, of one that
nobody else asks anything of."""

NUMBERS = count()
DRAWN_NAMES: Mapping[str, Callable[[], Mapping[str, str]]] = {
    "job_id": lambda: {"job_id": f"job-{next(NUMBERS)}"},
    "name": lambda: {"name": f"name-{next(NUMBERS)}"},
}
OF_TWO_PATHS = [positive_data_acceptance, allow_header_conformance]
UNFIT = {"": [positive_data_acceptance], "/jobs/submit": OF_TWO_PATHS, "/jobs/render": OF_TWO_PATHS}
"""What is not checked: a schema cannot say every rule, and a GET of these two asks of a job that has that name."""


def of_its_own(path: str) -> str:
    """The job of this route alone."""
    return f"for-{path.rpartition('/')[2]}"


def app_over_a_world() -> Any:
    """The API with something to find in it, whose waits are short."""
    store, runtime, queue = InMemoryStore(), InMemoryRuntime(), InMemoryQueue()
    job_manager, clock = InMemoryJobManager(), FixedClock()
    store.clock = clock
    services = wired(
        Settings(follow_limit_seconds=0.05, _env_file=None),
        store=store,
        queue=queue,
        runtime=runtime,
        job_manager=job_manager,
        clock=clock,
        sealer=ReversingSealer(),
    )
    world = World(services, store, runtime, queue, job_manager, clock)
    services.register.template(TEMPLATE, "default")
    services.triggers.apply(RULE)
    services.api_keys.create({"name": "ci", "role": "viewer", "expires_in_days": 1}, by="file-1")
    for job_id in (*NAMES["job_id"], *(of_its_own(path) for path in FIT if "{job_id}" in path)):
        world.runs(job_id)
        world.shows_pod({"running": {"startedAt": "2026-01-01T00:00:00Z"}}, job_id=job_id)
        world.runtime.print_line(f"{job_id}-jm", "flink-main-container", "it runs", at=clock.now())
    return create_app(services, gate(services, [b"an-admins-key"]), tenant="default", wait_limit_seconds=0.01)


def _known(name: str, value: Any) -> Any:
    known = NAMES.get(name, ())
    turn = len(str(value)) % (len(known) + 1)
    return known[turn - 1] if turn else value


app = app_over_a_world()
document = schemathesis.openapi.from_dict(app.openapi())
document.app = app
document.config.generation.with_security_parameters = False  # the key is sent with each


@pytest.mark.filterwarnings("ignore:Using `httpx` with")
@document.parametrize()
@settings(max_examples=COUNT, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_answer_is_one_that_the_document_names(case: Case) -> None:
    often_asks_for_what_can_be(case)
    case.call_and_validate(headers=KEY, excluded_checks=UNFIT.get(case.path.removeprefix(BASE), UNFIT[""]))


def often_asks_for_what_can_be(case: Case) -> None:
    """No schema says what is there, nor all that a program or a rule needs: what is drawn by it alone would seldom be
    taken."""
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    case.path_parameters = {name: _known(name, value) for name, value in (case.path_parameters or {}).items()}
    body = FIT.get(case.path.removeprefix(BASE)) if case.method == "POST" else None
    if body is None or len(str(case.body)) % 3 == 0:
        return
    if "{job_id}" in case.path:
        case.path_parameters = {"job_id": of_its_own(case.path)}
    case.body, case.media_type = {**body, **DRAWN_NAMES.get(next(iter(body), ""), dict)()}, "application/json"


HOSTILE_BODIES = {
    "nothing": b"",
    "NUL": b"\0",
    "NUL in text": b'{"job_id": "a\\u0000b", "name": "a\\u0000b", "template_id": "a\\u0000b"}',
    "no UTF-8": b'{"job_id": "\xff"}',
    "half of a surrogate pair": b'{"job_id": "\\ud800", "name": "\\ud800", "template_id": "\\ud800"}',
    "a number beyond all": b'{"parallelism": 1e999, "version": 1e999}',
    "a number of many digits": b'{"parallelism": ' + b"9" * 5000 + b"}",
    "not a number": b'{"parallelism": NaN}',
    "a list": b"[1]",
    "nested deeper than is read": b'{"job_config": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a name twice": b'{"name": "a", "name": "b", "job_id": 1, "job_id": 2}',
    "cut off": b'{"job_config": {',
}
HOSTILE_WORDS = ("%00", "%ed%a0%80", "9" * 400, "-1", "1e999", "%F0%9F%92%A9", "..%2F..%2Fetc")
PLACE = re.compile(r"\{[a-z_]+\}")
ROUTES = [(path, method) for path, methods in app.openapi()["paths"].items() for method in methods]


@pytest.mark.parametrize(("path", "method"), ROUTES)
def test_what_no_reader_could_use_is_refused_in_words(path: str, method: str) -> None:
    """In bodies, in paths and in queries. What is no hostile word to a route, it may take."""
    named = app.openapi()["paths"][path][method]
    queries = [each["name"] for each in named.get("parameters", ()) if each["in"] == "query"]
    sent: list[tuple[str, bytes]] = []
    if "requestBody" in named:
        sent += [(PLACE.sub("orders", path), body) for body in HOSTILE_BODIES.values()]
    sent += [(PLACE.sub(word, path), b"") for word in HOSTILE_WORDS if PLACE.search(path)]
    sent += [(f"{PLACE.sub('orders', path)}?{name}={word}", b"") for name in queries for word in HOSTILE_WORDS]
    for (url, body), answer in zip(sent, asyncio.run(answers(method, sent)), strict=True):
        assert answer.status_code < 500, (method, url, body[:60], answer.text)
        known = {*named["responses"], "404", "405"}  # a word may make it another path, which no route has
        assert str(answer.status_code) in known, (method, url, body[:60], answer.status_code)
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["detail"], (method, url)


async def answers(method: str, sent: Sequence[tuple[str, bytes]]) -> list[httpx.Response]:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=KEY) as client:
        return [await client.request(method, url, content=body) for url, body in sent]
