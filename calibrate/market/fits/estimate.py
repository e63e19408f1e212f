"""What every fit of a family takes and gives, so that any of them can be written to a file and scored like any other."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from calibrate.data.candles import Candles, window_returns
from calibrate.market.files import ModelFile
from calibrate.market.moments import Windows
from calibrate.market.schema import WHOLE, Parts
from calibrate.market.targets import BLOCK_DAYS, Targets
from calibrate.units import SECONDS_PER_YEAR


@dataclass(frozen=True)
class Task:
    """Candles to fit to. `simulated_years` is the length of simulated histories, where a fit takes any (None: as it finds best)."""

    candles: Candles
    seed: int = 0
    tell: Callable[[str], None] = field(default=lambda text: None)
    simulated_years: float | None = None

    @cached_property
    def windows(self) -> Windows:
        return Windows.of(self.candles)

    @cached_property
    def targets(self) -> Targets:
        self.tell(f"measuring {self.candles.bars} bars")
        return Targets.measure(self.candles, self.windows, np.random.default_rng([self.seed, 1]))

    @cached_property
    def returns(self) -> np.ndarray:
        """Log-returns of single bars without those across gaps, in the order of time: bars on either side of a gap count as
        neighbours."""
        returns = window_returns(self.candles, 1)
        return returns[np.isfinite(returns)]

    @property
    def volatility(self) -> float:
        """The constant annual volatility of these returns: where searches start from."""
        return float(np.sqrt(np.mean(self.returns**2) / self.bar_years))

    @property
    def bar_years(self) -> float:
        return self.candles.interval_s / SECONDS_PER_YEAR

    def blocks(self) -> np.ndarray:
        """The number of the block of 30 days that each of `returns` lies in; at least eight blocks."""
        count = len(self.returns)
        number = max(8, round(count * self.candles.interval_s / (BLOCK_DAYS * 86_400)))
        return np.arange(count) * number // count


@dataclass(frozen=True)
class Estimate:
    """Fitted parameters as a model file holds them, with the standard errors of those that were estimated. `residuals` are the
    history of a family that draws from one."""

    parameters: dict[str, float]
    standard_errors: dict[str, float]
    notes: tuple[str, ...] = ()
    residuals: np.ndarray | None = None


def bar_returns(candles: Candles) -> np.ndarray:
    """The log-return of each bar, for filters: not a number for the first bar and for one after a gap."""
    return np.concatenate([[np.nan], window_returns(candles, 1)])


class Fast(NamedTuple):
    """What is known of the fast of two factors, given their sum: its mean where the sum is as expected, how far it moves with the
    sum, and its standard deviation."""

    mean: np.ndarray
    slope: np.ndarray
    spread: np.ndarray


class Known(NamedTuple):
    """What a model knows at the close of each bar: mean and standard deviation of the logarithm of volatility relative to the
    parameter `volatility`, the probability of a crash, the fast factor, the excitement of jumps (annual rate)."""

    log_level: np.ndarray
    spread: np.ndarray
    crash: np.ndarray | None = None
    fast: Fast | None = None
    excitement: np.ndarray | None = None


class FamilyFit(NamedTuple):
    """A family that can be fitted: its [model] table, how it is fitted, and how it follows its state through candles (None where
    there is no state, so that forecasts are the same at all times)."""

    model: dict[str, str]
    fit: Callable[[Task], Estimate]
    follow: Callable[[Estimate, Candles], Known] | None
    says: str

    def file_of(self, estimate: Estimate, source: str = "fit") -> ModelFile:
        """The fitted model as if it had been read from a file."""
        parts = WHOLE.get(self.model["family"]) or Parts(
            **({"arrival": "constant"} | self.model if "jumps" in self.model else self.model)
        )
        return ModelFile(
            self.model["family"],
            parts,
            {name: estimate.parameters[name] for name in parts.ranges()},
            estimate.standard_errors,
            {},
            [],
            [],
            source,
            "",
            estimate.residuals,
        )
