"""What happened while a schedule was played, as whoever looks from outside could see it: what the checker judges.

Must not know how it was brought about.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from headrace.domain.deployments import JOB_ID_ANNOTATION, OPERATION_ANNOTATION, SEQUENCE_ANNOTATION
from tests.processes.proxies import Write

Whole = Mapping[str, Any]
DELETING = ("hand deletes", "hand restores")


@dataclass
class Ask:
    """A request for an operation, by one way, under one key; `answers` are the HTTP status and the operation's id of
    each try that was answered. `is_sure`: a Kafka broker has it, so that it may not be lost. `event`: the id of the
    CloudEvent that asks for it."""

    at: float
    key: str
    via: str
    kind: str
    job_id: str
    arguments: Mapping[str, Any]
    is_sure: bool = False
    answers: list[tuple[int, str]] = field(default_factory=list)
    sequence: int | None = None
    answered_at: float | None = None
    longest_seconds: float = 0.0
    event: str = ""

    @property
    def acknowledged(self) -> set[str]:
        """The operations that it was told it has become."""
        return {operation for status, operation in self.answers if status in (200, 202)}


@dataclass(frozen=True)
class Struck:
    """A fault, as it was played: when, what, and for how long."""

    at: float
    what: str
    seconds: float
    job_id: str = ""


@dataclass(frozen=True)
class Touch:
    """What somebody's hand did to a deployment, from `at` to `until`: `uid` is the one that it deleted, edited or
    relabelled, `generation` what its edit came to, and `made` the uid of the one that it made. Only what this names is
    the hand's doing; everything else of the job is ours."""

    at: float
    until: float
    what: str
    job_id: str
    uid: str = ""
    generation: int = 0
    made: str = ""


@dataclass(frozen=True)
class Version:
    """A deployment as the API had it; `was_deleted`: this was its last."""

    at: float
    was_deleted: bool
    whole: Whole

    @property
    def name(self) -> str:
        return str(self.whole["metadata"]["name"])

    @property
    def uid(self) -> str:
        return str(self.whole["metadata"]["uid"])

    @property
    def generation(self) -> int:
        return int(self.whole["metadata"]["generation"])

    @property
    def spec(self) -> Whole:
        return dict(self.whole["spec"])

    @property
    def is_ours(self) -> bool:
        """Whether an annotation of ours says whose job it is."""
        return bool(self.job_id)

    @property
    def is_leaving(self) -> bool:
        """Whether it is being deleted."""
        return "deletionTimestamp" in self.whole["metadata"]

    @property
    def job_id(self) -> str:
        return str(self.annotations.get(JOB_ID_ANNOTATION, ""))

    @property
    def made_by(self) -> str:
        return str(self.annotations.get(OPERATION_ANNOTATION, ""))

    @property
    def sequence(self) -> int:
        return int(self.annotations.get(SEQUENCE_ANNOTATION, 0))

    @property
    def annotations(self) -> Mapping[str, Any]:
        return self.whole["metadata"].get("annotations") or {}


Line = tuple[float, str]


def _struck(struck: Struck) -> Line:
    lasts = f" for {struck.seconds:.1f} s" if struck.seconds else ""
    return struck.at, f"{struck.what}{lasts}" + (f" at {struck.job_id}" if struck.job_id else "")


def _wrote(write: Write) -> Line:
    words = "nothing was told" if write.told is None else f"{write.told} was told"
    name = write.path.rpartition("/")[2]
    done = "not passed on" if write.status is None else f"the server said {write.status}"
    return write.at, f"  {write.method} {name}: {done}, {words}"


def _shows(version: Version) -> str:
    status = version.whole.get("status") or {}
    flink = (status.get("jobStatus") or {}).get("state")
    leaves = ", is being deleted" if "deletionTimestamp" in version.whole["metadata"] else ""
    wanted, generation = version.whole["spec"]["job"].get("state"), version.whole["metadata"]["generation"]
    shown = f"{status.get('lifecycleState')} {flink}, observed {status.get('observedGeneration')}"
    return f"sequence {version.sequence}, generation {generation}, {wanted}; {shown}{leaves}"


@dataclass(frozen=True)
class AtRest:
    """What the readers' API and the cluster say of a job once nothing strikes any more."""

    job: Whole
    operations: Sequence[Whole]
    transitions: Sequence[Whole]
    savepoints: Sequence[str]
    live: Whole | None
    truth: Whole | None


