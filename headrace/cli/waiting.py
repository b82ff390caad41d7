"""Waiting for a job's phase, an operation's end, or any change, while the API may be away for a moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headrace.cli import exits, output
from headrace.cli.output import Column, Format
from headrace.domain.jobs import SETTLED, Phase
from headrace.errors import Unavailable

if TYPE_CHECKING:
    from headrace.client import Client

POLL_SECONDS = 1.0
WATCH_SECONDS = 2.0
FAILED = (Phase.FAILED, Phase.REJECTED)

Json = dict[str, Any]


def outcome(status: str, wanted: Phase) -> int | None:
    """The exit code for a job in this phase; None while the wanted one may come by itself."""
    if status == wanted:
        return exits.DONE
    if status in FAILED:
        return exits.JOB_FAILED
    return exits.ENDED_OTHERWISE if status in SETTLED else None


def for_phase(client: Client, job_id: str, wanted: Phase, timeout_seconds: float) -> int:
    """Waits until the job is in the phase or cannot come to it any more, and says how that ended. Raises NotFound."""
    until = time.monotonic() + timeout_seconds
    job: Json = {"status": None, "reason": ""}
    while True:
        job = _patiently(lambda: client.job(job_id), until) or job
        code = outcome(str(job["status"]), wanted)
        if code == exits.DONE:
            print(job["status"])
            return exits.DONE
        if code is not None:
            why = job["reason"] or "no reason given"
            output.say(f"job {job_id} is {job['status']}, and will not be {wanted} by itself: {why}")
            return code
        if time.monotonic() >= until:
            seen = f"is {job['status']}" if job["status"] else "could not be seen"
            output.say(f"job {job_id} {seen} after {timeout_seconds:g} s: {job['reason'] or 'no reason given'}")
            return exits.TIMED_OUT
        time.sleep(min(POLL_SECONDS, max(0.0, until - time.monotonic())))


def for_end(client: Client, operation_id: str, timeout_seconds: float) -> Json | None:
    """The answer of an operation that has ended; None where it has not within the time."""
    until = time.monotonic() + timeout_seconds
    while True:
        left = max(0.0, until - time.monotonic())
        answer = _patiently(lambda: client.await_operation(operation_id, left), until)  # noqa: B023 - called at once
        if answer is not None or time.monotonic() >= until:
            return answer
        time.sleep(min(POLL_SECONDS, max(0.0, until - time.monotonic())))


def _patiently(ask: Callable[[], Json | None], until: float) -> Json | None:
    """The answer; None, with a line of why, where the API does not answer and there is time left."""
    try:
        return ask()
    except Unavailable as error:
        if time.monotonic() >= until:
            raise
        output.say(f"waiting: {error}")
        return None


def watch(look: Callable[[], Sequence[Mapping[str, Any]]], form: Format, columns: Sequence[Column], name: str) -> None:
    """Prints what `look` finds, and again what of it has changed, until Ctrl-C. `name` tells the rows apart."""
    table = output.Table(columns, form if form.is_table else Format.WIDE)
    seen: dict[Any, tuple[Any, ...]] = {}
    is_first = True
    while True:
        try:
            rows = look()
        except Unavailable as error:
            if is_first:
                raise
            output.say(f"waiting: {error}")
        else:
            changed = [row for row in rows if seen.get(row[name]) != table.settled(row)]
            seen |= {row[name]: table.settled(row) for row in changed}
            if form.is_table and (changed or is_first):
                table.show(changed)
            elif not form.is_table:
                _show_each(changed, form, columns, name)
            is_first = False
        time.sleep(WATCH_SECONDS)


def _show_each(rows: Sequence[Mapping[str, Any]], form: Format, columns: Sequence[Column], name: str) -> None:
    """Each as a document of its own."""
    for row in rows:
        if form is Format.YAML:
            print("---")
        output.show(row, form, columns, name)
