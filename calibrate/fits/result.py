"""What every fit of the world comes to: a section that a job can take over, its figures with errors, and how well they fit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np


class Figure(NamedTuple):
    """One fitted number; without a standard error it was counted or chosen, as `meaning` says."""

    name: str
    value: float
    standard_error: float | None
    meaning: str


class Goodness(NamedTuple):
    """One thing that can be held against the data, with the error or the spread between replays of the model's where known."""

    what: str
    data: float | None
    model: float
    model_error: float | None = None


@dataclass(frozen=True)
class WorldFit:
    """A fit. `table` is the job's section of that name, ready to be taken over; `figures` say how sure its numbers are and what
    else the data show, `errors_from` where standard errors come from. `origin` is what a reader needs to make it again, `curves`
    what a figure shows (columns of one length under each name)."""

    section: str
    title: str
    table: dict[str, Any]
    figures: list[Figure]
    errors_from: str
    goodness: list[Goodness]
    origin: dict[str, Any]
    notes: tuple[str, ...] = ()
    curves: Mapping[str, dict[str, np.ndarray]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            self.section: self.table,
            "figures": {f.name: {"value": f.value, "standard_error": f.standard_error} for f in self.figures},
            "goodness": [row._asdict() for row in self.goodness],
            "fit": self.origin | {"errors_from": self.errors_from, "notes": list(self.notes)},
        }

    def figure(self, name: str) -> Figure:
        return next(figure for figure in self.figures if figure.name == name)


def rounded(value: float, standard_error: float | None) -> float:
    """A value to the digit that its error still tells, and one more."""
    if not standard_error or not np.isfinite(standard_error):
        return float(f"{value:.6g}")
    places = 1 - int(np.floor(np.log10(standard_error)))
    return float(round(value, places)) if places > 0 else float(f"{value:.6g}")
