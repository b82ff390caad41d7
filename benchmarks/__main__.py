"""`./run bench [NAME]`: which benchmarks there are, or one of them. Each is a module of its own here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

NAMES = {
    "operations": "SUBMITs that one worker carries out in a second, against bare Celery tasks",
    "latency": "from accepted to applied, against a bare Celery task",
    "accept": "how long HTTP takes to accept, p99, against a bare route with the same writes",
    "kafka": "records that become durable operations in a second, against a bare bulk insert",
    "sync": "what the status sync costs with 1000, 5000 and 10,000 deployments",
    "calls": "the requests that each operation takes, by runtime, counted on the cluster in memory",
    "runtimes": "the life of one job by the operator and by Flink's native mode, on the laptop's stack",
}


def main(argv: Sequence[str]) -> int:
    """Runs the one that is named; without a name says which there are. 2 where there is none of the name."""
    if argv and argv[0] in NAMES:
        return int(import_module(f"benchmarks.{argv[0]}").main(argv[1:]))
    print("usage: ./run bench NAME [options]   (NAME -h: its options)\n")
    print("\n".join(f"  {name:<12}{what}" for name, what in NAMES.items()))
    return 2 if argv and argv[0] not in ("-h", "--help") else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
