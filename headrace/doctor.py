"""`headrace-doctor [worker|sync|launcher …]`: which runtimes work where such a process runs, and what each lacks. An
entry point of its own.

It asks with the account, and by the settings, of the process that it stands beside, before that has started at all.
What processes at work have said of themselves is `headrace doctor`'s.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Iterator, Sequence

from headrace import bootstrap
from headrace import settings as settings_module
from headrace.domain.runtime_reports import Process
from headrace.errors import HeadraceError
from headrace.services.report_runtimes import what_lacks
from headrace.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where each runtime that the installation has works here; 1 with a line for what is lacking."""
    parser = argparse.ArgumentParser(prog="headrace-doctor", description=__doc__)
    names = [process.value for process in Process]
    help_of_them = f"what runs here: {', '.join(names)}; all of them if not said"
    parser.add_argument("processes", nargs="*", metavar="PROCESS", help=help_of_them)
    asked = parser.parse_args(arguments).processes or names
    if unknown := [each for each in asked if each not in names]:
        parser.error(f"{unknown[0]}: must be one of {', '.join(names)}")
    try:
        lines = list(told(settings_module.load(), [Process(each) for each in asked]))
    except HeadraceError as error:
        print(error, file=sys.stderr)
        return 1
    for line in lines:
        print(line)
    return 0 if all(line.startswith("ok") for line in lines) else 1


def told(settings: Settings, processes: Collection[Process] = tuple(Process)) -> Iterator[str]:
    """A line for each runtime that works for these processes, and for each thing that one lacks. Raises
    ConfigurationError."""
    runtimes = bootstrap.runtimes_of(settings)
    for name, runtime in runtimes.adapters.items():
        taken = [process for process in runtimes.takes(name) if process in processes]
        found = (each for process in taken for each in what_lacks(runtime, settings.namespace, process))
        lacks = list(dict.fromkeys(found))
        yield from (f"no   runtime {name}: {each}" for each in lacks)
        if taken and not lacks:
            yield f"ok   runtime {name} works in namespace {settings.namespace}"


if __name__ == "__main__":
    raise SystemExit(main())
