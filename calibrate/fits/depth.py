"""Fits depth and impact to quotes: what selling at once costs, against size.

A close of size `v` pays half the displacement that it adds, and the half spread: the engine's cost is
`half_spread + J(v / 2)` with `J(v) = Y (sqrt(v / D + eps) - sqrt(eps))` (docs/rules.md, sections 2 and 7). That is fitted to
`-log(1 - impact)` by robust least squares. A quote is off by a part that does not depend on its size, since the market moves
while a batch is taken, and by a part in proportion to its cost; both are measured on the quotes themselves. Those that are the
reference of their batch have an impact of zero by definition and are left out. Standard errors come from a bootstrap of batches.

Quotes of one moment say nothing about how depth moves with volatility or how fast it recovers: those keys keep their defaults.
"""

from importlib.metadata import version
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares

from calibrate.data.quotes import FEWEST_QUOTES, Quotes
from calibrate.errors import UserError
from calibrate.fits.blocks import bootstrap, standard_errors
from calibrate.fits.result import Figure, Goodness, WorldFit, rounded
from calibrate.units import BPS

QUOTED_MOVE = 0.02
# Impact is a square root below, and a straight line above, for any size that a market takes.
SMALLEST_CROSSOVER, LARGEST_CROSSOVER = 1e-4, 1e3
LARGEST_IMPACT = 0.10  # beyond, quotes show routes that have run dry rather than depth
FEWEST_BATCHES = 8
BANDS = 8  # of size, in the table of goodness
PER_MAD = 1.4826  # standard deviations of a normal in a median absolute deviation
LEAST_NOISE, LEAST_SHARE = 1e-5, 0.02  # of a quote: in logarithms of the price, and of its cost


class Noise(NamedTuple):
    """By how much quotes are off: a part of its own (log-price) and a share of the cost."""

    floor: float
    share: float

    def of(self, fitted: np.ndarray) -> np.ndarray:
        return np.hypot(self.floor, self.share * fitted)


def cost(size_usd: np.ndarray, depth_usd: float, crossover: float, half_spread: float) -> np.ndarray:
    """Log-cost of selling this much at once in a market at rest."""
    steepness = QUOTED_MOVE / (np.sqrt(1 + crossover) - np.sqrt(crossover))
    flow = size_usd / 2 / depth_usd
    return half_spread + steepness * flow / (np.sqrt(flow + crossover) + np.sqrt(crossover))


class Curve(NamedTuple):
    """A fitted cost curve: logarithms of depth, crossover and half spread, the same of each resample, and the noise of quotes."""

    found: np.ndarray
    resampled: np.ndarray
    noise: Noise

    @property
    def values(self) -> np.ndarray:
        return np.exp(self.found)

    @property
    def errors(self) -> np.ndarray:
        return standard_errors(np.exp(self.resampled))

    @property
    def crossover_range(self) -> tuple[float, float]:
        low, high = np.exp(np.quantile(self.resampled[:, 1], [0.025, 0.975]))
        return float(low), float(high)

    @property
    def bends(self) -> bool:
        """Whether the quotes show where impact turns from linear to square root; at the ends of its range they do not."""
        low, high = self.crossover_range
        return low > 2 * SMALLEST_CROSSOVER and high < LARGEST_CROSSOVER / 2


def fit_depth(quotes: Quotes, *, seed: int = 0, largest_impact: float = LARGEST_IMPACT) -> WorldFit:
    """Fit depth, crossover and half spread to the quotes of one pair, up to an impact of `largest_impact`."""
    used = (quotes.impact > 0) & (quotes.impact <= largest_impact)
    size, log_cost, batch = quotes.size_usd[used], -np.log1p(-quotes.impact[used]), quotes.batch[used]
    _check(quotes, size, log_cost, largest_impact)
    numbers = np.unique(batch)
    by_batch = len(numbers) >= FEWEST_BATCHES
    blocks = [np.flatnonzero(batch == b) for b in numbers] if by_batch else list(np.arange(len(size))[:, None])
    curve = _curve(size, log_cost, blocks, np.random.default_rng([seed, 12]))
    (depth, crossover, half_spread), errors = (values.tolist() for values in (curve.values, curve.errors))
    fitted = cost(size, depth, crossover, half_spread)
    telling = fitted > 3 * curve.noise.floor
    misfit = float(np.sqrt(np.mean((log_cost / fitted - 1)[telling] ** 2)))
    bend = (
        "share of depth where impact bends to a square root"
        if curve.bends
        else "not determined by these quotes; see the notes"
    )
    return WorldFit(
        section="liquidity",
        title=f"depth of {quotes.pair}, {len(size):,} quotes in {len(numbers)} batches",
        table={
            "depth_usd": rounded(depth, errors[0]),
            "crossover": rounded(crossover, errors[1] if curve.bends else None),
            "half_spread_bps": rounded(half_spread / BPS, errors[2] / BPS),
        },
        figures=[
            Figure("depth_usd", depth, errors[0], "flow that moves the price by 2 %"),
            Figure("crossover", crossover, errors[1] if curve.bends else None, bend),
            Figure("half_spread_bps", half_spread / BPS, errors[2] / BPS, "cost of the smallest sizes"),
            Figure("noise_bps", curve.noise.floor / BPS, None, "by which quotes are off whatever their size"),
            Figure("misfit", misfit, None, "root mean square of quoted over fitted cost less one, beyond the noise"),
        ],
        errors_from="bootstrap of batches" if by_batch else "bootstrap of single quotes, as there are few batches",
        goodness=_goodness(size, log_cost, fitted),
        origin={
            "source": quotes.source,
            "sha256": quotes.sha256,
            "pair": quotes.pair,
            **({} if quotes.window is None else {"first": quotes.window[0], "last": quotes.window[1]}),
            "quotes": len(size),
            "batches": len(numbers),
            "largest_impact": largest_impact,
            "seed": seed,
            "calibrate_version": version("calibrate"),
        },
        notes=(*quotes.notes, *_notes(quotes, curve, largest_impact, float(size.max()))),
        curves={"quotes": {"size_usd": size, "cost": log_cost}, "fitted": _band(size, curve)},
    )


