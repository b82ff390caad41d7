"""Two sides measured in turns, in one run: the medians of their rounds and the ratio of these. Pure; knows no server.

A machine's speed, and what else runs on it, falls on both sides alike; so a figure is a ratio, and never one side's.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROUNDS = 5
HEADRACE = "headrace"
"""The side whose figure is divided by the others'."""

Round = Callable[[int], Mapping[str, float]]
"""Measures one side once: figures by their names. It is given the round's number, 0 for one that only warms up."""


@dataclass(frozen=True)
class Goal:
    """What the ratio of a figure against one bare side should be: at least or at most so much."""

    figure: str
    against: str
    least: float | None = None
    most: float | None = None

    def is_met(self, ratio: float) -> bool:
        """Whether this ratio is good enough."""
        return (self.least is None or ratio >= self.least) and (self.most is None or ratio <= self.most)

    def __str__(self) -> str:
        return f"at least {self.least:g}" if self.least is not None else f"at most {self.most:g}"


@dataclass(frozen=True)
class Comparison:
    """What one run measured: for each side its rounds, for each round its figures."""

    title: str
    sides: Mapping[str, Sequence[Mapping[str, float]]]
    goals: Sequence[Goal]
    load_before: float
    load_after: float

    @property
    def figures(self) -> Sequence[str]:
        """The names of what was measured, in their order."""
        return list(self.sides[HEADRACE][0])

    def median(self, side: str, figure: str) -> float:
        """The middle one of a side's rounds."""
        return statistics.median(each[figure] for each in self.sides[side] if figure in each)

    def ratio(self, figure: str, against: str) -> float:
        """Headrace's median by that of another side."""
        return self.median(HEADRACE, figure) / self.median(against, figure)

    def lines(self) -> list[str]:
        """The table that people read."""
        told = [f"{self.title} (load {self.load_before:.1f} before, {self.load_after:.1f} after)"]
        for figure in self.figures:
            told += ["", *self._table(figure)]
        return told

    def _table(self, figure: str) -> list[str]:
        names = [name for name, rounds in self.sides.items() if figure in rounds[0]]
        rows = [[each[figure] for each in taken] for taken in zip(*(self.sides[name] for name in names), strict=True)]
        medians = [self.median(name, figure) for name in names]
        told = [f"{figure:<28}" + "".join(f"{name:>26}" for name in names)]
        told += [_row(f"  round {number}", row) for number, row in enumerate(rows, 1)]
        return [*told, _row("  median", medians), *self._verdicts(figure)]

    def _verdicts(self, figure: str) -> list[str]:
        told = []
        for goal in self.goals:
            if goal.figure == figure:
                ratio = self.ratio(figure, goal.against)
                word = "met" if goal.is_met(ratio) else "MISSED"
                told.append(f"  {HEADRACE} / {goal.against}: {ratio:.2f}, wanted {goal}: {word}")
        return told

    def as_json(self) -> dict[str, Any]:
        """Everything, for machines."""
        medians = {
            side: {figure: self.median(side, figure) for figure in rounds[0]} for side, rounds in self.sides.items()
        }
        ratios = [
            {"figure": each.figure, "against": each.against, "ratio": self.ratio(each.figure, each.against)}
            | {"wanted": str(each), "is_met": each.is_met(self.ratio(each.figure, each.against))}
            for each in self.goals
        ]
        load = {"load_before": self.load_before, "load_after": self.load_after}
        return {"title": self.title, "rounds": dict(self.sides), "medians": medians, "ratios": ratios, **load}


def _row(name: str, values: Sequence[float]) -> str:
    return f"{name:<28}" + "".join(f"{value:>26.2f}" for value in values)


def in_turns(title: str, sides: Mapping[str, Round], goals: Sequence[Goal], rounds: int = ROUNDS) -> Comparison:
    """Each side once to warm up, then so many rounds in which each is measured once, the first one in turns."""
    before = os.getloadavg()[0]
    for measure in sides.values():
        measure(0)
    taken: dict[str, list[Mapping[str, float]]] = {name: [] for name in sides}
    for number in range(1, rounds + 1):
        names = list(sides)
        for name in names if number % 2 else reversed(names):
            taken[name].append(sides[name](number))
            print(f"round {number} of {rounds}: {name} done", file=sys.stderr, flush=True)
    return Comparison(title, taken, goals, before, os.getloadavg()[0])


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[max(1, math.ceil(len(ordered) * share)) - 1]


def options(name: str, description: str | None) -> ArgumentParser:
    """The options that every benchmark of two sides has."""
    parser = ArgumentParser(prog=f"./run bench {name}", description=description)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured there")
    return parser


def told(found: Comparison, asked: Namespace) -> int:
    """Says what was found, and writes it where that was asked for; exit code 0, since a machine's day is no failure."""
    print("\n".join(found.lines()), flush=True)
    if asked.json is not None:
        content = {**found.as_json(), "at": datetime.now(UTC).isoformat(), "options": _plain(vars(asked))}
        asked.json.write_text(json.dumps(content, indent=2) + "\n")
    return 0


def _plain(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name != "json"}
