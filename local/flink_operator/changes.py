"""What changed between two specs: whether it is an upgrade, and the words of the operator's SpecChanged event. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from headrace.domain.vertices import OVERRIDES_KEY
from local.flink_operator.specs import overrides

IN_PLACE = "kubernetes.operator.job.upgrade.inplace-scaling.enabled"
_NO_UPGRADE = ("upgradeMode", "allowNonRestoredState", "initialSavepointPath", "savepointTriggerNonce", "state")
_NO_UPGRADE_SETTINGS = ("kubernetes.operator.", "job.autoscaler.", "parallelism.default")
"""Settings whose names begin like this."""


def is_upgrade(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether the job has to be started anew for the change: not every change is for that."""
    return _weighed(before) != _weighed(after)


def is_in_place(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether Flink's adaptive scheduler can be told of the change while the job runs: of parallelism overrides alone,
    none of them removed."""
    was, wanted = overrides(before), overrides(after)
    settings = after.get("flinkConfiguration") or {}
    is_enabled = str(settings.get(IN_PLACE, "true")).lower() == "true"
    if settings.get("jobmanager.scheduler") != "adaptive" or not is_enabled:
        return False
    return was != wanted and was.keys() <= wanted.keys() and _same_but_overrides(before, after)


def _same_but_overrides(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    was, is_now = _weighed(before), _weighed(after)
    for each in (was, is_now):
        each["flinkConfiguration"].pop(OVERRIDES_KEY, None)
    return was == is_now


def is_redeploy(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether the job is to be deployed from the savepoint that its spec names, and from nothing else."""
    nonce = after["job"].get("savepointRedeployNonce")
    return nonce is not None and nonce != before["job"].get("savepointRedeployNonce")


def asks_for_savepoint(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether a savepoint is to be taken of the job that runs on."""
    nonce = after["job"].get("savepointTriggerNonce")
    return nonce is not None and nonce != before["job"].get("savepointTriggerNonce")


def _weighed(spec: Mapping[str, Any]) -> dict[str, Any]:
    settings = (spec.get("flinkConfiguration") or {}).items()
    configuration = {key: value for key, value in settings if not key.startswith(_NO_UPGRADE_SETTINGS)}
    job = {key: value for key, value in spec["job"].items() if key not in _NO_UPGRADE}
    return {**spec, "job": job, "flinkConfiguration": configuration}


def spec_changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """`UPGRADE change(s) detected (Diff: FlinkDeploymentSpec[job.parallelism : 1 -> 2]), starting reconciliation.`"""
    was, is_now = dict(_leaves(before)), dict(_leaves(after))
    paths = [path for path in {**was, **is_now} if was.get(path) != is_now.get(path)]
    listed = ", ".join(f"{path} : {_word(was.get(path))} -> {_word(is_now.get(path))}" for path in paths)
    kind = "SAVEPOINT_REDEPLOY" if "job.savepointRedeployNonce" in paths else "UPGRADE"
    kind = "SCALE" if is_in_place(before, after) else kind
    return f"{kind} change(s) detected (Diff: FlinkDeploymentSpec[{listed}]), starting reconciliation."


def _leaves(part: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(part, Mapping):
        for key, value in part.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    elif isinstance(part, list):
        for index, value in enumerate(part):
            yield from _leaves(value, f"{path}.{index}")
    else:
        yield path, part


def _word(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
