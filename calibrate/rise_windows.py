"""The windows within which rises of the margin can be watched, as a job asks for them and as they are cut into blocks.

What a user may be asked to top up within a day, five days or thirty is the largest rise of the initial requirement over its lowest
value within that time (EMIR RTS 153/2013, article 28, asks for margins that limit procyclicality). To know the lowest value within
a sliding window exactly takes all values of the window, 43,200 of them for thirty days by the minute. `rises.py` keeps the lowest
value of each of at most `BLOCKS` blocks instead.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

DAYS = (1, 5, 30)
# So many numbers a path are kept for each window, and a window reaches back by less than two parts of so many more than it says.
BLOCKS = 24
_SECONDS_PER_DAY = 86_400


def metric_of(days: int) -> str:
    return f"margin_rise_{days}d"


METRICS = tuple(metric_of(days) for days in DAYS)


class Window(NamedTuple):
    """A window by the metric that it makes, and its length in steps."""

    metric: str
    steps: int

    @property
    def block(self) -> int:
        """Steps in a block."""
        return -(-self.steps // BLOCKS)

    @property
    def blocks(self) -> int:
        """How many whole blocks cover the window. With the one that is under way it reaches back by `blocks * block` steps at
        least and by `longest` at most."""
        return -(-self.steps // self.block)

    @property
    def longest(self) -> int:
        return self.blocks * self.block + self.block - 1


def asked(days: Iterable[int], limits: Iterable[str]) -> tuple[int, ...]:
    """The windows, in days, that a job lists or that its limits are about."""
    wanted = set(limits)
    return tuple(sorted({*days, *(d for d in DAYS if metric_of(d) in wanted)}))


def windows(days: Iterable[int], step_s: float) -> tuple[Window, ...]:
    """Windows in steps, none shorter than it says."""
    return tuple(Window(metric_of(d), math.ceil(round(d * _SECONDS_PER_DAY / step_s, 6))) for d in days)


def not_watchable(
    days: Sequence[int], limits: Iterable[str], horizon_days: float, step_s: float
) -> list[tuple[str, str]]:
    """What is wrong with windows that are listed or limited: those longer than the horizon or shorter than a step."""
    listed, limited = "simulation.margin_rise_windows_days", set(limits)
    named = [(f"{listed}.{i}", d) for i, d in enumerate(days)]
    named += [(f"constraints.{metric_of(d)}", d) for d in DAYS if metric_of(d) in limited]
    wrong = []
    for where, d in named:
        window = f"watches rises within {d} day{'s' * (d > 1)}"
        if d > horizon_days:
            told = f"{window}, longer than the horizon of {horizon_days:g} day{'s' * (horizon_days != 1)}"
            wrong.append(
                (where, f"{told}; raise `simulation.horizon_days`, or limit `margin_rise`, the rise within it")
            )
        elif d * _SECONDS_PER_DAY < step_s:
            wrong.append(
                (where, f"{window}, shorter than a step of {step_s:g} s; lower `simulation.step_s` or remove it")
            )
    return wrong
