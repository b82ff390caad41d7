"""What must change in a deployment: from what is live to what is wanted, by key; and how that is taken back. Pure.

A key that we applied last and no longer want is removed; one that somebody else wrote stays. Lists that we own are
replaced whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_ABSENT: Any = object()


@dataclass(frozen=True)
class Change:
    """One change in a deployment: `path` as keys from the root; `value` None with `removed` takes the key away."""

    path: tuple[str, ...]
    value: Any = None
    removed: bool = False


def changes(
    applied: Mapping[str, Any], wanted: Mapping[str, Any], live: Mapping[str, Any], path: tuple[str, ...] = ()
) -> list[Change]:
    """What makes `live` hold all of `wanted`, and no key that only `applied` had; empty where nothing differs."""
    gone = (key for key in applied if key not in wanted and key in live)
    found = [Change((*path, key), removed=True) for key in gone]
    for key, value in wanted.items():
        present = live.get(key, _ABSENT)
        if isinstance(value, Mapping) and isinstance(present, Mapping):
            before = applied.get(key)
            found += changes(before if isinstance(before, Mapping) else {}, value, present, (*path, key))
        elif present is _ABSENT or present != value:
            found.append(Change((*path, key), value))
    return found


def inverse(live: Mapping[str, Any], wished: Sequence[Change]) -> tuple[Change, ...]:
    """What takes `wished` back again in a deployment that was `live` before."""
    return tuple(_as_it_was(live, change.path) for change in wished)


def fitted(live: Mapping[str, Any], wished: Sequence[Change]) -> list[Change]:
    """Those of `wished` that `live` does not show yet; missing parents are made, what is gone stays gone."""
    return [change for wish in wished if (change := _fit(live, wish)) is not None]


def holds(live: Mapping[str, Any], wished: Sequence[Change]) -> bool:
    """Whether `live` shows all that `wished` asks for."""
    return not fitted(live, wished)


def at(live: Any, path: Sequence[str]) -> Any:
    """What stands at this path; None where nothing does."""
    for key in path:
        live = live.get(key) if isinstance(live, Mapping) else None
    return live


def applied_to(live: Mapping[str, Any], wished: Sequence[Change]) -> Mapping[str, Any]:
    """`live` as it is once these changes are written; it stays as it was itself."""
    for change in wished:
        live = _with(live, change.path, change)
    return live


def without_nulls(value: Any) -> Any:
    """The value without keys that stand for nothing: for Kubernetes they are not there."""
    if isinstance(value, Mapping):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


def setting(values: Mapping[tuple[str, ...], Any]) -> Iterator[Change]:
    """Changes that set these values at their paths."""
    return (Change(path, value) for path, value in values.items())


def _with(live: Any, path: tuple[str, ...], change: Change) -> Any:
    inside = live if isinstance(live, Mapping) else {}
    if len(path) > 1:
        within = inside.get(path[0])
        is_gone = change.removed and not isinstance(within, Mapping)
        return inside if is_gone else {**inside, path[0]: _with(within, path[1:], change)}
    left = {key: value for key, value in inside.items() if key != path[0]}
    return left if change.removed else {**left, path[0]: change.value}


def _as_it_was(live: Mapping[str, Any], path: tuple[str, ...]) -> Change:
    parent = at(live, path[:-1])
    if isinstance(parent, Mapping) and path[-1] in parent:
        return Change(path, parent[path[-1]])
    return Change(path, removed=True)


def _fit(live: Mapping[str, Any], wish: Change) -> Change | None:
    within: Any = live
    for depth, key in enumerate(wish.path[:-1]):
        if not isinstance(within, Mapping) or not isinstance(within.get(key), Mapping):
            return None if wish.removed else Change(wish.path[: depth + 1], _nested(wish.path[depth + 1 :], wish.value))
        within = within[key]
    present = within.get(wish.path[-1], _ABSENT)
    if wish.removed:
        return None if present is _ABSENT else wish
    return None if present is not _ABSENT and present == wish.value else wish


def _nested(path: Sequence[str], value: Any) -> Any:
    for key in reversed(path):
        value = {key: value}
    return value
