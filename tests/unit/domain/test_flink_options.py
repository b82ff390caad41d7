"""Which options a job may set: those of its own run, under whichever key, and none that reaches beyond it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.domain.flink_options import (
    ALLOWED,
    ANYTHING,
    ELSEWHERE,
    OLDER_KEYS,
    covers,
    option_of,
    problems_of_configuration,
    without_given,
)
from headrace.domain.job_requests import parse_request
from headrace.domain.manifest import Stamp, render
from tests.support.given import FILE, ORDERS, PLATFORM

RETENTION = "execution.checkpointing.externalized-checkpoint-retention"
TAKEN: dict[str, Any] = {
    # An AWS role by the service account, and S3 by its plugin.
    "fs.s3a.endpoint": "s3.eu-central-1.amazonaws.com",
    "s3.endpoint": "http://minio:9000",
    "s3.path.style.access": True,
    "s3.entropy.key": "_entropy_",
    "presto.s3.max-connections": 200,
    "flink.hadoop.fs.s3a.connection.maximum": 100,
    "fs.gs.project.id": "project",
    "gs.writer.chunk.size": "8mb",
    "fs.azure.account.auth.type": "OAuth",
    "fs.oss.endpoint": "oss.example.com",
    "fs.allowed-fallback-filesystems": "s3",
    "security.delegation.token.provider.s3.enabled": False,
    "security.ssl.rest.enabled": True,
    "metrics.reporters": "prom,kafka",
    "metrics.reporter.prom.factory.class": "org.apache.flink.metrics.prometheus.PrometheusReporterFactory",
    "metrics.reporter.prom.port": "9249-9260",
    "metrics.reporter.kafka.bootstrap.servers": "kafka:9092",
    "metrics.scope.jm.job": "jm.<job_name>",
    "restart-strategy": "failure-rate",
    "restart-strategy.type": "exponential-delay",
    "restart-strategy.fixed-delay.attempts": 10,
    "state.backend": "rocksdb",
    "state.backend.type": "forst",
    "state.backend.incremental": True,
    "state.backend.rocksdb.memory.managed": True,
    "state.checkpoints.num-retained": 3,
    "execution.checkpointing.interval": "30s",
    "execution.checkpointing.unaligned": True,
    "execution.savepoint.ignore-unclaimed-state": True,
    "execution.runtime-mode": "BATCH",
    "job.autoscaler.enabled": True,
    "job.autoscaler.target.utilization": 0.6,
    "kubernetes.operator.job.autoscaler.enabled": True,
    "kubernetes.operator.periodic.savepoint.interval": "6h",
    "kubernetes.operator.savepoint.history.max.age": "24h",
    "kubernetes.operator.job.restart.failed": True,
    "kubernetes.operator.deployment.rollback.enabled": True,
    "kubernetes.operator.cluster.health-check.enabled": True,
    "kubernetes.jobmanager.cpu.limit-factor": 2.0,
    "kubernetes.taskmanager.memory.limit-factor": 1.5,
    "kubernetes.rest-service.exposed.type": "ClusterIP",
    "high-availability.kubernetes.leader-election.lease-duration": "60s",
    "jobmanager.scheduler": "adaptive",
    "jobmanager.memory.off-heap.size": "256m",
    "taskmanager.memory.managed.fraction": 0.2,
    "taskmanager.memory.network.max": "256m",
    "taskmanager.network.memory.buffer-debloat.enabled": True,
    "cluster.evenly-spread-out-slots": True,
    "env.java.opts": "-XX:+UseG1GC",
    "env.java.opts.taskmanager": "-Dx=y",
    "classloader.resolve-order": "parent-first",
    "web.cancel.enable": True,
    "rest.flamegraph.enabled": True,
    "akka.ask.timeout": "60s",
    "pekko.ask.timeout": "60s",
    "heartbeat.timeout": 120000,
    "pipeline.object-reuse": True,
    "pipeline.name": "orders",
    "table.exec.state.ttl": "1 d",
    "python.execution-mode": "process",
    "external-resources": "gpu",
    "external-resource.gpu.amount": 1,
}


def problems(configuration: dict[str, str], *allowed: str) -> dict[str, str]:
    return dict(problems_of_configuration(configuration, allowed))


@pytest.mark.parametrize("key", TAKEN)
def test_what_a_job_needs_of_flink_and_its_operator_may_be_set(key: str) -> None:
    request = parse_request({"script": FILE, "flink_configuration": {key: TAKEN[key]}})
    manifest = render(ORDERS, request, PLATFORM, Stamp(1, "o", 1))
    text = str(TAKEN[key]).lower() if isinstance(TAKEN[key], bool) else str(TAKEN[key])
    assert manifest["spec"]["flinkConfiguration"][key] == text


REFUSED = {
    "kubernetes.hostnetwork.enabled": "node's network",
    "kubernetes.jobmanager.service-account": "set service_account",
    "kubernetes.taskmanager.service-account": "set service_account",
    "kubernetes.pod-template-file": "set pod",
    "kubernetes.pod-template-file.jobmanager": "set pod",
    "kubernetes.secrets": "set pod.volumes",
    "kubernetes.env.secretKeyRef": "set env",
    "kubernetes.rest-service.exposed.type": "no login",
    "kubernetes.rest-service.annotations": "changes objects",
    "kubernetes.jobmanager.annotations": "set pod.annotations",
    "kubernetes.taskmanager.tolerations": "set pod.tolerations",
    "kubernetes.jobmanager.node-selector": "set pod.node_selector",
    "kubernetes.jobmanager.owner.reference": "changes objects",
    "kubernetes.jobmanager.entrypoint.args": "changes objects",
    "kubernetes.config.file": "its own disk",
    "kubernetes.artifacts.local-upload-enabled": "its own disk",
    "kubernetes.operator.watched.namespaces": "more than one job",
    "kubernetes.operator.plugins.listeners.x.class": "more than one job",
    "kubernetes.operator.default-configuration.flink-version.v2_2.a": "more than one job",
    "kubernetes.operator.user.artifacts.http.header": "allowed hosts",
    "kubernetes.operator.savepoint.dispose-on-delete": "a STOP keeps",
    "$internal.application.main": "Flink's own",
    "$internal.application.program-args": "Flink's own",
    "internal.taskmanager.node-id": "Flink's own",
    "user.artifacts.artifact-list": "allowed hosts",
    "user.artifacts.raw-http-enabled": "allowed hosts",
    "execution.state-recovery.path": "start_from",
    "execution.savepoint.path": "start_from",
    "execution.savepoint-restore-mode": "for the next to begin from",
    "execution.checkpointing.storage": "state.location",
    "state.checkpoint-storage": "state.location",
    "state.checkpoints.dir": "set state.location",
    "state.backend.fs.checkpointdir": "set state.location",
    "state.savepoints.dir": "set state.location",
    "high-availability": "always on",
    "recovery.mode": "always on",
    "high-availability.storageDir": "set state.location",
    "security.kerberos.login.keytab": "its own disk",
    "jmx.server.port": "run code",
    "web.submit.enable": "run code",
    "parallelism.default": "set parallelism",
    "taskmanager.memory.process.size": "set resources.task_manager.memory",
    "taskmanager.heap.size": "set resources.task_manager.memory",
    "jobmanager.memory.process.size": "set resources.job_manager.memory",
    "kubernetes.taskmanager.cpu": "set resources.task_manager.cpu",
    "kubernetes.jobmanager.cpu.amount": "set resources.job_manager.cpu",
    "taskmanager.numberOfTaskSlots": "set resources.task_manager.slots",
    "kubernetes.container.image": "set image",
    "kubernetes.container.image.pull-policy": "set pod.image_pull_policy",
    "containerized.master.env.LD_PRELOAD": "set env",
    "rest.port": "at its Service",
    "pipeline.classpaths": "set jar_files",
    "yarn.ship-files": "begin with",
    "my.own.key": "begin with",
    " kubernetes.namespace": "is no Flink option",
    '"kubernetes.namespace"': "is no Flink option",
    "kubernetes/namespace": "is no Flink option",
}


@pytest.mark.parametrize("key", REFUSED)
def test_what_reaches_beyond_a_job_is_refused_by_its_key_with_the_reason(key: str) -> None:
    words = problems({key: "canary"})[key]
    assert REFUSED[key] in words
    assert key in words
    assert "canary" not in words


def test_an_installation_allows_more_and_never_what_is_said_elsewhere() -> None:
    asked = {"kubernetes.rest-service.annotations": "a:b", "my.own.key": "1", "kubernetes.hostnetwork.enabled": "true"}
    assert set(problems(asked)) == set(asked)
    assert set(problems(asked, "kubernetes.rest-service.annotations", "my")) == {"kubernetes.hostnetwork.enabled"}
    assert problems(asked, *ANYTHING) == {}
    assert set(problems(dict.fromkeys(ELSEWHERE, "1"), *ANYTHING)) == set(ELSEWHERE)


def test_a_beginning_ends_at_a_dot() -> None:
    assert "statebackend" in problems({"statebackend": "x"})
    assert covers("state.", "state.backend")
    assert not covers("state", "states")


@pytest.mark.parametrize("older", [*OLDER_KEYS, "kubernetes.operator.job.autoscaler.enabled", "akka.ask.timeout"])
def test_an_older_key_is_judged_as_todays(older: str) -> None:
    option = option_of(older)
    assert option != older
    judged, today = problems({older: "1"}), problems({option: "1"})
    assert [words.partition(" ")[2] for words in judged.values()] == [w.partition(" ")[2] for w in today.values()]


@given(st.sampled_from([key for key in OLDER_KEYS.items() if not problems({key[0]: "9"})]))
def test_one_option_is_not_said_twice(keys: tuple[str, str]) -> None:
    older, today = keys
    assert "is the same option as" in problems({older: "9", today: "9"})[today]


@pytest.mark.parametrize("key", ["execution.checkpointing.num-retained", "state.checkpoints.num-retained"])
def test_the_users_setting_wins_over_a_default_under_whichever_key(key: str) -> None:
    request = parse_request({"script": FILE, "flink_configuration": {key: "7"}})
    rendered = render(ORDERS, request, PLATFORM, Stamp(1, "o", 1))["spec"]["flinkConfiguration"]
    found = {name: value for name, value in rendered.items() if name.endswith("num-retained")}
    assert found == {key: "7"}


@given(st.dictionaries(st.sampled_from([*OLDER_KEYS, *OLDER_KEYS.values()]), st.text(max_size=3), max_size=6))
def test_no_default_stands_beside_what_was_given(given_by_user: dict[str, str]) -> None:
    defaults = dict.fromkeys(OLDER_KEYS.values(), "default")
    kept = without_given(defaults, given_by_user)
    assert not {option_of(key) for key in kept} & {option_of(key) for key in given_by_user}
    assert {option_of(key) for key in (*kept, *given_by_user)} >= set(defaults)


@pytest.mark.parametrize("value", ["2", "0", "-1", "many", "9" * 5000])
def test_fewer_checkpoints_than_a_stop_needs_are_refused(value: str) -> None:
    assert (
        "must be 3 at least"
        in problems({"execution.checkpointing.num-retained": value})["execution.checkpointing.num-retained"]
    )


def test_no_kubernetes_option_is_allowed_but_those_listed_one_by_one() -> None:
    assert not {entry for entry in ALLOWED if covers(entry, "kubernetes.any") or entry == "kubernetes.operator"}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (["a", "b"], "write the list of restart-strategy as one text, with ; between its values"),
        ({"type": "none"}, "write restart-strategy.<key>: value"),
        (None, "restart-strategy has no value"),
    ],
)
def test_a_value_that_is_no_text_is_refused_in_words_that_fit_it(value: Any, words: str) -> None:
    with pytest.raises(Exception, match=re.escape(words)):
        parse_request({"script": FILE, "flink_configuration": {"restart-strategy": value}})


@pytest.mark.parametrize(
    ("key", "value", "other"),
    [
        (RETENTION, "RETAIN_ON_CANCELLATION", "DELETE_ON_CANCELLATION"),
        ("high-availability.type", "kubernetes", "zookeeper"),
        ("high-availability", "org.apache.flink.kubernetes.highavailability.KubernetesHaServicesFactory", "NONE"),
    ],
)
def test_what_says_what_is_so_anyhow_may_stay(key: str, value: str, other: str) -> None:
    request = parse_request({"script": FILE, "flink_configuration": {key: value}})
    rendered = render(ORDERS, request, PLATFORM, Stamp(1, "o", 1))["spec"]["flinkConfiguration"]
    assert [each for each in rendered if option_of(each) == option_of(key)] == [option_of(key)]
    assert list(problems_of_configuration({key: other}, ANYTHING))
