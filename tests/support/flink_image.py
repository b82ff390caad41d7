"""The Flink image, as far as it can be had without a Docker engine: the Dockerfile's instructions, and a root folder
that its own shell lines work on. The rest of the image is not looked at here.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

FLINK_APP = Path(__file__).parents[2] / "flink_app"


@dataclass(frozen=True)
class Instruction:
    word: str
    rest: str


def instructions() -> list[Instruction]:
    text = (FLINK_APP / "Dockerfile").read_text()
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = lines.replace("\\\n", "")
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def all_of(word: str) -> list[str]:
    return [one.rest for one in instructions() if one.word == word]


def only(word: str, containing: str) -> str:
    (found,) = [rest for rest in all_of(word) if containing in rest]
    return found


def copied() -> dict[str, str]:
    """Our own files, by the path that each has in the image."""
    lines = [rest.split() for rest in all_of("COPY") if "/opt/headrace/" in rest]
    return {folder + name: name for _, *names, folder in lines for name in names}


def copy_ours(root: Path) -> None:
    """Puts them below `root`."""
    for path, name in copied().items():
        place = root / path.removeprefix("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((FLINK_APP / name).read_bytes())


def shell(line: str, root: Path, **args: str) -> subprocess.CompletedProcess[str]:
    """Runs a RUN line as a build would, but below `root`, and without giving anything to users who are not here."""
    moved = re.sub(r"(?<![\w/])/opt/(?=(?:flink|headrace)\b)", f"{root}/opt/", line)
    argv = ["/bin/sh", "-c", f"chown() {{ :; }}; {moved}"]
    return subprocess.run(argv, env=args, capture_output=True, text=True, timeout=60, check=False)


def build(root: Path, version: str) -> None:
    """What the Dockerfile does to Flink's own folder, which is at `root`/opt/flink, and beside it."""
    for line in all_of("RUN"):
        if "/opt/headrace" in line or "/opt/flink/opt" in line:
            done = shell(line, root, FLINK_VERSION=version, S3_PLUGIN="false")
            assert done.returncode == 0, done.stderr
    copy_ours(root)
