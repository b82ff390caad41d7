"""What a container gets is what was typed, though Kubernetes takes `$$` and `$(X)` for more in env and command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.domain.job_requests import parse_request
from headrace.domain.manifest import Stamp, render
from headrace.domain.manifest.parts import as_typed
from local.flink_operator.environment import command, expanded, variables
from local.flink_operator.mapping import PodView, pod_view
from tests.support.given import FILE, HOST, ORDERS, PLATFORM

DOLLARS = st.text("$()AX ab{}", max_size=30)


def kubernetes_expands(text: str, known: dict[str, str]) -> str:
    """The rule as Kubernetes has it (forked/golang/expansion), one character after the other."""
    out, at = "", 0
    while at < len(text):
        if text[at] != "$" or at + 1 == len(text):
            out, at = out + text[at], at + 1
        elif text[at + 1] == "$":
            out, at = out + "$", at + 2
        elif text[at + 1] == "(" and (end := text.find(")", at)) > 0:
            name = text[at + 2 : end]
            out, at = out + known.get(name, f"$({name})"), end + 1
        else:
            out, at = out + text[at : at + 2], at + 2
    return out


@given(DOLLARS)
def test_kubernetes_makes_of_a_rendered_text_what_was_typed(text: str) -> None:
    assert kubernetes_expands(as_typed(text), {"X": "canary", "A": "canary", "": "canary"}) == text


@given(DOLLARS, st.dictionaries(st.sampled_from(["X", "A"]), st.text(max_size=3)))
def test_the_laptop_expands_as_kubernetes_does(text: str, known: dict[str, str]) -> None:
    assert expanded(text, known) == kubernetes_expands(text, known)


def view_of(body: dict[str, Any], folder: Path) -> PodView:
    platform = PLATFORM
    state = {"location": "s3://bucket/flink"}
    return pod_view(render(ORDERS, parse_request({**body, "state": state}), platform, Stamp(1, "o", 1))["spec"], folder)


@pytest.mark.parametrize("typed", ["a$$b", "$(X)", "$", "$$(X)", "$$$", "${X}", "$(A", "a$(X)$$(X)b"])
def test_a_variable_is_what_was_typed(typed: str, tmp_path: Path) -> None:
    view = view_of({"script": FILE, "env": {"X": "x", "Y": typed}}, tmp_path)
    assert variables(view.main, lambda *_: None)["Y"] == typed


def test_the_words_of_a_command_are_what_was_typed(tmp_path: Path) -> None:
    url = f"{HOST}/a$$b$(HEADRACE_JOB_ID).jar"
    view = view_of({"type": "JAR", "jar": url}, tmp_path)
    (fetcher,) = view.init
    assert url in command(fetcher, {"HEADRACE_JOB_ID": "orders"})


def test_arguments_pass_by_no_container_and_stay_as_they_are() -> None:
    """Flink's own configuration carries them, in which nothing is expanded."""
    args = ["a$$b", "$(X)"]
    manifest = render(ORDERS, parse_request({"script": FILE, "args": args}), PLATFORM, Stamp(1, "o", 1))
    assert manifest["spec"]["job"]["args"][-2:] == args


def test_a_variable_may_name_those_before_it_in_a_deployment_of_somebody_else(tmp_path: Path) -> None:
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)$(C)"}, {"name": "C", "value": "3"}]
    container = {"name": "flink-main-container", "env": env}
    view = pod_view({"podTemplate": {"spec": {"containers": [container]}}}, tmp_path)
    assert variables(view.main, lambda *_: None)["B"] == "1$(C)"
