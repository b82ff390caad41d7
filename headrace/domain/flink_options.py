"""Which options of Flink and of its operator a job may set, and under which keys one option goes. No I/O here.

What is not listed is refused. Keys and their older spellings are those of Flink 2.2.1 (`ConfigOption.key` and
`fallbackKeys` of the classes in flink-dist; 1.20 has the same older ones) and of the operator 1.15 (its configuration
reference).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from headrace.domain.secrets import shown_name

OLDER_KEYS: Mapping[str, str] = {
    "high-availability": "high-availability.type",
    "recovery.mode": "high-availability.type",
    "high-availability.zookeeper.storageDir": "high-availability.storageDir",
    "recovery.zookeeper.storageDir": "high-availability.storageDir",
    "high-availability.zookeeper.path.namespace": "high-availability.cluster-id",
    "recovery.zookeeper.path.namespace": "high-availability.cluster-id",
    "state.checkpoints.dir": "execution.checkpointing.dir",
    "state.backend.fs.checkpointdir": "execution.checkpointing.dir",
    "state.savepoints.dir": "execution.checkpointing.savepoint-dir",
    "savepoints.state.backend.fs.dir": "execution.checkpointing.savepoint-dir",
    "state.checkpoints.num-retained": "execution.checkpointing.num-retained",
    "state.checkpoint-storage": "execution.checkpointing.storage",
    "execution.savepoint.path": "execution.state-recovery.path",
    "execution.savepoint-restore-mode": "execution.state-recovery.claim-mode",
    "execution.savepoint.ignore-unclaimed-state": "execution.state-recovery.ignore-unclaimed-state",
    "kubernetes.container.image": "kubernetes.container.image.ref",
    "kubernetes.jobmanager.cpu": "kubernetes.jobmanager.cpu.amount",
    "kubernetes.taskmanager.cpu": "kubernetes.taskmanager.cpu.amount",
    "web.port": "rest.port",
    "web.address": "rest.bind-address",
    "jobmanager.web.address": "rest.bind-address",
    "jobmanager.web.port": "rest.bind-port",
    "jobmanager.web.submit.enable": "web.submit.enable",
    "jobmanager.heap.size": "jobmanager.memory.process.size",
    "jobmanager.heap.mb": "jobmanager.memory.process.size",
    "taskmanager.heap.size": "taskmanager.memory.process.size",
    "taskmanager.heap.mb": "taskmanager.memory.process.size",
    "restart-strategy": "restart-strategy.type",
    "state.backend": "state.backend.type",
    "state.backend.incremental": "execution.checkpointing.incremental",
    "state.backend.local-recovery": "execution.state-recovery.from-local",
    "env.java.opts": "env.java.opts.all",
    "taskmanager.memory.size": "taskmanager.memory.managed.size",
    "taskmanager.network.memory.fraction": "taskmanager.memory.network.fraction",
    "taskmanager.network.memory.min": "taskmanager.memory.network.min",
    "taskmanager.network.memory.max": "taskmanager.memory.network.max",
    "security.kerberos.fetch.delegation-token": "security.delegation.tokens.enabled",
}
"""Older key -> today's, of the options that are judged, rendered by default, or often said twice."""

OLDER_PREFIXES: Mapping[str, str] = {
    "kubernetes.operator.job.autoscaler.": "job.autoscaler.",
    "akka.": "pekko.",
}

