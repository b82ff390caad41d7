"""Which runtimes work here: each process puts on record what it lacks, and readers judge what all of them said.

Framework-free; asks no cluster for a reader, whose account is another.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from headrace.domain.runtime_reports import Process, RuntimeState, runtime_state
from headrace.errors import HeadraceError
from headrace.ports import Clock, FlinkRuntime, Scope, Store
from headrace.services.runtimes import Runtimes


@dataclass(frozen=True)
class ReportRuntimes:
    """Reports for processes, and judges for readers."""

    store: Store
    scope: Scope
    runtimes: Runtimes
    clock: Clock

    def of(self, processes: Collection[Process]) -> None:
        """Asks each runtime what a process with these parts lacks, and puts the answers on record. Idempotent. Raises
        Unavailable where the store does not answer."""
        for name, adapter in self.runtimes.adapters.items():
            for process in self.runtimes.takes(name):
                if process in processes:
                    lacks = what_lacks(adapter, self.scope.namespace, process)
                    self.store.put_runtime_report(self.scope, name, process, lacks)

    def states(self) -> Sequence[RuntimeState]:
        """Each runtime of the installation, the default one first. Raises Unavailable."""
        reports, now, names = self.store.runtime_reports(self.scope), self.clock.now(), self.runtimes
        return [
            runtime_state(name, names.takes(name), reports, now, is_default=name == names.default)
            for name in names.names
        ]


def what_lacks(adapter: FlinkRuntime, namespace: str, process: Process) -> Sequence[str]:
    """What a process lacks, in words; that it could not be found out is a lack as well."""
    try:
        return adapter.lacks(namespace, process)
    except HeadraceError as error:
        return [str(error)]
