"""`python -m tests.processes.mutant NAME MODULE …`: runs one of our processes with a fault in its code, put there on
purpose. What `./run faults` finds in it says what it would find in ours; the run itself knows nothing of it.

Where a docstring names arguments, a run with them has caught that fault; one that does not come to rest is caught too.
"""

from __future__ import annotations

import runpy
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

from headrace.adapters.kubernetes import runtime
from headrace.services import accept
from tests.model.mutants import (
    newest_first,
    success_without_looking,
    unknown_state_taken_as_none,
)


def no_fence() -> Sequence[Any]:
    """A patch is written whatever has been written meanwhile. Caught by `--jobs 1 --operations 24 --faults late
    --seed 2`: an ADOPT that came 12 s late took the sequence from 5 back to 1."""
    return [patch.object(runtime, "_tests", lambda fence: [])]


def no_key() -> Sequence[Any]:
    """What is asked for again is another operation. Caught by `--seed 1`: what was acknowledged is nowhere. As soon as
    an answer names another operation than its key's, nobody waits for rest any more."""
    return [patch.object(accept, "operation_id", lambda tenant, key: str(uuid.uuid4()))]


def place_is_kept() -> Sequence[Any]:
    """An acknowledgement that Redis did not take keeps its place in the worker. No seed has been seen to catch it."""
    from worker.transport import QoS

    return [patch.object(QoS, "ack", QoS.__mro__[1].ack)]  # type: ignore[attr-defined]


# newest-first is caught by `--jobs 1 --operations 20 --faults late,freeze --seed 1`; unknown-state-taken-as-none has
# not been with a JobManager that stays away (`--faults lose`, seeds 1 to 3, before a loss waited for a checkpoint): by
# `--model` alone so far, as Flink's HA metadata mostly know what no JobManager says.
MUTANTS: Mapping[str, Callable[[], Sequence[Any]]] = {
    each.__name__.replace("_", "-"): each
    for each in (no_fence, no_key, place_is_kept, newest_first, success_without_looking, unknown_state_taken_as_none)
}


def main() -> None:
    """Becomes the module that is named, with the fault in it."""
    name, module, *arguments = sys.argv[1:]
    sys.argv = [module, *arguments]
    with ExitStack() as stack:
        for each in MUTANTS[name]():
            stack.enter_context(each)
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
