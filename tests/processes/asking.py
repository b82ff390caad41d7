"""How operations are asked for: by HTTP, Kafka and Celery, and by events that triggers know, as clients do that get no
answer at times. Each request and what came back goes into the history.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice
from typing import Any

import httpx
from celery import Celery
from confluent_kafka import KafkaException, Producer

from headrace.adapters.celery_queue import transport_options
from headrace.domain.jobs import NATIVE, OPERATOR
from headrace.domain.operations import KINDS, KindName
from tests.processes.history import Ask, History
from tests.processes.installation import ROOT, TOPIC, Installation
from tests.processes.somebodys import EVENTS, cloud_event, key_of_event, triggers

SCRIPT = {"name": "job.py", "content": "print(1)\n"}
COUNTING = {"name": "job.py", "content": (ROOT / "examples" / "counting_job.py").read_text()}
ADAPTIVE = {"jobmanager.scheduler": "adaptive"}
ANSWER_SECONDS = 40.0
PAUSE_SECONDS = 0.7
TRIES = 3
HTTP, KAFKA, CELERY, EVENT = "http", "kafka", "celery", "event"
WAYS = (HTTP,) * 6 + (KAFKA, CELERY) + (EVENT,) * 2
MOST_COPIES, EVENTS_AT_ONCE = 3, 3
"""Of one event, and of events about a job: nobody answers whether one came at a bad moment."""

Headers = list[tuple[str, bytes]]
STRUCTURED: Headers = [("content-type", b"application/cloudevents+json")]
ACCEPTED = (200, 202)


class Asking:
    """Asks, and writes down. Used from many threads."""

    def __init__(self, installation: Installation, history: History, names: list[str]) -> None:
        self._history = history
        self._names = names
        self._lock = threading.Lock()
        self._wanted = wanted_of_flink if installation.has_real_flink else wanted
        base = f"http://127.0.0.1:{installation.api_port}/api/v1/flink"
        headers = {"Authorization": f"Bearer {installation.api_key}"}
        self._http = httpx.Client(base_url=base, headers=headers, timeout=ANSWER_SECONDS, trust_env=False)
        self._producer = Producer(
            {"bootstrap.servers": installation.kafka, "acks": "all", "message.timeout.ms": 20_000, "log_level": 0}
        )
        self._celery = Celery(broker=installation.redis_url, set_as_current=False)
        self._celery.conf.broker_transport_options = transport_options(2.0)

    def close(self) -> None:
        """Lets go of its connections."""
        self._http.close()
        self._celery.close()

    def get(self, path: str, **query: Any) -> tuple[int, Any]:
        """What a reader gets."""
        answer = self._http.get(path, params=query, timeout=15)
        return answer.status_code, answer.json()

    def ask(self, job: int, value: int, number: int) -> None:
        """An operation on a job: by HTTP the first of several kinds that is not refused, by events a few, by the others
        one."""
        name, via = self._names[job], WAYS[value % len(WAYS)]
        several = self._wanted(value, job == len(self._names) - 1)
        for nth, (kind, arguments) in enumerate(islice(several, EVENTS_AT_ONCE) if via == EVENT else several):
            ask = self._noted(via, kind, name, arguments, f"{name}-{number}-{nth}")
            if not self._is_followed(ask, (value + nth) % MOST_COPIES + 1):
                return

    def _is_followed(self, ask: Ask, copies: int) -> bool:
        """Sends it; says whether another kind is to be asked for too."""
        match ask.via:
            case "http":
                return self._is_refused(ask)
            case "event":
                self._by_event(ask, copies)
                return True
            case "kafka":
                self._by_kafka(ask)
            case "celery":
                self._by_celery(ask)
        return False

    def _noted(self, via: str, kind: str, job_id: str, arguments: Mapping[str, Any], called: str) -> Ask:
        """The request as the history has it; an event's key is the one that its trigger makes."""
        event = called if via == EVENT else ""
        key = key_of_event(kind, arguments, event) if event else called
        ask = Ask(time.time(), key, via, kind, job_id, arguments, event=event)
        with self._lock:
            self._history.asks.append(ask)
        return ask

    def ask_again(self, value: int) -> None:
        """A request of before, as it was, by somebody who does not know what became of it."""
        with self._lock:
            asks = list(self._history.asks)
        if not asks:
            return
        ask = asks[value % len(asks)]
        if ask.event:
            self._by_event(ask, 1)
        else:
            self._by_http(ask)

    def _is_refused(self, ask: Ask) -> bool:
        status = self._by_http(ask)
        return status is not None and 400 <= status < 500

    def _by_http(self, ask: Ask) -> int | None:
        """The last answer's status; without one it is tried again under the same key."""
        status = None
        for _ in range(TRIES):
            status = self._posted(ask)
            if status is not None and status < 500:
                return status
            time.sleep(PAUSE_SECONDS)
        return status

    def _posted(self, ask: Ask) -> int | None:
        kind, body = KINDS[KindName(ask.kind)], dict(ask.arguments)
        path = f"/jobs/{kind.word}" if kind.begins_a_run else f"/jobs/{ask.job_id}/{kind.word}"
        begun = time.time()
        try:
            answer = self._http.post(
                path,
                json={"job_id": ask.job_id, **body} if kind.begins_a_run else body,
                headers={"Idempotency-Key": ask.key},
            )
        except httpx.HTTPError:
            return None
        finally:
            ask.longest_seconds = max(ask.longest_seconds, time.time() - begun)
        told = answer.json().get("operation") or {} if answer.status_code in ACCEPTED else {}
        with self._lock:
            ask.answers.append((answer.status_code, told.get("id", "")))
            if told and ask.answered_at is None:
                ask.answered_at, ask.sequence = time.time(), told["sequence"]
        return answer.status_code

    def _by_kafka(self, ask: Ask) -> None:
        record = {"operation": ask.kind, "job_id": ask.job_id, "idempotency_key": ask.key, **ask.arguments}
        self._produced(TOPIC, ask, [(json.dumps(record), [])])

    def _by_event(self, ask: Ask, copies: int) -> None:
        """The same CloudEvent so many times, in both of its forms."""
        event = cloud_event(ask.kind, ask.job_id, ask.arguments, ask.event)
        attributes = [(f"ce_{name}", str(text).encode()) for name, text in event.items() if name != "data"]
        forms = [(json.dumps(event), STRUCTURED), (json.dumps(event["data"]), attributes)]
        self._produced(EVENTS, ask, [forms[nth % len(forms)] for nth in range(copies)])

    def _produced(self, topic: str, ask: Ask, records: Sequence[tuple[str, Headers]]) -> None:
        def delivered(error: Any, _: Any) -> None:
            ask.is_sure = ask.is_sure or error is None

        with suppress(KafkaException, BufferError):
            for value, headers in records:
                self._producer.produce(topic, value, key=ask.key, headers=headers, on_delivery=delivered)
            self._producer.flush(25)

    def _by_celery(self, ask: Ask) -> None:
        """Nobody is told that it was accepted: where Redis loses it, it is lost."""
        fields = {"job_id": ask.job_id, "idempotency_key": ask.key, **ask.arguments}
        word = KINDS[KindName(ask.kind)].word
        with suppress(Exception):
            self._celery.send_task(
                f"flink.{word}", kwargs=fields, queue="flink.operations", ignore_result=True, retry=False
            )


