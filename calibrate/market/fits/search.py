"""Where a search for parameters may go, and the scale on which it moves: what is positive moves by factors, shares by odds."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Span(NamedTuple):
    """A parameter's range in the search, and its scale: "log", "logit" or "plain"."""

    low: float
    high: float
    scale: str = "log"

    def to_scale(self, value: float) -> float:
        if self.scale == "plain":
            return value
        return float(np.log(value) if self.scale == "log" else np.log(value / (1 - value)))

    def from_scale(self, x: Any, xp: Any = np) -> Any:
        """The parameter at a place of the search; `xp` is the library of arrays that computes it."""
        if self.scale == "plain":
            return x
        return xp.exp(x) if self.scale == "log" else 1 / (1 + xp.exp(-x))

    def slope(self, x: float) -> float:
        """How fast the parameter moves along its scale."""
        value = float(self.from_scale(x))
        return {"log": value, "logit": value * (1 - value), "plain": 1.0}[self.scale]


class Space(dict[str, Span]):
    """The spans of all parameters that are searched for, in the order of the search vector."""

    def vector(self, parameters: Mapping[str, float]) -> np.ndarray:
        return np.array([span.to_scale(parameters[name]) for name, span in self.items()])

    def parameters(self, vector: Any, xp: Any = np) -> dict[str, Any]:
        return {name: span.from_scale(x, xp) for (name, span), x in zip(self.items(), vector, strict=True)}

    def errors(self, vector: np.ndarray, on_scale: np.ndarray) -> dict[str, float]:
        """Standard errors of the parameters from those on the scale of the search (delta method)."""
        return {
            name: span.slope(x) * float(error)
            for (name, span), x, error in zip(self.items(), vector, on_scale, strict=True)
        }

    @property
    def low(self) -> np.ndarray:
        return self.vector({name: span.low for name, span in self.items()})

    @property
    def high(self) -> np.ndarray:
        return self.vector({name: span.high for name, span in self.items()})

    def notes(self, vector: np.ndarray) -> tuple[str, ...]:
        """What must be said of parameters that ended at the edge of their range."""
        at_edge = (vector < self.low + 1e-3) | (vector > self.high - 1e-3)
        return tuple(
            f"{name} ended at the edge of its range, {span.low:g} to {span.high:g}: its standard error means nothing"
            for (name, span), edge in zip(self.items(), at_edge, strict=True)
            if edge
        )
