"""What /metrics says, read as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.parser import text_string_to_metric_families


class Page:
    """A page of /metrics."""

    def __init__(self, text: str) -> None:
        self._samples = [
            (sample.name, dict(sample.labels), sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ]
        self.names = {name for name, _, _ in self._samples}

    def value(self, name: str, /, **labels: str) -> float | None:
        """The sum of the samples of this name that have these labels; None where there is none."""
        found = [value for named, has, value in self._samples if named == name and labels.items() <= has.items()]
        return sum(found) if found else None

    def labels(self, name: str, label: str) -> set[str]:
        """Every value that this label has."""
        return {has[label] for named, has, _ in self._samples if named == name}


def here() -> Page:
    """This process' own."""
    return Page(generate_latest(REGISTRY).decode())


def scraped(url: str, timeout_seconds: float = 10) -> Page:
    """Another process' page, as a scrape gets it within Prometheus' own patience."""
    return Page(httpx.get(url, timeout=timeout_seconds, trust_env=False).raise_for_status().text)


@contextmanager
def grows(by: float, name: str, /, **labels: str) -> Iterator[None]:
    """That this process' number has grown by so much at the end."""
    before = here().value(name, **labels) or 0
    yield
    grown = (here().value(name, **labels) or 0) - before
    assert grown == pytest.approx(by, abs=1e-6), f"{name} {labels}"  # seconds of other tests are in the sum too