def wanted_of_flink(value: int, is_somebodys: bool) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The same, with a program that counts, and that this machine can run."""
    config = {"script": COUNTING, "flink_configuration": {"execution.checkpointing.interval": "2s"}}
    for kind, arguments in wanted(value, is_somebodys):
        if kind == "SUBMIT":
            yield kind, {**arguments, "job_config": config}
        elif kind == "UPGRADE":
            yield kind, {"job_config": {"args": ["--rate", str(value % 20 + 1)]}}
        else:
            yield kind, {"parallelism": value % 2 + 1} if kind == "SCALE" else arguments


def rules(*, has_real_flink: bool) -> Sequence[Mapping[str, Any]]:
    """Triggers by which an event can ask for whatever is asked for here."""
    those = wanted_of_flink if has_real_flink else wanted
    return triggers(chain(those(0, False), those(0, True)))


def wanted(value: int, is_somebodys: bool) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What may be asked of a job, of one's own or of one that somebody has made, in an order that `value` turns."""
    asks = list(_of_somebodys(value) if is_somebodys else _of_ours(value))
    turn = (value // 10) % len(asks)
    yield from asks[turn:] + asks[:turn]


def _of_somebodys(value: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """It is adopted and released in turns, and changed meanwhile."""
    adopt, release = ("ADOPT", {}), ("RELEASE", {})
    scale = ("SCALE", {"parallelism": value % 3 + 2})
    yield from (adopt, release, adopt, scale, release, ("RESTART", {}), ("SAVEPOINT", {}), adopt, release)
    yield from (("SUSPEND", {}), ("RESUME", {}), scale, adopt, ("STOP", {"force": value % 7 == 0}))


def _of_ours(value: int) -> list[tuple[str, Mapping[str, Any]]]:
    """All kinds but those. What ends a run comes seldom: it ends all that waits before it."""
    program: dict[str, Any] = {"script": SCRIPT, "runtime": NATIVE if value // 7 % 2 else OPERATOR}
    program |= {"flink_configuration": ADAPTIVE} if value // 14 % 3 else {}
    submit = ("SUBMIT", {"job_config": program})
    from_last = ("SUBMIT", {"job_config": program, "start_from": "last"})
    return [
        ("SCALE", {"parallelism": value % 4 + 1}),
        submit,
        ("SAVEPOINT", {}),
        from_last,
        ("UPGRADE", {"job_config": {"args": [f"--step={value}"]}}),
        ("RESUME", {}),
        ("SUSPEND", {}),
        ("RESUME", {}),
        ("RESTART", {}),
        from_last,
        ("ROLLBACK", {"to": value % 3 + 1}),
        ("SCALE", {"parallelism": value % 3 + 2}),
        submit,
        ("SCALE", {"parallelism": value % 5 + 1}) if value // 28 % 2 else ("RESTART", {}),
        ("RESUME", {}),
        ("STOP", {"force": value % 7 == 0}),
        ("UNDELETE", {}),
        ("DELETE", {"force": value % 5 == 0}),
    ]
