"""`./run bench accept`: how long HTTP takes to accept, the slowest of a hundred, against a bare route with the same
durable writes and one publish.

Both get half of what the bare one sustains, which is measured first. Nobody carries out what is accepted meanwhile.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import redis

from benchmarks import accepting
from benchmarks.accepting import Service
from benchmarks.installation import Installation, running
from benchmarks.rounds import HEADRACE, Comparison, Goal, Round, in_turns, options, percentile, told

BARE = "bare"
P99, P50 = "ms until accepted, p99", "ms until accepted, p50"
GOALS = (Goal(P99, BARE, most=3.0),)
CONNECTIONS = 8


def main(argv: Sequence[str]) -> int:
    """Measures and says; exit code 0."""
    parser = options("accept", __doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="of a round")
    asked = parser.parse_args(argv)
    with running() as where:
        return told(measured(where, asked.rounds, asked.seconds), asked)


def measured(where: Installation, rounds: int, seconds: float) -> Comparison:
    """Both services are up all the time; only the one that is measured is asked."""
    ours = accepting.headrace(where)
    ours.load(seconds=1, connections=1)
    theirs = accepting.bare(where)
    theirs.load(seconds=1, connections=1)
    sustained = theirs.load(seconds=seconds, connections=CONNECTIONS)
    rate = len(sustained["took"]) / sustained["seconds"] / 2
    title = (
        f"SUBMITs over HTTP, {rate:.1f} a second, half of what the bare route sustains with {CONNECTIONS} connections"
    )
    sides = {HEADRACE: side(ours, rate, seconds), BARE: side(theirs, rate, seconds)}
    return in_turns(title, sides, GOALS, rounds)


def side(service: Service, rate: float, seconds: float) -> Round:
    """A round of a side: requests at this rate for so long."""

    def measure(number: int) -> Mapping[str, float]:
        took = service.load(seconds=seconds if number else 1.0, rate=rate)["took"]
        with redis.Redis.from_url(service.where.redis_url) as client:
            client.flushdb()  # the wake-ups, for which there is no worker
        return {P99: percentile(took, 0.99) * 1000, P50: percentile(took, 0.5) * 1000}

    return measure


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
