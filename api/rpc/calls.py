"""What each rpc does, and the role that it needs: one table. They translate, and nothing else."""

from __future__ import annotations

import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from api import views
from api.reads import PAGE_LIMIT, Reads, phase_of
from api.rpc.calling import Call, Waits
from headrace import metrics
from headrace.bootstrap import Services
from headrace.domain.api_keys import Role
from headrace.domain.jobs import JobKey
from headrace.domain.log_requests import parse_log_request
from headrace.domain.operations import KINDS, Kind, Source
from headrace.errors import InvalidRequest, Unavailable
from headrace.ports import LogStream
from headrace.services.accept import LONGEST_KEY

View = Mapping[str, Any]
Answer = Callable[[Call], Any]
"""To a view; of an rpc that streams, to one after the other."""

VERSIONS_LIMIT = 100
FOLLOWED_AT_ONCE = 16
"""A log that is followed holds a thread."""

LOG_WORDS = ("component", "pod", "container", "tail", "since", "previous", "follow", "timestamps")
ENVELOPE = ("job_id", "idempotency_key", "wait_seconds", "dry_run")
"""What a request of an operation has beside its kind's arguments."""


@dataclass(frozen=True)
class Rpc:
    """One rpc: who may call it, and what it answers."""

    role: Role
    answer: Answer

    @property
    def writes(self) -> bool:
        """Whether it does more than read."""
        return self.role is not Role.VIEWER


def name_of(kind: Kind) -> str:
    """The name of a kind's rpc."""
    return kind.word.capitalize()


def table(services: Services, tenant: str, wait_limit_seconds: float) -> Mapping[str, Rpc]:
    """Every rpc by its name."""
    operations = Operations(services, tenant, wait_limit_seconds)
    reads = Reads(services, tenant)
    writes: dict[str, Answer] = {name_of(kind): partial(operations.asked, kind) for kind in KINDS.values()}
    writes |= {
        "ApplyTemplate": lambda call: _template(reads.register(call.given.get("template") or {})),
        "DisposeSavepoint": lambda call: views.savepoint_view(services.dispose.ask(tenant, _named(call, "path"))),
    }
    read: dict[str, Answer] = {
        "GetOperation": operations.one,
        **_of_jobs(reads),
        **_of_templates(reads),
        "ListRuntimes": lambda _: reads.runtimes(),
        **_inspected(services, tenant),
    }
    return {
        **{name: Rpc(Role.OPERATOR, answer) for name, answer in writes.items()},
        **{name: Rpc(Role.VIEWER, answer) for name, answer in read.items()},
    }


class Operations:
    """Asks for operations, and waits for their ends."""

    def __init__(self, services: Services, tenant: str, wait_limit_seconds: float) -> None:
        self._accept = services.accept.operation
        self._foresee = services.foresee.operation
        self._reads = Reads(services, tenant)
        self._tenant = tenant
        self._waits = Waits(services.records.operation, wait_limit_seconds)

    def asked(self, kind: Kind, call: Call) -> View:
        """What was accepted, once the wait is over; of a dry run what would come of it."""
        job_id, key, wait, dry_run = (call.given.get(name) for name in ENVELOPE)
        arguments = {name: each for name, each in call.given.items() if name not in ENVELOPE}
        seconds, source = _seconds(wait), Source(via="grpc", detail={"by": call.caller.name})
        if key is not None and not 1 <= len(key) <= LONGEST_KEY:
            raise InvalidRequest({"idempotency_key": f"must have 1 to {LONGEST_KEY} characters"})
        if dry_run:
            found = self._foresee(kind.name, job_id, arguments, tenant=self._tenant, source=source)
            return {"job_id": found.job_id, "foresight": views.foresight_view(found)}
        with metrics.ACCEPT_SECONDS.labels("grpc").time():
            accepted = self._accept(kind.name, job_id, arguments, tenant=self._tenant, key=key, source=source)
        return self._reads.answer(self._waits.ended(accepted.operation, seconds, call), accepted)

    def one(self, call: Call) -> View:
        """An operation, once the wait is over."""
        seconds, operation = (
            _seconds(call.given.get("wait_seconds")),
            self._reads.operation(_named(call, "operation_id")),
        )
        return self._reads.answer(self._waits.ended(operation, seconds, call))


