"""The spec that the operator last saw stable, and the way back to it. Pure.

The operator keeps it as JSON text of its own: with nulls for what is not set, and pod templates without their kind.
What it says of state, and of what was asked once, is of that time and is left as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from headrace.domain import diff
from headrace.domain.secrets import is_secret, why_refused
from headrace.domain.vertices import OVERRIDES_KEY, overrides_of

FLINK_OPTIONS = "flinkConfiguration"
POD_TEMPLATES = (("podTemplate",), ("jobManager", "podTemplate"), ("taskManager", "podTemplate"))
OF_NO_VERSION = frozenset(
    {
        *(("job", name) for name in ("state", "upgradeMode", "initialSavepointPath")),
        *(("job", f"{name}Nonce") for name in ("savepointTrigger", "checkpointTrigger", "savepointRedeploy")),
        *(("job", "autoscalerResetNonce"), ("restartNonce",)),
        (FLINK_OPTIONS, OVERRIDES_KEY),
        *((*template, name) for template in POD_TEMPLATES for name in ("apiVersion", "kind")),
    }
)
"""Places of a spec that say where its state is and what was asked of it once, or nothing."""

FOR_THE_OPERATOR = "kubernetes.operator."
"""Options that the operator takes for itself: changing them deploys nothing, and the last stable spec has them as they
were (recordings/rescale-rollback-and-missing-jobmanager)."""


def last_stable(whole: Mapping[str, Any], rendered: Sequence[Mapping[str, Any]]) -> int | str:
    """Which of the `rendered` manifests the last stable spec of a deployment is, by its place; else why there is no way
    back to it. What somebody added to it by hand makes it no other one."""
    stable = stable_spec(whole)
    if stable is None:
        return "the operator has no last stable spec of it: it never was STABLE"
    if not spec_changes(whole, stable):
        return "the spec that it has is the last stable one"
    found = next((at for at, each in enumerate(rendered) if _is_of(whole, each["spec"])), None)
    if found is None:
        return "the operator's last stable spec is none of the versions on record, as they are rendered now"
    secret = next(_secrets_by_hand(stable, rendered[found]["spec"]), None)
    return found if secret is None else f"the last stable spec holds a secret that somebody wrote there: {secret}"


def stable_spec(whole: Mapping[str, Any], rendered: Mapping[str, Any] | None = None) -> Mapping[str, Any] | None:
    """The spec that the operator last saw stable, without what is not set and what is of no version; None where it has
    none that can be read. A job that was scaled in place has the parallelism of the `rendered` spec, where it ran at
    that: its overrides are for vertices that there may not be any more."""
    text = diff.at(whole, ("status", "reconciliationStatus", "lastStableSpec"))
    try:
        spec = json.loads(text)["spec"] if isinstance(text, str) else None
        if not isinstance(spec, Mapping) or not isinstance(spec.get("job"), Mapping):
            return None
        return _of_version(_scaled_as(diff.without_nulls(spec), rendered or {}))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None


def is_of_no_version(path: tuple[str, ...]) -> bool:
    """Whether a place of a spec is one that no way back takes from the last stable spec."""
    is_option = len(path) > 1 and path[0] == FLINK_OPTIONS
    return path in OF_NO_VERSION or (is_option and path[1].startswith(FOR_THE_OPERATOR))


def _scaled_as(spec: Mapping[str, Any], rendered: Mapping[str, Any]) -> Mapping[str, Any]:
    overrides = overrides_of((spec.get(FLINK_OPTIONS) or {}).get(OVERRIDES_KEY))
    parallelism = diff.at(rendered, ("job", "parallelism"))
    ran_at_that = parallelism in overrides.values()
    return {**spec, "job": {**spec["job"], "parallelism": parallelism}} if ran_at_that else spec


def spec_changes(whole: Mapping[str, Any], stable: Mapping[str, Any]) -> list[diff.Change]:
    """What makes the live spec the stable one: a key that this has not is taken away, whoever set it."""
    live = whole["spec"]
    return diff.changes(live, _laid_over(live, stable), live, ("spec",))


def _laid_over(live: Mapping[str, Any], stable: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[str, Any]:
    kept = {key: value for key, value in live.items() if is_of_no_version((*path, key))}
    return {**{key: _put(live.get(key), value, (*path, key)) for key, value in stable.items()}, **kept}


def _put(live: Any, stable: Any, path: tuple[str, ...]) -> Any:
    if _plain(live) == _plain(stable):
        return live
    both = isinstance(live, Mapping) and isinstance(stable, Mapping)
    return _laid_over(live, stable, path) if both else stable


def _is_of(whole: Mapping[str, Any], rendered: Mapping[str, Any]) -> bool:
    """Whether the stable spec has all of the rendered one."""
    return not diff.changes({}, _plain(_of_version(rendered)), _plain(stable_spec(whole, rendered)))


def _of_version(spec: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[str, Any]:
    kept = {key: value for key, value in spec.items() if not is_of_no_version((*path, key))}
    return {k: _of_version(v, (*path, k)) if isinstance(v, Mapping) else v for k, v in kept.items()}


def _plain(value: Any) -> Any:
    """The value without what is empty: what two ways to write the same have in common."""
    if isinstance(value, Mapping):
        found = {key: _plain(each) for key, each in value.items()}
        return {key: each for key, each in found.items() if each not in (None, {}, [])}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _secrets_by_hand(stable: Mapping[str, Any], rendered: Mapping[str, Any]) -> Iterator[str]:
    """Where the stable spec has a secret in plain text that was not rendered: our records would keep it."""
    known = set(_variables(rendered))
    yield from (name for name, value in _variables(stable) if (name, value) not in known and is_secret(name, value))
    options = rendered.get(FLINK_OPTIONS) or {}
    for name, value in (stable.get(FLINK_OPTIONS) or {}).items():
        if name not in options and why_refused(name, str(value)):
            yield name


def _variables(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for template in POD_TEMPLATES:
        pod = diff.at(spec, (*template, "spec")) or {}
        for container in (*(pod.get("containers") or ()), *(pod.get("initContainers") or ())):
            found = (each for each in container.get("env") or () if isinstance(each.get("value"), str))
            yield from ((str(each.get("name")), each["value"]) for each in found)
