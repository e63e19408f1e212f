"""What happens when, and what stands between sources and reports: docs/rules.md, section 10, for one path in plain NumPy.

Beside `brute_force.py`, which follows the path. Events are looked up by the number of a step, sources are sorted, averages are
taken of lists of everything that was shown: nothing here resembles the engine's arithmetic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class Occurrence:
    """An event: its kind, its size (a factor, or logs), the number of steps before it, how many it has, at how many places it may
    begin where that is drawn, the steps of recovery from a depeg, the source that is manipulated."""

    kind: str  # "keeper_outage", "oracle_freeze", "manipulation", "depth_collapse", "gas_spike", "depeg"
    size: float = 1.0
    begin: int | None = None
    steps: int = 1
    places: int = 1
    recovery: int = 1
    source: int | None = None

    def first(self, uniform: float) -> int:
        """The first step of the window, counted from 1."""
        return 1 + (min(int(uniform * self.places), self.places - 1) if self.begin is None else self.begin)


@dataclass(frozen=True)
class SourceRule:
    """A source: its weight; the standard deviation of its noise and what of it stays for a step; the probabilities of going out
    within a step and of staying out; by how many steps it is late."""

    weight: float = 1.0
    noise: float = 0.0
    kept: float = 0.0
    goes: float = 0.0
    stays: float = 0.0
    lag: int = 0


class Now(NamedTuple):
    """What happens in a step."""

    jump: float
    depth: float
    gas: float
    away: bool
    frozen: bool
    displaced: float
    by_source: dict[int, float]


def events_at(events: tuple[Occurrence, ...], uniforms: np.ndarray | None, t: int) -> Now:
    jump, depth, gas, away, frozen, displaced = 0.0, 1.0, 1.0, False, False, 0.0
    by_source: dict[int, float] = {}
    for number, event in enumerate(events):
        first = event.first(0.0 if uniforms is None else float(uniforms[number]))
        within = first <= t <= first + event.steps - 1
        if event.kind == "depeg":
            jump -= fallen(event, first, t) - fallen(event, first, t - 1)
        elif not within:
            continue
        elif event.kind == "keeper_outage":
            away = True
        elif event.kind == "oracle_freeze":
            frozen = True
        elif event.kind == "depth_collapse":
            depth *= event.size
        elif event.kind == "gas_spike":
            gas *= event.size
        elif event.source is None:
            displaced += event.size
        else:
            by_source[event.source] = by_source.get(event.source, 0.0) + event.size
    return Now(jump, depth, gas, away, frozen, displaced, by_source)


def fallen(event: Occurrence, first: int, t: int) -> float:
    """By how much the peg is broken after step t."""
    last = first + event.steps - 1
    if t < first:
        return 0.0
    if t <= last:
        return event.size
    return event.size * max(0.0, (event.recovery - (t - last)) / event.recovery)


class Feed:
    """Sources and averages: what comes before a report. `price` is what the sources made of it last, `apart` how far from that the
    further of their quartiles was."""

    def __init__(self, sources: tuple[SourceRule, ...], *, quorum: int, by_mean: bool, twap: int, ema: float):
        self.sources, self.quorum, self.by_mean, self.twap, self.ema = sources, quorum, by_mean, twap, ema
        self.noise = [0.0] * len(sources)
        self.out = [False] * len(sources)
        self.price = 0.0
        self.apart = 0.0
        self.there = [0.0]
        self.shown = [0.0]
        self.average = 0.0

    def look(
        self, log_price: float, now: Now, normals: np.ndarray | None, uniforms: np.ndarray | None
    ) -> tuple[float, bool]:
        """The log-price to be reported, and whether there is a new one."""
        enough, price = True, log_price + now.displaced
        self.there.append(price)
        if self.sources:
            pairs = []
            for k, rule in enumerate(self.sources):
                if rule.noise:
                    self.noise[k] = rule.kept * self.noise[k] + rule.noise * math.sqrt(1 - rule.kept**2) * normals[k]
                if rule.goes:
                    self.out[k] = uniforms[k] < (rule.stays if self.out[k] else rule.goes)
                if not self.out[k]:
                    there = self.there[max(len(self.there) - 1 - rule.lag, 0)]
                    pairs.append((there + self.noise[k] + now.by_source.get(k, 0.0), rule.weight))
            enough = len(pairs) >= self.quorum
            price = (mean if self.by_mean else median)(pairs) if enough else self.price
            if enough:
                self.apart = max(price - quantile(pairs, 0.25), quantile(pairs, 0.75) - price, 0.0)
        self.price = price
        self.shown.append(price)
        if self.twap:
            last = ([0.0] * self.twap + self.shown)[-self.twap :]
            return sum(last) / self.twap, enough
        if self.ema:
            self.average += self.ema * (price - self.average)
            return self.average, enough
        return price, enough


def mean(pairs: list[tuple[float, float]]) -> float:
    return sum(value * weight for value, weight in pairs) / sum(weight for _, weight in pairs)


def median(pairs: list[tuple[float, float]]) -> float:
    return quantile(pairs, 0.5)


def quantile(pairs: list[tuple[float, float]], part: float) -> float:
    """Where the running weight passes a part of all; half-way to the next value where it stops right there."""
    pairs = sorted(pairs)
    wanted, running = part * sum(weight for _, weight in pairs), 0.0
    for k, (value, weight) in enumerate(pairs):
        running += weight
        if math.isclose(running, wanted, rel_tol=1e-9):
            return (value + pairs[k + 1][0]) / 2
        if running > wanted:
            return value
    raise AssertionError("weights are positive")


def mark_of(parts: tuple[str, ...], oracle: float, basis: float, market: float, sources: float) -> float:
    known = {"oracle": oracle, "oracle-and-basis": oracle + basis, "market": market, "sources": sources}
    return float(np.median([known[part] for part in parts]))
