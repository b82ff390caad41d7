"""Text from outside becomes data in one place: bounded, and of a shape that everything behind can take."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.domain.inputs import MOST_DEPTH, blamed_on_input, json_object, json_or_yaml_object
from headrace.errors import MOST_PROBLEMS, InvalidRequest, Unforeseen

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(st.binary(max_size=300))
def test_any_bytes_are_an_object_or_a_refusal_in_words(text: bytes) -> None:
    for parse in (json_object, json_or_yaml_object):
        with suppress(InvalidRequest):
            json.dumps(parse(text, "body"), allow_nan=False).encode()


@given(st.dictionaries(TEXT, JSON, max_size=5))
def test_what_is_json_comes_back_as_it_was_meant(data: dict[str, Any]) -> None:
    text = json.dumps(data).encode()
    assert json_object(text, "body") == data
    assert json_or_yaml_object(text, "body") == data


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[" * 25_000, "levels deep"),
        (b"- " * 60_000, "levels deep"),
        (b"a: " + b"[" * (MOST_DEPTH + 5), "levels deep"),
        (b"a:\n" + b"- 0\n" * 30_000, "holds more than 20000 values"),
        (b'{"a": [' + b"0," * 30_000 + b"0]}", "holds more than 20000 values"),
        (b'{"a": "' + b"[,{" * 30_000 + b'", "b": ' + b"[" * (MOST_DEPTH + 5), "levels deep"),
        (b"a: &x [1]\nb: *x", "anchors and aliases"),
        (b"a: !!int abc", "tags"),
        (b"a: .nan", "finite"),
        (b"a: .inf", "finite"),
        (b'{"a": 1e999}', "finite"),
        (b'{"a": ' + b"9" * 5000 + b"}", "64 bits"),
        (b"a: 1\na: 2", "twice"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b"\xff", "UTF-8"),
        (b"a: 1\n---\nb: 2", "one document"),
        (b"x" * 3_000_000, "larger than"),
    ],
)
def test_what_nobody_could_use_is_refused_before_it_is_built(text: bytes, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        json_or_yaml_object(text, "body")


def test_yaml_is_read_as_it_was_typed() -> None:
    text = b"AT: 10:30\nMODE: 0755\nON: on\nDAY: 2024-01-01\nN: 3\nF: 1.5\nB: true\nE:\nQ: '3'"
    assert json_or_yaml_object(text, "body") == {
        "AT": "10:30",
        "MODE": "0755",
        "ON": "on",
        "DAY": "2024-01-01",
        "N": 3,
        "F": 1.5,
        "B": True,
        "E": None,
        "Q": "3",
    }


def test_what_nobody_foresaw_is_blamed_on_the_input_without_its_words() -> None:
    with pytest.raises(Unforeseen) as caught, blamed_on_input("job_config"):
        raise TypeError("hunter2")
    assert "hunter2" not in str(caught.value)
    assert isinstance(caught.value.__cause__, TypeError)


def test_a_refusal_has_bounds() -> None:
    error = InvalidRequest({f"field-{n}\n" * 100: "w" * 5000 for n in range(6000)})
    assert len(error.problems) == MOST_PROBLEMS + 1
    assert len(str(error)) < 30_000
    assert "\n" not in str(error)
