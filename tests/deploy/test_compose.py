"""docker-compose.yml: against the specification's own schema, and what is promised of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from headrace.health import PROCESSES
from headrace.settings import Settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {"api", "worker", "sync", "beat", "consumer", "flower", "migrate"}


def test_it_is_what_the_specification_allows() -> None:
    schema = json.loads((ROOT / "tests" / "data" / "compose-spec" / "compose-spec.json").read_text())
    problems = [f"{list(each.path)}: {each.message}" for each in Draft7Validator(schema).iter_errors(COMPOSE)]
    assert problems == []


def test_everything_is_there_and_ours_are_one_image() -> None:
    assert set(SERVICES) == OURS | {"mongodb", "redis", "kafka"}
    for name in OURS:
        service = SERVICES[name]
        assert service["image"] == "${HEADRACE_IMAGE:-headrace:0.1.0}"
        assert service["read_only"]
        assert service["user"] == "10001:10001"
        assert "entrypoint" not in service  # the image's: no shell stands between it and SIGTERM


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"migrate"}))
def test_each_has_a_health_check(name: str) -> None:
    test = SERVICES[name]["healthcheck"]["test"]
    assert test[0] == "CMD"
    if name in PROCESSES:
        assert test[1:] == ["python", "-m", "headrace.health", name]


def test_each_begins_once_what_it_needs_is_healthy() -> None:
    for name in OURS - {"migrate"}:
        needs = {each: how["condition"] for each, how in SERVICES[name]["depends_on"].items()}
        assert needs["mongodb"] == needs["redis"] == "service_healthy"
        assert needs["migrate"] == "service_completed_successfully"
        assert ("kafka" in needs) == (name == "consumer")


def test_redis_keeps_what_it_was_told_behind_a_password() -> None:
    lines = COMPOSE["configs"]["redis"]["content"].splitlines()
    assert {"appendonly yes", "maxmemory-policy noeviction"} <= set(lines)
    assert lines[-1].startswith("requirepass ${REDIS_PASSWORD:?")
    assert "REDIS_PASSWORD" not in json.dumps(SERVICES["redis"]["command"])


def test_every_variable_is_a_setting() -> None:
    known = {f"HEADRACE_{name.upper()}" for name in Settings.model_fields}
    for name in OURS:
        assert set(SERVICES[name]["environment"]) <= known, name


def test_nothing_listens_to_the_network_but_on_the_loopback() -> None:
    ports = [each for service in SERVICES.values() for each in service.get("ports", [])]
    assert ports
    assert all(each.startswith("127.0.0.1:") for each in ports)


def test_the_example_names_every_variable_and_no_value_that_is_a_secret() -> None:
    named = set(re.findall(r"\$\{([A-Z_]+)", TEXT))
    example = (ROOT / ".env.example").read_text()
    told = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", example, re.MULTILINE))
    assert set(told) == named
    assert told["REDIS_PASSWORD"] == ""
    for name, default in re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", TEXT):
        assert told[name] == default
