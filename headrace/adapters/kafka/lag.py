"""How many records of each partition are not done yet, by the client's own statistics: no broker is asked for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from headrace import metrics

STATISTICS_EVERY_MS = 5_000

Place = tuple[str, int]


class LagGauge:
    """Sets the metric to what the newest statistics say; a partition that went to another member has no lag here."""

    def __init__(self) -> None:
        self._told: set[Place] = set()

    def hear(self, statistics: str) -> None:
        """librdkafka's statistics, as it gives them."""
        lags = dict(lags_in(orjson.loads(statistics)))
        for topic, partition in self._told - set(lags):
            metrics.CONSUMER_LAG.remove(topic, str(partition))
        for (topic, partition), lag in lags.items():
            metrics.CONSUMER_LAG.labels(topic, str(partition)).set(lag)
        self._told = set(lags)


def lags_in(statistics: Mapping[str, Any]) -> Iterator[tuple[Place, int]]:
    """The lag of each partition that this member has, where it can be told yet."""
    for topic, of_topic in statistics.get("topics", {}).items():
        for number, partition in of_topic.get("partitions", {}).items():
            if int(number) < 0 or not partition.get("desired"):
                continue
            end, done = partition.get("hi_offset", -1), _done(partition)
            if end >= 0 and done is not None:
                yield (topic, int(number)), max(end - done, 0)


def _done(partition: Mapping[str, Any]) -> int | None:
    """The offset behind what is done: the committed one. A group that has committed none is done with nothing before
    the offset from which it reads."""
    offsets = (partition.get("committed_offset", -1), partition.get("next_offset", -1))
    return next((each for each in offsets if each >= 0), None)