ALLOWED = (
    *("blob", "classloader", "cleanup-strategy", "client", "cluster", "compiler", "events", "execution"),
    *("env.java.default-opts", "env.java.opts", "env.log", "env.stdout-err", "external-resource", "external-resources"),
    *("dstl", "fs", "flink.hadoop", "gs", "hive.s3", "presto.s3", "s3", "s3a", "s3p", "io.tmp.dirs"),
    *("heartbeat", "high-availability.jobmanager.port", "high-availability.kubernetes", "job.autoscaler"),
    *("jobmanager", "jobstore", "metrics", "pekko", "pipeline", "plugin.classloader", "process", "python"),
    *("resourcemanager", "rest", "restart-strategy", "security.delegation", "security.ssl", "shuffle"),
    *("shuffle-service-factory", "slot", "slotmanager", "slow-task-detector", "state", "table", "task"),
    *("taskmanager", "traces", "web"),
    # Of kubernetes.*, what changes no object beyond the sizes that a quota bounds, and how patiently the API is asked.
    *(f"kubernetes.{each}.{what}.limit-factor" for each in ("jobmanager", "taskmanager") for what in ("cpu", "memory")),
    *("kubernetes.client.io-pool.size", "kubernetes.transactional-operation", "kubernetes.rest-service.exposed.type"),
    # Of the operator's, what it reads of one deployment and what is about that alone.
    *(f"kubernetes.operator.{each}" for each in ("checkpoint", "cluster.health-check", "deployment", "periodic")),
    *(f"kubernetes.operator.{each}" for each in ("exception", "events.exceptions", "flink.client", "observer")),
    *(
        f"kubernetes.operator.{each}"
        for each in ("jm-deployment-recovery", "jm-deployment", "job", "reconcile.interval")
    ),
    *(
        f"kubernetes.operator.{each}"
        for each in ("pod-template.merge-arrays-by-name", "savepoint", "snapshot.resource")
    ),
    "kubernetes.operator.resource.cleanup.timeout",
)
"""What a job may set: an option's key, or the beginning of its key up to a dot."""

_STATE = "set state.location instead"
_OPERATOR = "the operator sets it"
_ON_POD = "set pod.{} instead"

ELSEWHERE: Mapping[str, str] = {
    "kubernetes.namespace": "the operator sets it from the deployment",
    "kubernetes.cluster-id": "the operator sets it from the deployment",
    "high-availability.cluster-id": "the operator sets it from the deployment",
    "high-availability.type": "it is always on: a STOP and every restart live on it",
    "high-availability.storageDir": _STATE,
    "execution.checkpointing.dir": _STATE,
    "execution.checkpointing.savepoint-dir": _STATE,
    "execution.checkpointing.storage": "checkpoints outlive their JobManager, in state.location",
    "execution.checkpointing.externalized-checkpoint-retention": "a STOP lives on retained checkpoints",
    "execution.state-recovery.path": "send start_from with the submit instead",
    "execution.state-recovery.claim-mode": "a state that a run began from stays its own, for the next to begin from",
    "parallelism.default": "set parallelism instead",
    "taskmanager.numberOfTaskSlots": "set resources.task_manager.slots instead",
    "taskmanager.memory.process.size": "set resources.task_manager.memory instead",
    "jobmanager.memory.process.size": "set resources.job_manager.memory instead",
    "taskmanager.cpu.cores": "set resources.task_manager.cpu instead",
    "kubernetes.taskmanager.cpu.amount": "set resources.task_manager.cpu instead",
    "kubernetes.jobmanager.cpu.amount": "set resources.job_manager.cpu instead",
    "kubernetes.taskmanager.replicas": "set resources.task_manager.replicas instead",
    "kubernetes.jobmanager.replicas": "there is one JobManager, and another takes its place where it ends",
    "scheduler-mode": "reactive mode is of standalone clusters: send a SCALE, or set job.autoscaler.enabled",
    "kubernetes.container.image.ref": "set image instead",
    "kubernetes.container.image.pull-policy": _ON_POD.format("image_pull_policy"),
    "kubernetes.container.image.pull-secrets": _ON_POD.format("image_pull_secrets"),
    "kubernetes.service-account": "set service_account instead",
    "kubernetes.jobmanager.service-account": "set service_account instead",
    "kubernetes.taskmanager.service-account": "set service_account instead",
    "kubernetes.pod-template-file": "set pod instead",
    "kubernetes.secrets": "set pod.volumes instead",
    "kubernetes.env.secretKeyRef": "set env instead",
    "kubernetes.hadoop.conf.config-map.name": "mount it by pod.volumes and set HADOOP_CONF_DIR in env instead",
    **{
        f"kubernetes.{each}.{what}": instead
        for each in ("jobmanager", "taskmanager")
        for what, instead in {
            "annotations": _ON_POD.format("annotations"),
            "labels": "set labels instead",
            "node-selector": _ON_POD.format("node_selector"),
            "tolerations": _ON_POD.format("tolerations"),
        }.items()
    },
    "containerized": "set env instead",
    "pipeline.jars": "set jar or jar_files instead",
    "pipeline.classpaths": "set jar_files instead",
    "python.internal": _OPERATOR,
    "execution.target": _OPERATOR,
    "execution.attached": _OPERATOR,
    "execution.shutdown-on-application-finish": _OPERATOR,
    "execution.shutdown-on-attached-exit": _OPERATOR,
    "execution.submit-failed-job-on-application-error": _OPERATOR,
    "job-result-store": _OPERATOR,
    "$internal": "it is Flink's own",
    "internal": "it is Flink's own",
    **dict.fromkeys(
        ("rest.address", "rest.bind-address", "rest.port", "rest.bind-port", "rest.path", "rest.url-prefix"),
        "a JobManager's REST API is found at its Service",
    ),
    **dict.fromkeys(
        ("jobmanager.rpc", "jobmanager.bind-host", "jobmanager.resource-id", "taskmanager.host"),
        "Flink sets it in pods",
    ),
    **dict.fromkeys(("taskmanager.rpc", "taskmanager.bind-host", "taskmanager.resource-id"), "Flink sets it in pods"),
    "kubernetes.operator.job.drain-on-savepoint-deletion": "it would drain every stop and upgrade",
    "kubernetes.operator.savepoint.dispose-on-delete": "it would remove the state that a STOP keeps",
}
"""What no installation may allow: a field of the template, Headrace, Flink or the operator says it."""

