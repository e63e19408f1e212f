"""How well a joint model fits: quantiles of each asset's returns, and how assets fall together, in the data and in the model.

The model's side comes from many simulated years of fresh random numbers, the data's errors from resampling blocks of 30 days.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from calibrate.data.candles import Candles
from calibrate.fits.blocks import BOOTSTRAPS
from calibrate.joint_paths import joint_closes
from calibrate.market.joint_files import JointModel
from calibrate.market.joint_fit import Aligned, aligned
from calibrate.market.moments import STEP_S, Moments, Rows, Windows, model_rows
from calibrate.market.targets import Targets, goodness_rows, rounded
from calibrate.units import SECONDS_PER_YEAR

YEARS, FALL = 400, 0.01
_HORIZONS_H = (1, 24)


def with_evidence(
    joint: JointModel,
    candles: Mapping[str, Candles],
    *,
    seed: int = 0,
    years: int = YEARS,
    tell: Callable[[str], None] = lambda text: None,
) -> JointModel:
    """The model with its tables of goodness and dependence, measured on so many simulated years."""
    data = aligned(candles)
    tell(f"measuring the model on {years} fresh years")
    bars = round(SECONDS_PER_YEAR / data.interval_s)
    steps = max(1, int(np.ceil(data.interval_s / STEP_S)))
    closes = joint_closes(joint, paths=years, bars=bars, bar_s=data.interval_s, steps=steps, seed=seed)
    made = np.diff(closes, axis=1, prepend=np.zeros_like(closes[:, :1]))
    goodness = [
        row
        for k, (name, one) in enumerate(candles.items())
        for row in _goodness(name, _within(one, data), made[k], np.random.default_rng([seed, 1, k]))
    ]
    return replace(joint, goodness=goodness, dependence=dependence(joint.assets, data, made, seed))


def _within(candles: Candles, data: Aligned) -> Candles:
    """The stretch of candles that all files span."""
    first, last = np.searchsorted(candles.ts, (data.ts[0], data.ts[-1]))
    return candles.part(int(first), int(last) + 1)


def _goodness(name: str, candles: Candles, made: np.ndarray, rng: np.random.Generator) -> list[dict[str, Any]]:
    windows = Windows.of(candles)
    targets = Targets.measure(candles, windows, rng)
    whole = len(made) // windows.base_bars * windows.base_bars
    base = made[:whole].reshape(-1, windows.base_bars, made.shape[1]).sum(axis=1)
    model = Moments.of(Rows.join([model_rows(history, windows) for history in base.T.astype(np.float64)]))
    return [{"asset": name, **row} for row in goodness_rows(targets, model, windows)]


def dependence(assets: tuple[str, ...], data: Aligned, made: np.ndarray, seed: int) -> list[dict[str, Any]]:
    """Correlations of returns of each pair over an hour and a day, and how often one is among its worst hundredth where the other
    is. `made` are the model's returns, asset by bar by path."""
    found = []
    for hours in _HORIZONS_H:
        units = round(hours * 3600 / data.interval_s)
        if units < 1:
            continue
        ours = _rolling(data.returns.T[:, :, None], units)[:, :, 0]
        theirs = _rolling(made, units)
        label = f"{hours}h" if hours < 24 else f"{hours // 24}d"
        blocks = _resampled(data.blocks()[: ours.shape[1]], np.random.default_rng([seed, 2, hours]))
        for i, j in itertools.combinations(range(len(assets)), 2):
            correlated, together = _sums(ours[i], ours[j]), _falls(ours[i], ours[j])
            model = float(_correlation(_sums(theirs[i].ravel(), theirs[j].ravel()).mean(axis=0)))
            model_falls = float(_falls(theirs[i].ravel(), theirs[j].ravel()).mean() / FALL)
            rows = (
                ("correlation of returns", blocks(correlated, _correlation), model),
                (
                    "worst hundredth given the other's",
                    blocks(together[:, None], lambda s: s[..., 0] / FALL),
                    model_falls,
                ),
            )
            for what, (value, error), fitted in rows:
                figures = {"data": value, "data_standard_error": error, "model": fitted}
                shown = {key: rounded(figure, 3 if key.endswith("error") else 4) for key, figure in figures.items()}
                found.append({"what": f"{label}: {what}", "first": assets[i], "second": assets[j], **shown})
    return found


def _rolling(returns: np.ndarray, units: int) -> np.ndarray:
    """Returns over so many bars, from every bar on; bars on the second axis."""
    level = np.cumsum(returns, axis=1, dtype=np.float64)
    level = np.concatenate([np.zeros_like(level[:, :1]), level], axis=1)
    return level[:, units:] - level[:, :-units]


def _sums(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What a correlation is made of, one row a window."""
    return np.stack([x, y, x * x, y * y, x * y], axis=1)


def _correlation(means: np.ndarray) -> np.ndarray:
    x, y, xx, yy, xy = np.moveaxis(means, -1, 0)
    return (xy - x * y) / np.sqrt((xx - x**2) * (yy - y**2))


def _falls(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return ((x <= np.quantile(x, FALL)) & (y <= np.quantile(y, FALL))).astype(np.float64)


def _resampled(
    blocks: np.ndarray, rng: np.random.Generator
) -> Callable[[np.ndarray, Callable[[np.ndarray], np.ndarray]], tuple[float, float]]:
    """A figure of means over rows, with its error by resampling whole blocks (Künsch 1989)."""
    number = int(blocks[-1]) + 1
    drawn = rng.integers(number, size=(BOOTSTRAPS, number))
    count = np.bincount(blocks, minlength=number)

    def measured(rows: np.ndarray, figure: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float]:
        sums = np.stack([np.bincount(blocks, weights=column, minlength=number) for column in rows.T], axis=1)
        again = figure(sums[drawn].sum(axis=1) / count[drawn].sum(axis=1)[:, None])
        return float(figure(rows.mean(axis=0))), float(np.std(again, ddof=1))

    return measured
