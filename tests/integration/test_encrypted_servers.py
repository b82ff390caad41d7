"""Servers that are spoken to by TLS and with a login: work goes through them, and through no other than was meant."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from confluent_kafka import Producer

from headrace.adapters.celery_queue import CeleryQueue
from headrace.adapters.celery_queue import redis as redis_at
from headrace.adapters.kafka import Broker, DeadLetters, KafkaLetterBox, RecordConsumer, Security, Topics, broker
from headrace.adapters.mongo import connect
from headrace.domain.operations import State
from headrace.errors import ConfigurationError, Unavailable
from tests.integration.conftest import installed
from tests.support import servers, workers
from tests.support.certificates import Certificates, certificates, speaking_tls
from tests.support.clusters import Cluster
from tests.support.patience import wait_for

PASSWORD = "canary-of-the-broker-7c1e"
BOUND_SECONDS = 15.0


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Those of an authority that nobody here trusts."""
    return certificates(tmp_path_factory.mktemp("strange"))


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    return private(tmp_path / "password", PASSWORD)


def private(file: Path, text: str) -> Path:
    file.touch(mode=0o600)
    file.write_text(f"{text}\n")
    return file


@pytest.fixture(scope="module")
def guarded_kafka(tmp_path_factory: pytest.TempPathFactory, own: Certificates) -> Iterator[str]:
    """Apache Kafka that takes TLS and a SCRAM login alone."""
    folder = tmp_path_factory.mktemp("kafka")
    command = servers.guarded_kafka(folder, own, "headrace", PASSWORD)
    with servers.running(command, folder):
        yield command.address


def guarded(address: str, own: Certificates, password_file: Path) -> Broker:
    security = Security(protocol="SASL_SSL", username="headrace", password_file=password_file, ca_file=own.authority)
    return broker(address, security)


def test_records_and_dead_letters_go_through_a_kafka_with_tls_and_a_login(
    guarded_kafka: str, own: Certificates, password_file: Path
) -> None:
    at = guarded(guarded_kafka, own, password_file)
    Topics(at, BOUND_SECONDS).ensure(["records", "letters"])
    producer = Producer(at.client)
    producer.produce("records", b'{"operation": "STOP"}', b"a")
    assert producer.flush(BOUND_SECONDS) == 0
    consumer = RecordConsumer(at, "records", "headrace", BOUND_SECONDS)
    try:
        consumer.follow([])
        record = wait_for("the record", lambda: consumer.poll(1.0))
        DeadLetters(at, "letters", BOUND_SECONDS).put(record, "it is a test's")
    finally:
        consumer.close()
    (letter,) = KafkaLetterBox(at, "letters", BOUND_SECONDS).newest(10)
    assert letter.reason == "it is a test's"
    assert PASSWORD not in repr(at)


def test_a_wrong_login_or_a_stranger_in_kafkas_place_is_waited_for_and_named(
    guarded_kafka: str, own: Certificates, strange: Certificates, tmp_path: Path, password_file: Path
) -> None:
    wrong = guarded(guarded_kafka, own, private(tmp_path / "wrong", "another-password"))
    with pytest.raises(Unavailable, match=guarded_kafka):
        Topics(wrong, 5.0).ensure(["records"])
    with pytest.raises(Unavailable, match=guarded_kafka):
        Topics(guarded(guarded_kafka, strange, password_file), 5.0).ensure(["records"])
    with pytest.raises(Unavailable):
        Topics(Broker(guarded_kafka), 5.0).ensure(["records"])


def test_a_job_is_stopped_through_a_redis_and_a_mongodb_with_tls(
    own: Certificates,
    mongodb_url: str,
    redis_url: str,
    tmp_path: Path,
    clusters: Callable[[str], Cluster],
) -> None:
    place = clusters("local")
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("requirepass", PASSWORD)
    redis_port, mongodb_port = (urlsplit(url).port for url in (redis_url, mongodb_url))
    assert redis_port is not None
    assert mongodb_port is not None
    with speaking_tls(redis_port, own) as before_redis, speaking_tls(mongodb_port, own) as before_mongodb:
        encrypted = {
            "HEADRACE_REDIS_URL": f"rediss://:{PASSWORD}@127.0.0.1:{before_redis}/0",
            "HEADRACE_REDIS_CA_FILE": str(own.authority),
            "HEADRACE_MONGODB_URL": f"mongodb://127.0.0.1:{before_mongodb}/?directConnection=true&tls=true&tlsCAFile={own.authority}",
        }
        login = f"redis://:{PASSWORD}@127.0.0.1:{redis_port}/0"
        with installed(tmp_path, mongodb_url, login, place, **encrypted) as made:
            made.worker()
            made.beat()
            made.submit("by-tls")
            wait_for("its deployment", lambda: place.runtime.get("default", "by-tls"))
            made.send("flink.stop", job_id="by-tls")
            wait_for("both to end", lambda: _states(made.operations("by-tls")))
            log = "".join(file.read_text(errors="replace") for file in tmp_path.rglob("*.log"))
            assert PASSWORD not in log