REASONS: Mapping[str, str] = {
    "kubernetes": "it changes objects in the cluster",
    "kubernetes.artifacts": "the operator would read the file from its own disk",
    "kubernetes.config.file": "the operator would read the file from its own disk",
    "kubernetes.hostnetwork.enabled": "pods would stand in their node's network",
    "kubernetes.operator": "it is about more than one job",
    "kubernetes.operator.user.artifacts": "programs come by script, jar and jar_files, from allowed hosts",
    "user.artifacts": "programs come by script, jar and jar_files, from allowed hosts",
    "security.kerberos": "the operator would read keytab and krb5.conf from its own disk",
    "env.hadoop": "mount it by pod.volumes and set HADOOP_CONF_DIR in env instead",
    "high-availability.zookeeper": "high availability is Kubernetes' own",
    "jmx": "whoever reaches that port could run code",
}
"""Why something is not in ALLOWED, where somebody may wonder; an installation may allow it."""

SAME_AS_OURS: Mapping[str, tuple[str, ...]] = {
    "execution.checkpointing.externalized-checkpoint-retention": ("RETAIN_ON_CANCELLATION",),
    "high-availability.type": (
        "kubernetes",
        "org.apache.flink.kubernetes.highavailability.KubernetesHaServicesFactory",
    ),
}
"""Values of options in ELSEWHERE that say what is so anyhow: many manifests have them, and they may stay there."""

SAFE_SERVICES = ("ClusterIP", "Headless_ClusterIP")
FEWEST_RETAINED = 3

ANYTHING = ("*",)
"""An installation that allows all that one may allow."""

_KEY = re.compile(r"[A-Za-z$][A-Za-z0-9_.$-]{0,250}")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def option_of(key: str) -> str:
    """The option that a key sets: its newest key."""
    if key in OLDER_KEYS:
        return OLDER_KEYS[key]
    older = next((prefix for prefix in OLDER_PREFIXES if key.startswith(prefix)), "")
    return OLDER_PREFIXES[older] + key.removeprefix(older) if older else key


