"""A process that executes one job as a worker does, and stops itself (SIGSTOP) right before it would create."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from headrace import bootstrap, settings
from headrace.domain.deployments import Deployment
from headrace.domain.jobs import JobKey
from headrace.errors import TransientError
from headrace.ports import FlinkRuntime


class FreezesBeforeItsCreate:
    """A runtime whose process is frozen when it is about to create."""

    def __init__(self, runtime: FlinkRuntime) -> None:
        self._runtime = runtime

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def create(self, manifest: Mapping[str, Any]) -> Deployment | None:
        os.kill(os.getpid(), signal.SIGSTOP)
        return self._runtime.create(manifest)


def main(job_id: str) -> None:
    loaded = settings.load()
    real = bootstrap.services(loaded)
    services = bootstrap.wired(
        loaded,
        store=real.store,
        queue=real.queue,
        runtime=FreezesBeforeItsCreate(real.runtime),  # type: ignore[arg-type]
        job_manager=real.job_manager,
        clock=real.clock,
        sealer=None,
    )
    try:
        services.execute.oldest_open_operation(JobKey(loaded.tenant, job_id))
    except TransientError as error:
        print(error)


if __name__ == "__main__":
    main(sys.argv[1])
