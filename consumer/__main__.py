"""`python -m consumer`: one member of the consumer group, until SIGTERM."""

from __future__ import annotations

import signal
import sys
import threading
import time

from loguru import logger

from consumer.loop import Loop
from headrace import bootstrap, health, logs
from headrace import settings as settings_module
from headrace.adapters import prometheus
from headrace.adapters.kafka import DeadLetters, RecordConsumer, Topics
from headrace.errors import ConfigurationError, PermanentError, Unavailable
from headrace.health import Signs
from headrace.settings import Settings


def main() -> int:
    """Runs until SIGTERM. 1 with one line where settings are wrong, the port of /metrics is taken, or the broker ended
    this consumer."""
    try:
        settings = settings_module.load()
        services = bootstrap.services(settings)
        prometheus.serve(settings.metrics_host, settings.metrics_port)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 1
    logs.configure(settings, "consumer")
    logs.say_start(settings, "consumer")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    signs = Signs(settings.health_folder, "consumer")
    signs.look(health.MONGODB, services.store.ping)
    make_topics(settings, stopping, signs)
    broker, bound = bootstrap.broker_of(settings), settings.kafka_timeout_seconds
    consumer = RecordConsumer(broker, settings.kafka_topic, settings.kafka_group, bound)
    letters = DeadLetters(broker, settings.dead_letters_topic, bound)
    try:
        Loop(consumer, letters, services.handle_record, services.triggers, signs).run(stopping.is_set)
    except PermanentError as error:
        logger.error("{}", error)
        return 1
    finally:
        consumer.close()
    return 0


def make_topics(settings: Settings, stopping: threading.Event, signs: Signs) -> None:
    """Waits for the broker, however long, and makes the two topics where they are missing."""
    topics = Topics(bootstrap.broker_of(settings), settings.kafka_timeout_seconds)
    signs.look(health.KAFKA, topics.existing)
    told = False
    while not stopping.is_set():
        signs.give(health.LOOP)
        try:
            topics.ensure([settings.kafka_topic, settings.dead_letters_topic])
            return
        except Unavailable as error:
            if not told:
                logger.warning("waiting: {}", error)
            told = True
            time.sleep(1)


if __name__ == "__main__":
    raise SystemExit(main())
