"""`./run bench kafka`: records of a topic that become durable operations in a second, against a bare loop that consumes
and inserts in bulk, with the same indexes and the same write concern.

Both read the same records, SUBMITs of new jobs, from their first to the committed offset behind their last. Each
consumer is a process of its own. The broker is Apache Kafka where KAFKA_HOME names one, else the laptop's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bson import json_util
from confluent_kafka import Consumer, Producer
from pymongo import MongoClient

from benchmarks.installation import SUBMIT, Installation, running
from benchmarks.rounds import HEADRACE, Comparison, Goal, Round, in_turns, options, told
from consumer.loop import Loop
from headrace import bootstrap, settings
from headrace.adapters.kafka import Broker, DeadLetters, Record, RecordConsumer, Topics
from headrace.adapters.mongo.store import DURABLE
from tests.support import servers
from tests.support.workers import ROOT

BARE = "bare"
RATE = "records/s"
GOALS = (Goal(RATE, BARE, least=0.5),)
BOUND_SECONDS = 30.0
BULK = 500
"""Records that the bare side inserts at once."""


def main(argv: Sequence[str]) -> int:
    """Measures and says; exit code 0."""
    parser = options("kafka", __doc__)
    parser.add_argument("--records", type=int, default=1000, help="in a round")
    parser.add_argument("--side", nargs=3, metavar=("SIDE", "TOPIC", "COUNT"), help=argparse.SUPPRESS)
    parser.add_argument("--broker", help=argparse.SUPPRESS)
    asked = parser.parse_args(argv)
    if asked.side:
        name, topic, count = asked.side
        print(CONSUMING[name](asked.broker, topic, int(count)))
        return 0
    with running() as where:
        return told(measured(where, asked.rounds, asked.records), asked)


def measured(where: Installation, rounds: int, count: int) -> Comparison:
    """A topic for each round, which both sides read."""
    is_real = (Path(os.environ.get("KAFKA_HOME", "")) / "libs").is_dir()
    command = (servers.real_kafka if is_real else servers.laptop_kafka)(where.folder / "kafka")
    where.stack.enter_context(servers.running(command, where.folder))
    filled: dict[int, str] = {}

    def topic_of(number: int) -> str:
        if number not in filled:
            filled[number] = fill(command.address, count if number else 20)
        return filled[number]

    def side(name: str) -> Round:
        def measure(number: int) -> Mapping[str, float]:
            found = consume(where, name, command.address, topic_of(number), count if number else 20)
            keep_record(where)
            return {RATE: found}

        return measure

    title = f"{RATE} from {'Apache Kafka' if is_real else 'the laptop broker'} to durable operations, {count} a round"
    return in_turns(title, {HEADRACE: side(HEADRACE), BARE: side(BARE)}, GOALS, rounds)


def fill(broker: str, count: int) -> str:
    """A topic of its own with so many SUBMITs of new jobs."""
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    Topics(Broker(broker), BOUND_SECONDS).ensure([topic, f"{topic}.dead-letters"])
    producer = Producer({"bootstrap.servers": broker, "acks": "all"})
    for _ in range(count):
        job_id = f"job-{uuid.uuid4().hex[:12]}"
        producer.produce(topic, json.dumps({"operation": "SUBMIT", "job_id": job_id, **SUBMIT}).encode())
    producer.flush(BOUND_SECONDS)
    return topic


def consume(where: Installation, side: str, broker: str, topic: str, count: int) -> float:
    """Records in a second, as a process of this side measured; none may be lost."""
    env = {**os.environ, **where.env(side), "BARE_RECORDS": str(where.folder / "records.json")}
    env |= {"HEADRACE_KAFKA_BOOTSTRAP_SERVERS": broker, "HEADRACE_KAFKA_TOPIC": topic}
    argv = [sys.executable, "-m", "benchmarks.kafka", "--broker", broker, "--side", side, topic, str(count)]
    before = stored(where, side)
    done = subprocess.run(argv, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True, timeout=600)
    assert stored(where, side) - before == count, f"{side} lost records, or took some twice"
    return float(done.stdout)


def stored(where: Installation, side: str) -> int:
    """Operations on record."""
    with where.records(side) as database:
        return int(database.operations.count_documents({}))


def keep_record(where: Installation) -> None:
    """What Headrace stored is what the bare side stores, under other names."""
    file = where.folder / "records.json"
    if not file.exists():
        with where.records(HEADRACE) as database:
            file.write_text(json_util.dumps(database.operations.find_one()))


class _Timed(RecordConsumer):
    """The product's consumer, which notes when its first record came and when each was committed."""

    first_at = 0.0
    committed = 0
    committed_at = 0.0

    def poll(self, timeout_seconds: float) -> Record | None:
        record = super().poll(timeout_seconds)
        self.first_at = self.first_at or (time.monotonic() if record is not None else 0.0)
        return record

    def commit_done(self) -> None:
        reached = max(self._done.values(), default=0)
        super().commit_done()
        self.committed, self.committed_at = max(self.committed, reached), time.monotonic()


def by_headrace(broker: str, topic: str, count: int) -> float:
    """The product's loop, as its process runs it, in one partition."""
    given = settings.load()
    services = bootstrap.services(given)
    consumer = _Timed(Broker(broker), topic, "headrace", BOUND_SECONDS)
    letters = DeadLetters(Broker(broker), given.dead_letters_topic, BOUND_SECONDS)
    try:
        Loop(consumer, letters, services.handle_record, services.triggers).run(lambda: consumer.committed >= count)
    finally:
        consumer.close()
    return count / (consumer.committed_at - consumer.first_at)


def bare(broker: str, topic: str, count: int) -> float:
    """Consume, insert in bulk, commit."""
    client: MongoClient[dict[str, Any]] = MongoClient(os.environ["HEADRACE_MONGODB_URL"])
    database = client.get_database(os.environ["HEADRACE_MONGODB_DATABASE"], write_concern=DURABLE)
    copied = json_util.loads(Path(os.environ["BARE_RECORDS"]).read_text())
    options = {"group.id": "bare", "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    consumer = Consumer({"bootstrap.servers": broker, **options})
    consumer.subscribe([topic])
    done, first_at = 0, 0.0
    while done < count:
        messages = consumer.consume(BULK, timeout=1.0)
        if not messages:
            continue
        first_at = first_at or time.monotonic()
        database.operations.insert_many([_operation(copied, message) for message in messages], ordered=False)
        consumer.commit(message=messages[-1], asynchronous=False)
        done += len(messages)
    consumer.close()
    client.close()
    return count / (time.monotonic() - first_at)


def _operation(copied: Mapping[str, Any], message: Any) -> dict[str, Any]:
    record = json.loads(message.value())
    key = f"{message.topic()}/{message.partition()}/{message.offset()}"
    named = {"_id": str(uuid.uuid4()), "idempotency_key": key, "job_id": record["job_id"], "is_unplaced": True}
    return {**copied, **named}


CONSUMING = {HEADRACE: by_headrace, BARE: bare}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
