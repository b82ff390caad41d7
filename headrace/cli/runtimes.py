"""Which runtimes work, as `headrace doctor` says it. Knows what the API answers, and no runtime by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headrace.client import Client
from headrace.errors import NotFound

STARTED_BY = {
    "worker": "k8s-deploy/base/worker.yaml",
    "sync": "k8s-deploy/base/sync.yaml",
    "launcher": "k8s-deploy/components/native",
}
"""Where a cluster gets each process from."""


def told(client: Client) -> bool:
    """Prints a line or more for each runtime. False where the default one is known not to work."""
    try:
        found = client.runtimes()
    except NotFound:
        print("??   runtimes: this API is of a release that does not say which of them work")
        return True
    for runtime in found:
        print(*lines(runtime), sep="\n")
    return all(each["works"] is not False for each in found if each["is_default"])


def lines(runtime: dict[str, Any]) -> Iterator[str]:
    """What is to be said of one."""
    name = f"runtime {runtime['name']}"
    for lack in runtime["lacks"]:
        by = " and ".join(f"the {process}" for process in lack["said_by"])
        yield f"no   {name}: {lack['what']} (by the word of {by})"
    for process in runtime["silent"]:
        place = f" ({STARTED_BY[process]})" if process in STARTED_BY else ""
        yield f"??   {name}: no {process} has reported within three minutes: is one running{place}?"
    if runtime["works"]:
        yield f"ok   {name} works{' (default)' if runtime['is_default'] else ''}"