@dataclass
class History:
    """Everything of one schedule. `by_key` is the operation that each key has become; `letters` the keys of records
    that were put aside; `gone` what the operator let go of, and the state that it had; `missing` the savepoints on
    record of which real Flink has left no file; `wrong` what a JobManager of native mode found where it started; `ran`
    at what the vertices of a job came to run, and when, where Flink is not real."""

    seed: int
    asks: list[Ask] = field(default_factory=list)
    struck: list[Struck] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    versions: list[Version] = field(default_factory=list)
    jobs: dict[str, AtRest] = field(default_factory=dict)
    by_key: dict[str, Whole] = field(default_factory=dict)
    letters: set[str] = field(default_factory=set)
    gone: list[Whole] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    touches: list[Touch] = field(default_factory=list)
    restless: str = ""
    ran: list[Whole] = field(default_factory=list)

    def show(self, stages: Sequence[Whole]) -> None:
        """Takes in what native jobs came to: no Deployment says that, so that each is another version of the one that
        was there."""
        read = list(self.versions)
        for each in stages:
            of_it = [v for v in read if v.uid == each["uid"]]
            before = [v for v in of_it if v.at <= each["at"]] or of_it[:1]  # its first was there, if seen later
            if before:
                status = {"jobStatus": {"state": each["stage"]}}
                self.versions.append(Version(each["at"], False, {**before[-1].whole, "status": status}))
        self.versions.sort(key=lambda each: each.at)

    def date(self, was_there: Callable[[int], float | None]) -> None:
        """Each version as old as it is known to be: whoever keeps the history may have been told of it late."""
        known = [was_there(int(each.whole["metadata"]["resourceVersion"])) for each in self.versions]
        self.versions = [
            each if at is None else replace(each, at=min(each.at, at))
            for each, at in zip(self.versions, known, strict=True)
        ]

    def is_by_hand(self, uid: str, generation: int) -> bool:
        """Whether this generation of a deployment is what somebody's edit has come to."""
        return any((each.uid, each.generation) == (uid, generation) for each in self.touches)

    def deleted_by_hand(self, uid: str) -> float | None:
        """When somebody has first deleted this deployment; None where nobody has before us."""
        ours = [w.at for w in self.writes if w.method == "DELETE" and w.was_done and w.meant_uid == uid]
        theirs = [each.at for each in self.touches if each.what in DELETING and each.uid == uid]
        first = min(theirs, default=None)
        return None if first is None or any(at < first for at in ours) else first

    def made_by_hand(self, uid: str) -> Touch | None:
        """How somebody has made this deployment; None where it is not a hand's."""
        return next((each for each in self.touches if each.made == uid), None)

    def versions_of(self, job_id: str) -> list[Version]:
        """Every version of the deployments of a job, in the API's order; one whose annotations are gone by its name."""
        return [each for each in self.versions if each.name == job_id]

    def told(self) -> list[str]:
        """What happened, a line each, in its order: what was asked and struck, what we wrote, what was shown."""
        lines = [*map(self._asked, self.asks), *map(_struck, self.struck), *map(_wrote, self.writes), *self._shown()]
        first = min((at for at, _ in lines), default=0.0)
        return [f"{at - first:7.2f} s  {words}" for at, words in sorted(lines)]

    def _asked(self, ask: Ask) -> Line:
        found = self.by_key.get(ask.key, {})
        statuses = ", ".join(str(status) for status, _ in ask.answers) or "no answer"
        became = f"{found['sequence']} {found['state']}: {found['reason']}" if found else "nothing"
        return ask.at, f"{ask.kind} of {ask.job_id} by {ask.via} as {ask.key}: {statuses}; became {became}"

    def _shown(self) -> Iterator[Line]:
        before: dict[str, str] = {}
        for version in self.versions:
            words = "gone" if version.was_deleted else _shows(version)
            if before.get(version.uid) != words:
                before[version.uid] = words
                yield version.at, f"  {version.name} {version.uid[:8]}: {words}"

    def written(self) -> str:
        """As text, for who looks into it."""
        return json.dumps(asdict(self), indent=1, default=lambda each: sorted(each) if isinstance(each, set) else "?")
