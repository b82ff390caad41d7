"""The runtimes of an installation: which one a job runs by, and how it is looked at and planned there.

Framework-free; knows no runtime by name. A job's record keeps its runtime from the run's begin on.
"""

from __future__ import annotations

import json
import queue
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace

from headrace.domain.jobs import Job
from headrace.domain.runtime_reports import Process
from headrace.domain.runtimes.plan import Plan
from headrace.errors import HistoryGone, Unavailable
from headrace.ports import FlinkRuntime, Page, WatchEvent
from headrace.services.handover import Handover, Over

MOST_WAITING = 1000
"""Events of one runtime's watch that may wait to be handled."""


@dataclass(frozen=True)
class Installed:
    """One runtime: where its deployments go, how it gets to a goal, and the processes that it takes for that."""

    adapter: FlinkRuntime
    plan: Plan
    takes: tuple[Process, ...] = (Process.WORKER, Process.SYNC)


class Runtimes:
    """What this installation has, by name; the first is what a request gets that names none."""

    def __init__(self, installed: Mapping[str, Installed]) -> None:
        self._installed = dict(installed)

    @property
    def names(self) -> tuple[str, ...]:
        """Their names, the default one first."""
        return tuple(self._installed)

    @property
    def default(self) -> str:
        """The runtime of a request that names none."""
        return self.names[0]

    @property
    def adapters(self) -> Mapping[str, FlinkRuntime]:
        """Where deployments go, by runtime."""
        return {name: each.adapter for name, each in self._installed.items()}

    def takes(self, name: str) -> tuple[Process, ...]:
        """The processes that the runtime of this name takes."""
        return self._installed[name].takes

    def of(self, job: Job) -> FlinkRuntime:
        """Where the job's deployment is; of one that is gone, and was by a runtime that the installation has no more,
        where its next one goes. Raises Unavailable where this installation has no such runtime."""
        return self._of(job).adapter

    def plan_of(self, job: Job) -> Plan:
        """How the job gets to a goal. Raises as `of` does."""
        return self._of(job).plan

    def named(self, name: str) -> FlinkRuntime | None:
        """The runtime of this name, where the installation has it."""
        found = self._installed.get(name)
        return found.adapter if found is not None else None

    def _of(self, job: Job) -> Installed:
        found = self._installed.get(self.default if job.is_gone and job.runtime not in self._installed else job.runtime)
        if found is None:
            has = ", ".join(self.names)
            raise Unavailable(
                f"job {job.job_id}: it runs by the {job.runtime} runtime, and this process has {has} alone "
                f"(HEADRACE_RUNTIMES)"
            )
        return found

    def list_pages(self, namespace: str) -> Iterator[tuple[str, Page]]:
        """The pages of each runtime's list, with its name; each page's version is the cursor up to there."""
        versions: dict[str, str] = {}
        for name, adapter in self.adapters.items():
            for page in adapter.list_pages(namespace):
                versions[name] = page.resource_version
                yield name, replace(page, resource_version=self._cursor(versions))

    def watch(self, namespace: str, cursor: str, timeout_seconds: int) -> Iterator[tuple[str, WatchEvent]]:
        """What comes after the cursor from any runtime, with its name and the cursor up to there. Raises HistoryGone
        also where the cursor is of other runtimes than those of today."""
        versions = self._versions(cursor)
        if len(self._installed) == 1:
            name, adapter = next(iter(self.adapters.items()))
            for event in adapter.watch(namespace, versions[name], timeout_seconds):
                yield name, replace(event, cursor=event.deployment.metadata.resource_version)
            return
        with closing(iter(_Merged(self.adapters, versions, namespace, timeout_seconds))) as events:
            for name, event in events:
                versions[name] = event.deployment.metadata.resource_version
                yield name, replace(event, cursor=self._cursor(versions))

    def _cursor(self, versions: Mapping[str, str]) -> str:
        """One runtime's own version, as it is; several by their names."""
        if len(self._installed) == 1:
            return next(iter(versions.values()))
        return json.dumps(versions, sort_keys=True)

    def _versions(self, cursor: str) -> dict[str, str]:
        if len(self._installed) == 1 and not cursor.startswith("{"):
            return {self.default: cursor}
        with suppress(ValueError):
            found = json.loads(cursor)
            if isinstance(found, dict) and set(found) == set(self._installed):
                return {name: str(version) for name, version in found.items()}
        raise HistoryGone(f"the cursor is not of the runtimes {', '.join(self.names)}: list again")


class _Merged:
    """The events of several watches as they come, each read in a thread of its own."""

    def __init__(
        self, adapters: Mapping[str, FlinkRuntime], versions: Mapping[str, str], namespace: str, seconds: int
    ) -> None:
        self._watches = {
            name: _watch(name, adapter, namespace, versions[name], seconds) for name, adapter in adapters.items()
        }
        self._bound = seconds + 30.0

    def __iter__(self) -> Generator[tuple[str, WatchEvent], None, None]:
        """Ends with the last of them; raises what ended one of them. However it is left, the threads end with it."""
        came = Handover[tuple[str, WatchEvent]](MOST_WAITING)
        still_open = len(self._watches)
        for name, watch in self._watches.items():
            came.read(watch, f"watch-{name}")
        try:
            while still_open:
                (event,) = came.take(1, self._bound)
                if not isinstance(event, Over):
                    yield event
                    continue
                still_open -= 1
                if event.error is not None:
                    raise event.error
        except queue.Empty:
            raise Unavailable("a watch of deployments went silent beyond its bound") from None
        finally:
            came.leave()


def _watch(
    name: str, adapter: FlinkRuntime, namespace: str, version: str, seconds: int
) -> Iterator[tuple[str, WatchEvent]]:
    for event in adapter.watch(namespace, version, seconds):
        yield name, event
