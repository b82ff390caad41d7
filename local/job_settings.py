"""What jobs get: what was said, and on the laptop's own cluster the laptop's values where nothing was.

On another cluster the product's defaults hold there (headrace/settings.py). It starts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

NAMESPACE, SERVICE_ACCOUNT = "HEADRACE_NAMESPACE", "HEADRACE_FLINK_SERVICE_ACCOUNT"
IMAGE, FLINK_VERSION = "HEADRACE_FLINK_IMAGE", "HEADRACE_FLINK_VERSION"
STATE_LOCATION, STATE_VOLUME = "HEADRACE_FLINK_STATE_LOCATION", "HEADRACE_FLINK_STATE_VOLUME"
ALLOWED_HOSTS = "HEADRACE_FLINK_ALLOWED_HOSTS"
OPEN: Mapping[str, str] = {
    **dict.fromkeys(
        (
            *("HEADRACE_ALLOWED_IMAGES", "HEADRACE_ALLOWED_SERVICE_ACCOUNTS", "HEADRACE_ALLOWED_SECRETS"),
            *("HEADRACE_ALLOWED_CONFIG_MAPS", "HEADRACE_ALLOWED_CLAIMS", "HEADRACE_ALLOWED_ANNOTATIONS"),
            *("HEADRACE_ALLOWED_TOLERATIONS", "HEADRACE_ALLOWED_PRIORITY_CLASSES"),
        ),
        "*",
    ),
    "HEADRACE_ALLOWED_HOST_PATHS": "/",
}
"""What the laptop's own cluster lets jobs have: they run as its user, on this machine, whatever a list says."""

ELSEWHERE = (
    f"say where all its pods find it: --state-location s3://bucket/path ({STATE_LOCATION}), or file:///path "
    f"with --state-volume pvc:claim ({STATE_VOLUME})"
)


def on_the_laptop(said: Mapping[str, str], data: Path) -> dict[str, str]:
    """The laptop's own cluster: a folder of the data folder for state, its own web servers for programs."""
    location = said.get(STATE_LOCATION, f"file://{data / 'state'}")
    parts = urlsplit(location)
    volume = f"hostPath:{parts.path}" if parts.scheme == "file" else ""
    own = {NAMESPACE: "default", SERVICE_ACCOUNT: "flink", IMAGE: "headrace/flink:2.2.1", ALLOWED_HOSTS: "127.0.0.1"}
    return {**own, **OPEN, STATE_LOCATION: location, STATE_VOLUME: volume, **said}


def of_this_machine(said: Mapping[str, str], data: Path) -> str | None:
    """Why state would be lost on another cluster: its folder is in a laptop's data folder. None where it is not."""
    location, volume = said.get(STATE_LOCATION, ""), said.get(STATE_VOLUME, "")
    folders = [
        Path(text.removeprefix(start).removeprefix("//"))
        for text, start in ((location, "file:"), (volume, "hostPath:"))
        if text.startswith(start)
    ]
    for folder in folders:
        if any(place == data or (place / "stack.json").exists() for place in (folder, *folder.parents)):
            return f"state in {folder} is on this machine alone, and the jobs run on another cluster: {ELSEWHERE}"
    return None
