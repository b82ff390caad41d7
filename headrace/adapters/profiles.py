"""Resource profiles from a file: sizes of pods by a name that templates give. Knows no use case."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError

from headrace.domain.job_requests import Resources
from headrace.errors import ConfigurationError

PROFILES: Mapping[str, Resources] = {
    name: Resources.model_validate(
        {
            "job_manager": {"memory": manager, "cpu": manager_cpu},
            "task_manager": {"memory": memory, "cpu": cpu, "slots": slots},
        }
    )
    for name, manager, manager_cpu, memory, cpu, slots in (
        ("small", "1g", 0.5, "1g", 0.5, 1),
        ("medium", "1600m", 1.0, "4g", 2.0, 2),
        ("large", "2g", 1.0, "8g", 4.0, 4),
    )
}
"""What there is where no file is set."""


def read_profiles(file: Path | None) -> Mapping[str, Resources]:
    """The profiles of a YAML file: a name -> resources as a template has them. Raises ConfigurationError."""
    if file is None:
        return PROFILES
    try:
        return TypeAdapter(dict[str, Resources]).validate_python(yaml.safe_load(file.read_text()) or {})
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ConfigurationError(f"HEADRACE_RESOURCE_PROFILES_FILE: {file}: {error}") from error
