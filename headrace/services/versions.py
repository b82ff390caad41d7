"""A job's versions as its log has them, and the whole request of one. Reads records alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.domain import versions as of_log
from headrace.domain.document import JobDocument
from headrace.domain.jobs import JobKey, scaled
from headrace.domain.operations import Operation
from headrace.domain.versions import Version
from headrace.errors import Conflict, NotFound
from headrace.services.records import Records, merged

AT_ONCE = 100
"""Operations that one read of the log takes: some hold whole programs."""


@dataclass(frozen=True)
class Whole:
    """A version with its request whole, programs included, and the operation that was resolved to it, a scale apart."""

    version: Version
    request: Mapping[str, Any]
    made_by: Operation


@dataclass(frozen=True)
class Versions:
    """Reads versions. A job of no version gives none."""

    records: Records

    def all(self, key: JobKey) -> Sequence[Version]:
        """Every version, oldest first."""
        document = self.records.store.document(key)
        return list(of_log.versions(self._log(key, document)))

    def one(self, key: JobKey, number: int) -> Version:
        """The version of this number. Raises NotFound, with those that there are."""
        return self.among(self.all(key), key, number)

    def among(self, known: Sequence[Version], key: JobKey, number: int) -> Version:
        """The one of this number of a job's versions. Raises as `one` does."""
        found = next((each for each in known if each.number == number), None)
        if found is None:
            raise NotFound(f"job {key.job_id}: there is no version {number}; {_those_known(key, known)}")
        return found

    def whole(self, key: JobKey, version: Version) -> Whole:
        """The version with its request. Raises Conflict where the log does not have it any more."""
        made_by = self.records.store.operation(key.tenant, version.made_by)
        if made_by is None or "request" not in made_by.arguments:
            words = f"version {version.number} has no request on record (it was adopted, or is too old); choose another"
            raise Conflict(f"job {key.job_id}: {words}")
        return Whole(version, scaled(made_by.arguments["request"], *version.scale), made_by)

    def _log(self, key: JobKey, document: JobDocument | None) -> Iterator[Operation]:
        """The whole log, and the ends that its job's document alone has yet."""
        placed = {each.id: each for each in (*document.open_operations, *document.ended)} if document else {}
        after = 0
        while found := self.records.store.operations_of(key, after=after, limit=AT_ONCE):
            yield from (merged(placed[each.id], each) if each.id in placed and each.is_open else each for each in found)
            after = found[-1].sequence


def _those_known(key: JobKey, known: Sequence[Version]) -> str:
    if not known:
        return "it has none yet"
    return f"it has 1 to {known[-1].number}: GET jobs/{key.job_id}/versions lists them"