def options_in(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options of a deployment's spec under their whole names: from operator 1.13 on somebody may have written
    flinkConfiguration as a tree. What is no mapping has none."""
    configuration = spec.get("flinkConfiguration")
    return dict(_flat(configuration)) if isinstance(configuration, Mapping) else {}


def _flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def without_given(defaults: Mapping[str, str], configuration: Mapping[str, str]) -> dict[str, str]:
    """The defaults of options that the configuration sets under none of their keys."""
    given = {option_of(key) for key in configuration}
    return {key: value for key, value in defaults.items() if option_of(key) not in given}


def problems_of_configuration(configuration: Mapping[str, str], allowed: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each key that may not be set, or not to this value, and what is wrong: words that begin with the key, and hold
    no value. `allowed` is what the installation allows beyond what every job may set: keys, or beginnings up to a dot.
    """
    keys: dict[str, str] = {}
    for key, value in configuration.items():
        other = keys.setdefault(option_of(key), key)
        problem = (
            f"is the same option as {_shown(other)}: give one of them"
            if other != key
            else _problem(key, value, allowed)
        )
        if problem:
            yield key, f"{_shown(key)} {problem}"


def rules_of_names(allowed: Sequence[str]) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """What problems_of_configuration says of options by their names alone, as flat lists for whoever has no code of
    ours: what is refused, with the reason, and what is allowed; none where all that is not refused is. An entry is a
    key, or the beginning of keys where it ends with a dot."""
    refused = {each: why for entry, why in ELSEWHERE.items() for each in (entry, f"{entry}.")}
    listed = [each for entry in (*ALLOWED, *allowed) for each in _entries(entry)]
    for older, option in OLDER_KEYS.items():
        elsewhere = _nearest(option, ELSEWHERE)
        if elsewhere:
            refused[older] = ELSEWHERE[elsewhere]
        elif any(covers(entry, option) for entry in (*ALLOWED, *allowed)):
            listed.append(older)
    listed += [older for older, today in OLDER_PREFIXES.items() if any(covers(e, f"{today}x") for e in ALLOWED)]
    return refused, () if allowed == ANYTHING else tuple(dict.fromkeys(listed))


def _entries(entry: str) -> tuple[str, ...]:
    """A key covers itself and what is below it; what ends with a dot, or with `.*`, covers what is below alone."""
    return (entry, f"{entry}.") if _bare(entry) == entry else (f"{_bare(entry)}.",)


def _bare(entry: str) -> str:
    return entry.removesuffix(".*").removesuffix(".")


def _shown(key: str) -> str:
    shown = shown_name(key)
    return shown if _KEY.fullmatch(shown) else repr(shown[:80])


def _problem(key: str, value: str, allowed: Sequence[str]) -> str | None:
    option = option_of(key)
    if not _KEY.fullmatch(key):
        return "is no Flink option: letters, digits, '.', '_' and '-'"
    if _CONTROL.search(value):
        return "may hold no line break or control character: it would set another option"
    if value.strip() in SAME_AS_OURS.get(option, ()):
        return None
    elsewhere = _nearest(option, ELSEWHERE)
    if elsewhere:
        return f"may not be set: {ELSEWHERE[elsewhere]}"
    if allowed == ANYTHING or any(covers(entry, key) or covers(entry, option) for entry in allowed):
        return None
    if any(covers(entry, option) for entry in ALLOWED):
        return _value_problem(option, value)
    reason = _nearest(option, REASONS)
    why = f"{REASONS[reason]}; " if reason else ""
    return (
        f"may not be set: {why}a job sets options that begin with {', '.join(_FAMILIES)}; an installation allows more "
        "by HEADRACE_ALLOWED_FLINK_CONFIGURATION"
    )


_FAMILIES = tuple(dict.fromkeys(entry.partition(".")[0] for entry in ALLOWED if not entry.startswith("kubernetes.")))


def covers(entry: str, key: str) -> bool:
    """Whether an entry of a list is this key, or its beginning up to a dot."""
    return key == entry or key.startswith(f"{_bare(entry)}.")


def _nearest(option: str, reasons: Mapping[str, str]) -> str | None:
    """The longest entry that covers the option."""
    return max((entry for entry in reasons if covers(entry, option)), key=len, default=None)


def _value_problem(option: str, value: str) -> str | None:
    """Options that may be set to some values alone."""
    text = value.strip()
    if option == "kubernetes.rest-service.exposed.type" and text not in SAFE_SERVICES:
        return f"must be {' or '.join(SAFE_SERVICES)}: Flink's REST API asks for no login"
    if option == "web.submit.enable" and text.lower() != "false":
        return "must be false: whoever reaches the port could run code"
    if option == "execution.checkpointing.num-retained" and not _is_at_least(text, FEWEST_RETAINED):
        return f"must be {FEWEST_RETAINED} at least: newer checkpoints would remove the one that a STOP has on record"
    return None


def _is_at_least(text: str, least: int) -> bool:
    return re.fullmatch(r"[0-9]{1,9}", text) is not None and int(text) >= least
