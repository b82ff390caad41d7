"""`python -m tests.processes.mutant NAME MODULE …`: runs one of our processes with a fault in its code, put there on
purpose. What `./run faults` finds in it says what it would find in ours; the run itself knows nothing of it.
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
    """A patch is written whatever has been written meanwhile."""
    return [patch.object(runtime, "_tests", lambda fence: [])]


def no_key() -> Sequence[Any]:
    """What is asked for again is another operation."""
    return [patch.object(accept, "operation_id", lambda tenant, key: str(uuid.uuid4()))]


def place_is_kept() -> Sequence[Any]:
    """An acknowledgement that Redis did not take keeps its place in the worker."""
    from worker.transport import QoS

    return [patch.object(QoS, "ack", QoS.__mro__[1].ack)]  # type: ignore[attr-defined]


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