def _check(quotes: Quotes, size: np.ndarray, log_cost: np.ndarray, largest_impact: float) -> None:
    if len(size) < FEWEST_QUOTES:
        found = f"found {len(size)} quotes of {quotes.pair} with an impact above 0 and up to {largest_impact:g}"
        raise UserError(f"{found}; expected at least {FEWEST_QUOTES}. Use more quotes or another --largest-impact.")
    small, large = (float(np.median(log_cost[_quarter(size, number)])) for number in (0, 3))
    if size.max() < 10 * size.min() or large < 3 * small:
        raise UserError(
            f"quotes of {quotes.pair} run from {size.min():,.0f} to {size.max():,.0f} USD, and the largest quarter costs "
            f"{large / BPS:.2g} bps where the smallest costs {small / BPS:.2g}; expected sizes over at least a decade, of which "
            "the large ones move the price. Use larger quotes."
        )


def _curve(size: np.ndarray, log_cost: np.ndarray, blocks: list[np.ndarray], rng: np.random.Generator) -> Curve:
    """Two passes: quotes are weighted by the noise that the first one leaves."""
    floor = max(_deviation(log_cost[_quarter(size, 0)]), LEAST_NOISE)
    first = cost(size, *np.exp(_search(size, log_cost, Noise(floor, 0.1).of(log_cost))))
    noise = Noise(floor, max(_deviation((log_cost / first)[_quarter(size, 3)]), LEAST_SHARE))
    scale = noise.of(first)
    found = _search(size, log_cost, scale)
    again = lambda rows: _search(size[rows], log_cost[rows], scale[rows], start=found)  # noqa: E731
    return Curve(found, bootstrap(again, blocks, rng), noise)


def _search(size: np.ndarray, log_cost: np.ndarray, scale: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
    """Logarithms of depth, crossover and half spread that miss least, in units of `scale`."""
    low = np.log([size.min() * 1e-3, SMALLEST_CROSSOVER, 1e-7])
    high = np.log([size.max() * 1e6, LARGEST_CROSSOVER, 0.1])
    small, large = _quarter(size, 0), _quarter(size, 3)
    depth = np.median(size[large]) / 2 * QUOTED_MOVE / np.median(log_cost[large])
    spread = max(float(np.median(log_cost[small])), 2e-7)
    starts = [np.log([depth, eps, spread]) for eps in (0.01, 1.0, 100.0)] if start is None else [start]
    residuals = lambda p: (cost(size, *np.exp(p)) - log_cost) / scale  # noqa: E731
    tries = [
        least_squares(residuals, np.clip(s, low + 1e-6, high - 1e-6), bounds=(low, high), loss="soft_l1")
        for s in starts
    ]
    return min(tries, key=lambda found: found.cost).x


def _quarter(size: np.ndarray, number: int) -> np.ndarray:
    """Rows of a quarter of the quotes by size, the smallest first."""
    return np.array_split(np.argsort(size), 4)[number]


def _deviation(values: np.ndarray) -> float:
    return PER_MAD * float(np.median(np.abs(values - np.median(values))))


def _notes(quotes: Quotes, curve: Curve, largest_impact: float, largest_size: float) -> list[str]:
    low, high = curve.crossover_range
    notes = []
    if high >= LARGEST_CROSSOVER / 2:
        found = f"cost grows in proportion to size up to {largest_size:,.0f} USD, or nearly"
        notes.append(
            f"{found}: where impact turns to a square root is beyond these quotes (crossover at least {low:.2g})"
        )
    if low <= 2 * SMALLEST_CROSSOVER:
        notes.append(f"cost grows as a square root from small sizes on: the crossover is at most {high:.2g}")
    beyond = int((quotes.impact > largest_impact).sum())
    if beyond:
        notes.append(f"{beyond} quotes with an impact above {largest_impact:g} are left out")
    return [
        *notes,
        "volatility_exponent, recoveries and their shares are not in quotes of one moment and keep their defaults",
    ]


def _goodness(size: np.ndarray, log_cost: np.ndarray, fitted: np.ndarray) -> list[Goodness]:
    """Median cost in bands of size, quoted and fitted, in bps."""
    rows = []
    for part in np.array_split(np.argsort(size), BANDS):
        quoted, model = (float(np.median(costs[part])) / BPS for costs in (log_cost, fitted))
        rows.append(Goodness(f"cost of {np.median(size[part]):,.0f} USD (bps)", quoted, model))
    return rows


def _band(size: np.ndarray, curve: Curve) -> dict[str, np.ndarray]:
    """The fitted curve with its 95 % band over the resamples."""
    grid = np.geomspace(size.min(), size.max(), 120)
    low, high = np.quantile([cost(grid, *np.exp(p)) for p in curve.resampled], [0.025, 0.975], axis=0)
    return {"size_usd": grid, "cost": cost(grid, *curve.values), "low": low, "high": high}
