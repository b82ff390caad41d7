"""What stands on a native job's Deployment: what is wanted of it, and what has been done about that. Pure.

`wanted` is the spec of the FlinkDeployment that was rendered, and changes behind the fence alone. `done` is written by
whoever carries an act out, on the very text of both that the act was chosen by.
"""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.errors import Unreadable

WANTED_ANNOTATION = "headrace.io/wanted"
DONE_ANNOTATION = "headrace.io/done"
REMOVING_ANNOTATION = "headrace.io/removing"

BY_SAVEPOINT, BY_LAST_STATE = "savepoint", "last-state"
"""How a job was ended, in the words of the operator's upgradeMode."""


class _Record(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A part of what stands in an annotation."""


class Wanted(_Record, frozen=True):
    """The spec that is wanted; `generation` counts its changes."""

    spec: dict[str, Any]
    generation: int = 1


class Launch(_Record, frozen=True):
    """What was started last: Flink's id of the job, and the state that it began from."""

    job_id: str
    start_from: str | None = None


class Left(_Record, frozen=True):
    """What the job left behind when it was ended: the path, None where it had no state or where it is not known yet."""

    by: str
    path: str | None = None
    is_known: bool = True


class Stop(_Record, frozen=True):
    """A stop under way: by the savepoint of this trigger, or without one. `left` is what a job that had come to its end
    leaves behind: no JobManager and no HA metadata say that later on."""

    trigger: str | None = None
    left: Left | None = None


class Save(_Record, frozen=True):
    """A savepoint under way of a job that runs on, and the nonce that asked for it."""

    trigger: str
    nonce: int


class Saved(_Record, frozen=True):
    """The savepoint that was taken last for a nonce."""

    location: str
    nonce: int


class Error(_Record, frozen=True):
    """Why the last act did not come about; `is_final` says that it is not tried again as it is."""

    type: str
    message: str
    is_final: bool = False


class Done(_Record, frozen=True):
    """What has been carried out: `generation` is the newest whose change has begun for good, `spec` the one that runs,
    `attempts` how many savepoints were asked for. `required` is at what the vertices of what was started were to run
    before their JobManager was told otherwise."""

    generation: int = 0
    spec: dict[str, Any] | None = None
    launch: Launch | None = None
    stop: Stop | None = None
    left: Left | None = None
    save: Save | None = None
    saved: Saved | None = None
    error: Error | None = None
    attempts: int = 0
    required: dict[str, int] | None = None

    @property
    def is_up(self) -> bool:
        """Whether something was started, and not ended by us since."""
        return self.launch is not None and self.left is None


UPGRADE_FAILURE = "headrace.UpgradeFailureException"
"""What the status calls an act that is tried again: the plan gives it the grace of a failing upgrade."""

LAUNCH_FAILURE = "headrace.LaunchException"

_wanted, _done = msgspec.json.Decoder(Wanted), msgspec.json.Decoder(Done)


def wanted_in(annotations: dict[str, str]) -> Wanted:
    """Raises Unreadable where it is not there, or somebody has made something else of it."""
    found: Wanted = _read(_wanted, annotations, WANTED_ANNOTATION)
    return found


def done_in(annotations: dict[str, str]) -> Done:
    """Nothing where nothing is there yet. Raises Unreadable."""
    found: Done = _read(_done, annotations, DONE_ANNOTATION) if DONE_ANNOTATION in annotations else Done()
    return found


def _read(decoder: msgspec.json.Decoder[Any], annotations: dict[str, str], name: str) -> Any:
    try:
        return decoder.decode(annotations.get(name, ""))
    except msgspec.DecodeError as error:
        raise Unreadable(f"its Deployment cannot be read: {name}: {error}; nobody but Headrace writes it") from error


def text_of(record: Wanted | Done) -> str:
    """The record as its annotation has it; the same record gives the same text."""
    return msgspec.json.encode(record, order="sorted").decode()
