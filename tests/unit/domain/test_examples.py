"""The example templates are what `headrace templates apply` takes, and what a submit of them renders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headrace.cli.files import template_from
from headrace.domain.job_requests import JobType
from headrace.domain.templates import parse_template
from tests.support.world import World

EXAMPLES = sorted((Path(__file__).parents[3] / "examples" / "templates").glob("*.yaml"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_can_be_registered_and_submitted(file: Path, world: World) -> None:
    body: dict[str, Any] = template_from(file, file.parents[1])
    template = world.services.register.template(body, "default")
    assert template.template_id == file.stem
    assert world.services.register.template(body, "default").version == 1
    manifest = world.services.accept.render("x", {"template_id": template.template_id}, tenant="default")
    assert manifest["spec"]["job"]["parallelism"] == 1


def test_there_is_an_example_of_each_type() -> None:
    types = {parse_template(template_from(file, file.parents[1])).body["type"] for file in EXAMPLES}
    assert types == set(JobType)
