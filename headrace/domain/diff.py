"""What must change in a deployment: from the last applied manifest to the wanted one, by key. Pure.

A key that we no longer want is removed; one that somebody else wrote is not in the last applied manifest and stays.
Lists that we own are replaced whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Change:
    """One change in a deployment: `path` as keys from the root; `value` None with `removed` takes the key away."""

    path: tuple[str, ...]
    value: Any = None
    removed: bool = False


def changes(applied: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[Change]:
    """The changes that make `wanted` of `applied`, shortest paths first; empty where nothing differs."""
    return list(_between(applied, wanted, ()))


def fitted(live: Mapping[str, Any], wished: Sequence[Change]) -> list[Change]:
    """The same changes for a deployment that has drifted by hand: missing parents are made, what is gone stays gone."""
    return [change for wish in wished if (change := _fit(live, wish)) is not None]


def _between(applied: Mapping[str, Any], wanted: Mapping[str, Any], path: tuple[str, ...]) -> list[Change]:
    found = [Change((*path, key), removed=True) for key in applied if key not in wanted]
    for key, value in wanted.items():
        before = applied.get(key)
        if key in applied and isinstance(before, Mapping) and isinstance(value, Mapping):
            found += _between(before, value, (*path, key))
        elif key not in applied or before != value:
            found.append(Change((*path, key), value))
    return found


def _fit(live: Mapping[str, Any], wish: Change) -> Change | None:
    at: Any = live
    for depth, key in enumerate(wish.path[:-1]):
        if not isinstance(at, Mapping) or not isinstance(at.get(key), Mapping):
            return None if wish.removed else Change(wish.path[: depth + 1], _nested(wish.path[depth + 1 :], wish.value))
        at = at[key]
    if wish.removed and wish.path[-1] not in at:
        return None
    return wish


def _nested(path: Sequence[str], value: Any) -> Any:
    for key in reversed(path):
        value = {key: value}
    return value