def _states(operations: list) -> bool:
    return len(operations) == 2 and all(each.state not in (State.ACCEPTED, State.RUNNING) for each in operations)


def test_a_stranger_in_the_place_of_redis_or_mongodb_is_told_nothing(
    own: Certificates, strange: Certificates, mongodb_url: str, redis_url: str
) -> None:
    redis_port, mongodb_port = (urlsplit(url).port for url in (redis_url, mongodb_url))
    with redis.Redis.from_url(redis_url) as client:
        client.rpush("flink.executions", "a wake-up")
    with speaking_tls(redis_port, own) as before_redis, speaking_tls(mongodb_port, own) as before_mongodb:
        url = f"rediss://127.0.0.1:{before_redis}/0"
        assert CeleryQueue(redis_at(url, 5.0, own.authority)).waiting() == 1
        assert CeleryQueue(redis_at(url, 5.0, strange.authority)).waiting() == 0, "it was not asked"
        assert CeleryQueue(redis_at(url, 5.0)).waiting() == 0, "the system's authorities did not sign it"
        for authority in (strange.authority, None):
            file = f"&tlsCAFile={authority}" if authority else ""
            store = connect(
                f"mongodb://127.0.0.1:{before_mongodb}/?directConnection=true&tls=true{file}", "headrace", 3.0
            )
            with pytest.raises(Unavailable):
                store.ping()
            store.close()


FILE = "FILE"
KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: a
contexts: [{name: a, context: {cluster: a, user: a}}]
clusters: [{name: a, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: a, user: {token: a}}]
"""


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"HEADRACE_KAFKA_SECURITY_PROTOCOL": "TLS"}, "HEADRACE_KAFKA_SECURITY_PROTOCOL"),
        ({"HEADRACE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "HEADRACE_KAFKA_USERNAME is not set"),
        (
            {"HEADRACE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "HEADRACE_KAFKA_USERNAME": "a"},
            "HEADRACE_KAFKA_PASSWORD_FILE is not set",
        ),
        ({"HEADRACE_KAFKA_USERNAME": "a"}, "set it to a SASL_ protocol"),
        ({"HEADRACE_KAFKA_CA_FILE": FILE}, "set it to SSL or SASL_SSL"),
        ({"HEADRACE_KAFKA_SECURITY_PROTOCOL": "SSL", "HEADRACE_KAFKA_CA_FILE": "/none"}, "/none cannot be read"),
        ({"HEADRACE_REDIS_CA_FILE": FILE}, "does not begin with rediss://"),
        ({"HEADRACE_REDIS_URL": "rediss://a", "HEADRACE_REDIS_CA_FILE": "/none"}, "/none cannot be read"),
    ],
)
def test_what_would_go_in_the_clear_or_nowhere_ends_the_start_with_one_line(
    given: dict[str, str], words: str, tmp_path: Path
) -> None:
    (file := tmp_path / "ca.pem").write_text("")
    said = {name: str(file) if value == FILE else value for name, value in given.items()}
    (kubeconfig := tmp_path / "kubeconfig").write_text(KUBECONFIG)
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(workers.ROOT), "HEADRACE_KUBECONFIG": str(kubeconfig), **said}
    ended = subprocess.run(
        [sys.executable, "-m", "consumer"], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert words in line


@pytest.mark.parametrize(("content", "mode"), [("", 0o600), ("a\nb\n", 0o600), (PASSWORD, 0o644)])
def test_a_password_stands_alone_in_a_file_of_its_own(tmp_path: Path, content: str, mode: int) -> None:
    file = private(tmp_path / "password", content)
    file.chmod(mode)
    security = Security(protocol="SASL_PLAINTEXT", username="headrace", password_file=file)
    with pytest.raises(ConfigurationError, match=r"^HEADRACE_KAFKA_PASSWORD_FILE: ") as raised:
        broker("a:1", security)
    assert PASSWORD not in str(raised.value)
    file.chmod(0o600)
    file.write_text(f"{PASSWORD}\n")
    assert broker("a:1", security).options["sasl.password"] == PASSWORD
    plain = dataclasses.replace(security, protocol="PLAINTEXT", username="", password_file=None)
    assert broker("a:1", plain).client == {"bootstrap.servers": "a:1"}
