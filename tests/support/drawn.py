"""Inputs that nobody means: random bytes, any JSON, and valid inputs after a mutation.

Hypothesis makes them, the same ones in each run, so that a list of them can be sent to a process of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

COUNT = int(os.environ.get("HEADRACE_TESTS_DRAWS", "1000"))
"""How many inputs each way in gets."""

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["", " ", "\x00", "\ud800", "é" * 300, "a\nb", "$gt", "../..", "x" * 70_000, 2**63, 10**400, -1]),
    st.sampled_from([[], {}, [[]], {"": None}, {"$gt": ""}, [None] * 2000, {"a.b": {"$set": 1}}, {"__type__": "x"}]),
)
JSON = st.recursive(
    ODD, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inner for place in _places(each, (*path, key)))]


def _put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _put(value[path[0]], path[1:], new)
    return copy


@st.composite
def _changed(draw: st.DrawFn, valid: Sequence[Any]) -> Any:
    """A valid input of which a part or two is something else, has a new name, or is missing."""
    value = draw(st.sampled_from(valid))
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(_places(value)))
        kind = draw(st.sampled_from(["other", "other", "more", "less"]))
        part = value
        for key in path:
            part = part[key]
        if kind == "other" or not isinstance(part, dict):
            value = _put(value, path, draw(ODD))
        elif kind == "more" or not part:
            value = _put(value, path, {**part, draw(st.text(max_size=8)): draw(JSON)})
        else:
            gone = draw(st.sampled_from(sorted(part)))
            value = _put(value, path, {key: each for key, each in part.items() if key != gone})
    return value


def _written(value: Any, as_yaml: bool) -> bytes:
    if as_yaml:
        try:
            return yaml.safe_dump(value, allow_unicode=True).encode(errors="surrogatepass")
        except (yaml.YAMLError, ValueError):
            pass
    return json.dumps(value).encode()


@st.composite
def _damaged(draw: st.DrawFn, text: bytes) -> bytes:
    """Bytes of which a stretch was lost, doubled, or replaced."""
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 40)))
    stretch = draw(st.one_of(st.just(b""), st.binary(max_size=8), st.just(text[start:end] * 2)))
    return text[:start] + stretch + text[end:]


@st.composite
def inputs(draw: st.DrawFn, valid: Sequence[Any]) -> bytes:
    """Bytes that a careless or hostile client would send in place of one of these valid values."""
    kind = draw(st.sampled_from(["changed", "changed", "changed", "damaged", "valid", "json", "bytes", "deep"]))
    as_yaml = draw(st.booleans())
    if kind == "bytes":
        return draw(st.binary(max_size=200))
    if kind == "deep":
        return draw(st.sampled_from([b"[", b'{"a":', b"- ", b"a: {b: ", b"&a [*a, ", b"? "])) * draw(
            st.sampled_from([10, 63, 64, 65, 1000, 30_000])
        )
    if kind == "json":
        return _written(draw(JSON), as_yaml)
    if kind == "damaged":
        return draw(_damaged(_written(draw(st.sampled_from(valid)), as_yaml)))
    return _written(draw(st.sampled_from(valid) if kind == "valid" else _changed(valid)), as_yaml)


def drawn(strategy: st.SearchStrategy[bytes], count: int = COUNT) -> list[bytes]:
    """So many of them, the same ones in each run."""
    found: list[bytes] = []

    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(one: bytes) -> None:
        found.append(one)

    collect()
    return found