def _of_jobs(reads: Reads) -> dict[str, Callable[[Call], View]]:
    def jobs(call: Call) -> View:
        phase, brief = phase_of(call.given.get("phase")), bool(call.given.get("brief"))
        return reads.jobs(phase, _limit(call), call.given.get("cursor"), brief=brief)

    def versions(call: Call) -> View:
        limit, below = _limit(call, 50, VERSIONS_LIMIT), _number(call, "cursor")
        return reads.versions(_named(call, "job_id"), limit, below)

    def version(call: Call) -> View:
        job_id, number = _named(call, "job_id"), _number(call, "version")
        if number is None:
            raise InvalidRequest({"version": "is missing: say which one is meant"})
        return reads.version(job_id, number)

    return {
        "GetJob": lambda call: reads.job(_named(call, "job_id")),
        "ListJobs": jobs,
        "ListOperations": lambda call: reads.operations(_named(call, "job_id")),
        "ListTransitions": lambda call: reads.transitions(_named(call, "job_id")),
        "ListVersions": versions,
        "GetVersion": version,
        "ListSavepoints": lambda call: reads.savepoints(
            call.given.get("job_id"), _limit(call), call.given.get("cursor")
        ),
    }


def _of_templates(reads: Reads) -> dict[str, Callable[[Call], View]]:
    def templates(call: Call) -> View:
        page = reads.templates(_limit(call), call.given.get("cursor"))
        return {**page, "templates": [_template(each) for each in page["templates"]]}

    return {
        "GetTemplate": lambda call: _template(reads.template(_named(call, "template_id"), _number(call, "version"))),
        "ListTemplates": templates,
    }


def _template(body: View) -> View:
    return {"template_id": body["template_id"], "version": body["version"], "body": body}


def _inspected(services: Services, tenant: str) -> dict[str, Answer]:
    inspect, followed = services.inspect, Followed()

    def log(call: Call) -> Iterator[View]:
        words = {name: _word(call.given[name]) for name in LOG_WORDS if name in call.given}
        key, asked = JobKey(tenant, _named(call, "job_id")), parse_log_request(words)
        with followed.place(asked.follow):
            answer = inspect.logs(key, asked)
            yield {"pod": answer.pod, "container": answer.container, "has_ended": answer.has_ended}
            for piece in _pieces(answer.body, call):
                yield {"text": b64encode(piece).decode()}  # so JSON has bytes

    def who(call: Call) -> View:
        caller = call.caller
        return {"name": caller.name, "role": caller.role, "expires_at": caller.expires_at}

    return {
        "ListEvents": lambda call: views.events_view(inspect.events(JobKey(tenant, _named(call, "job_id")))),
        "ListExceptions": lambda call: views.exceptions_view(
            inspect.exceptions(JobKey(tenant, _named(call, "job_id")))
        ),
        "ReadLog": log,
        "WhoAmI": who,
    }


class Followed:
    """The logs that are followed now."""

    def __init__(self) -> None:
        self._places = threading.BoundedSemaphore(FOLLOWED_AT_ONCE)

    @contextmanager
    def place(self, is_followed: bool) -> Iterator[None]:
        """A place, where one is needed. Raises Unavailable where no further log can be followed now."""
        if is_followed and not self._places.acquire(blocking=False):
            raise Unavailable(f"{FOLLOWED_AT_ONCE} logs are followed by gRPC now; try later, or without follow")
        try:
            yield
        finally:
            if is_followed:
                self._places.release()


def _pieces(body: LogStream, call: Call) -> Iterator[bytes]:
    """The log until it ends or its reader goes, also while nothing comes: what waits for its next line is woken."""

    def closed() -> None:
        call.left.wait()
        body.close()

    threading.Thread(target=closed, name="follow", daemon=True).start()
    yield from body


def _seconds(wait: float | None) -> float:
    if wait is not None and wait < 0:
        raise InvalidRequest({"wait_seconds": "must be 0 or more"})
    return wait or 0.0


def _named(call: Call, field: str) -> str:
    name = call.given.get(field)
    if not name:
        raise InvalidRequest({field: "is missing: say which one is meant"})
    return str(name)


def _number(call: Call, field: str) -> int | None:
    number = call.given.get(field)
    if number is not None and number < 1:
        raise InvalidRequest({field: "must be 1 or more"})
    return number


def _limit(call: Call, otherwise: int = 100, most: int = PAGE_LIMIT) -> int:
    limit = call.given.get("limit", otherwise)
    if not 1 <= limit <= most:
        raise InvalidRequest({"limit": f"must be a whole number from 1 to {most}"})
    return int(limit)


def _word(value: Any) -> str:
    """As a query of HTTP has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
