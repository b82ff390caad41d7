"""What a change costs: what the operator does for it, by the place of the spec that changes. Pure; knows no request.

By the operator's own comparison of two specs, as of 1.10: the costliest place decides, and a place that no rule names
costs an upgrade. What stands outside of the spec costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from headrace.domain import diff
from headrace.domain.vertices import OVERRIDES_KEY

Path = tuple[str, ...]


class Cost(StrEnum):
    """What a change comes to, the cheapest first: nothing restarts; the job is scaled where it can be so, else
    redeployed; it is redeployed from its state; it is redeployed from the savepoint that the spec names."""

    IGNORE = "IGNORE"
    SCALE = "SCALE"
    UPGRADE = "UPGRADE"
    SAVEPOINT_REDEPLOY = "SAVEPOINT_REDEPLOY"


class Mode(StrEnum):
    """Who starts TaskManagers: Flink itself, or the operator."""

    NATIVE = "native"
    STANDALONE = "standalone"


@dataclass(frozen=True)
class FieldCost:
    """What a change of a request's field alone costs; it stands on the field (job_requests)."""

    native: Cost
    standalone: Cost

    def by(self, mode: Mode) -> Cost:
        """The cost in this mode."""
        return self.native if mode is Mode.NATIVE else self.standalone


UPGRADES, FREE = FieldCost(Cost.UPGRADE, Cost.UPGRADE), FieldCost(Cost.IGNORE, Cost.IGNORE)
COUNTS = FieldCost(Cost.UPGRADE, Cost.SCALE)
"""Of how many there are: in native mode the overrides of vertices scale, and these do not."""

IN_NATIVE = FieldCost(Cost.SCALE, Cost.UPGRADE)

OF_A_PLACE: Mapping[Path, FieldCost] = {
    ("job", "parallelism"): COUNTS,
    ("taskManager", "replicas"): COUNTS,
    ("job", "savepointRedeployNonce"): FieldCost(Cost.SAVEPOINT_REDEPLOY, Cost.SAVEPOINT_REDEPLOY),
    **{("job", name): FREE for name in ("upgradeMode", "allowNonRestoredState", "initialSavepointPath")},
    **{("job", f"{name}Nonce"): FREE for name in ("savepointTrigger", "checkpointTrigger", "autoscalerReset")},
}
"""Places of a spec; every other one is an upgrade."""

OF_AN_OPTION: tuple[tuple[str, FieldCost], ...] = (
    ("job.autoscaler", FREE),
    ("parallelism.default", FREE),
    ("kubernetes.operator", FREE),
    (OVERRIDES_KEY, IN_NATIVE),
)
"""Flink's options, by how their names begin; the first that fits."""

NOTHING_UNSET = frozenset({("restartNonce",), ("job", "savepointRedeployNonce")})
"""Places that cost nothing where what stood there is taken away."""

COMPARED_INSIDE = ("job", "taskManager")
"""Parts of a spec whose places are compared one by one, where both specs have the part."""

OPTIONS = "flinkConfiguration"


@dataclass(frozen=True)
class CostlyChange:
    """One place that a change touches, by keys from the root: what stood there, what will, and what that costs by
    itself. None stands for nothing."""

    path: Path
    before: Any
    after: Any
    cost: Cost


def highest(costs: Iterable[Cost]) -> Cost:
    """The costliest of them; IGNORE where there is none."""
    return max(costs, key=list(Cost).index, default=Cost.IGNORE)


def mode_of(spec: Mapping[str, Any]) -> Mode:
    """The mode of a deployment: native where its spec does not say."""
    return Mode.STANDALONE if spec.get("mode") == Mode.STANDALONE.value else Mode.NATIVE


def field_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[CostlyChange]:
    """The places in which two deployments differ, each with its cost in the mode of `after`; lists of named things by
    their names. What a server writes is none of it."""
    mode = mode_of(after.get("spec") or {})
    before, after = _of_writers(before), _of_writers(after)
    changed = ((path, old, new) for path, old, new in _differences(before, after))
    return [CostlyChange(path, old, new, _cost(path, new, before, after, mode)) for path, old, new in changed]


def _of_writers(whole: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = {part: (whole.get("metadata") or {}).get(part) or {} for part in ("labels", "annotations")}
    found: Mapping[str, Any] = diff.without_nulls({"metadata": metadata, "spec": whole.get("spec") or {}})
    return found


def _cost(path: Path, new: Any, before: Mapping[str, Any], after: Mapping[str, Any], mode: Mode) -> Cost:
    within = path[1:]
    if path[0] != "spec":
        return Cost.IGNORE
    if within[0] == OPTIONS:  # none, no list of them, or somebody's tree
        return cost_of_option(".".join(within[1:]), mode) if len(within) > 1 else Cost.IGNORE
    if within[0] in COMPARED_INSIDE and not all(_has_part(each, within[0]) for each in (before, after)):
        return Cost.UPGRADE
    if new is None and within in NOTHING_UNSET:
        return Cost.IGNORE
    return OF_A_PLACE.get(within, UPGRADES).by(mode)


def cost_of_option(name: str, mode: Mode) -> Cost:
    """What a change of one of Flink's options costs."""
    fitting = (cost for prefix, cost in OF_AN_OPTION if name.startswith(prefix))
    return next(fitting, UPGRADES).by(mode)


def _has_part(manifest: Mapping[str, Any], part: str) -> bool:
    return isinstance((manifest.get("spec") or {}).get(part), Mapping)


def _differences(before: Any, after: Any, path: Path = ()) -> Iterator[tuple[Path, Any, Any]]:
    """Leaf by leaf."""
    if before == after:
        return
    old, new = _inside(before, after), _inside(after, before)
    if old is None or new is None:
        yield path, before, after
        return
    found = [each for key in {**old, **new} for each in _differences(old.get(key), new.get(key), (*path, key))]
    yield from found if found or isinstance(before, Mapping) else [(path, before, after)]  # another order


def _inside(value: Any, other: Any) -> Mapping[str, Any] | None:
    """What can be gone into; nothing is an empty one beside what is none."""
    if value is None:
        return {} if _keyed(other) else None
    return _keyed(value) if other is None or _keyed(other) is not None else None


def _keyed(value: Any) -> Mapping[str, Any] | None:
    """A mapping, or a list of named things by their names."""
    if isinstance(value, Mapping):
        return value
    names = [name for each in _mappings(value) if isinstance(name := each.get("name"), str)]
    is_named = bool(names) and len(names) == len(value) == len(set(names))
    return dict(zip(names, value, strict=True)) if is_named else None


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []
