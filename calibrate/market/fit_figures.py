"""The figure of a fitted market model: what it says of returns, against the data that it was fitted to.

Four views: quantiles against quantiles, how long squared returns stay correlated, how often moves are larger than a size, and
volatility along the way. Bands hold nine of ten simulated histories that are as long as the data: where the data leave them, the
model is wrong and not the sample small.
"""

from typing import NamedTuple

import altair as alt
import numpy as np
import pandas as pd

from calibrate.data.candles import Candles, window_returns
from calibrate.drawing import BLUE, INK, VERMILLION, WIDTH, styled
from calibrate.market.files import ModelFile
from calibrate.market.moments import SECONDS_PER_YEAR, Windows
from calibrate.market.simulated import simulated_closes

HISTORIES = 40
BAND = (0.05, 0.95)
LAGS_HOURS = (1, 2, 3, 4, 6, 9, 12, 18, 24, 36, 48, 72, 96, 120, 168, 240, 336)
SHOWN_HOURS = (1, 3, 6, 12, 24, 48, 96, 168, 336)
BETWEEN = 75.0  # two plots that stand side by side
HALF, HEIGHT, LOW = (WIDTH - BETWEEN) / 2, 250.0, 80.0


class Series(NamedTuple):
    """Returns of the shortest horizon that do not overlap: the data's, NaN across gaps, and one row for each history."""

    data: np.ndarray
    model: np.ndarray
    window_s: float


def fit_figure(model: ModelFile, candles: Candles, *, name: str, seed: int = 0) -> alt.VConcatChart:
    """The four views of a model and the candles that it was fitted to."""
    series = _series(model, candles, seed)
    rows = [
        alt.HConcatChart(hconcat=[_quantiles(series), _memory(series)], spacing=BETWEEN, bounds="flush"),
        alt.HConcatChart(hconcat=[_tail(series, -1), _tail(series, 1)], spacing=BETWEEN, bounds="flush"),
        *_volatility(series),
    ]
    chart = alt.VConcatChart(vconcat=rows, spacing=22)
    said = [
        f"Returns over {series.window_s / 3600:g} h, {candles.bars:,} bars from {candles.first[:10]} to {candles.last[:10]}"
        f"{f' with {candles.gaps:,} gaps' if candles.gaps else ''}.",
        "Blue is the data; bands hold nine of ten simulated histories that are as long as the data.",
    ]
    return styled(chart, f"{candles.source}: {name}", said)


def _series(model: ModelFile, candles: Candles, seed: int) -> Series:
    windows = Windows.of(candles)
    data = window_returns(candles, windows.base_bars)[:: windows.base_bars]
    closes = simulated_closes(model, None, paths=HISTORIES, bars=len(data), bar_s=windows.base_s, seed=seed + 1)
    return Series(data, np.diff(closes, axis=0, prepend=np.zeros((1, HISTORIES), closes.dtype)).T, windows.base_s)


# --- the views --------------------------------------------------------------------------------------------------------


def _quantiles(series: Series) -> alt.LayerChart:
    tail = np.geomspace(3 / len(series.data), 0.25, 18)
    places = np.concatenate([tail, [0.4, 0.5, 0.6], 1 - tail[::-1]])
    data = np.nanquantile(series.data, places)
    each = np.quantile(series.model, places, axis=1)
    low, middle, high = np.quantile(each, [BAND[0], 0.5, BAND[1]], axis=1)
    table = pd.DataFrame({"model": middle, "data": data, "low": low, "high": high}) * 100
    x = alt.X("model:Q", title="Quantile in the model, per cent", scale=alt.Scale(nice=False))
    y = alt.Y("data:Q", title="Quantile in the data, per cent")
    base = alt.Chart(table)
    band = base.mark_area(color=VERMILLION, opacity=0.25).encode(x=x, y=alt.Y("low:Q"), y2="high:Q")
    line = base.mark_line(color=INK, strokeWidth=1).encode(x=x, y=alt.Y("model:Q"))
    dots = base.mark_point(color=BLUE, filled=True, size=28, opacity=1).encode(x=x, y=y)
    return _panel([band, line, dots], "Quantiles against quantiles")


def _memory(series: Series) -> alt.LayerChart:
    longest = len(series.data) / 10
    lags = [lag for lag in dict.fromkeys(round(h * 3600 / series.window_s) for h in LAGS_HOURS) if 1 <= lag < longest]
    low, high = np.quantile([correlations(history, lags) for history in series.model], BAND, axis=0)
    hours = np.array(lags) * series.window_s / 3600
    table = pd.DataFrame({"hours": hours, "data": correlations(series.data, lags), "low": low, "high": high})
    axis = alt.Axis(values=SHOWN_HOURS, format="d")
    x = alt.X("hours:Q", title="Hours apart (logarithmic)", scale=alt.Scale(type="log", nice=False), axis=axis)
    y = alt.Y("data:Q", title="Correlation")
    base = alt.Chart(table)
    band = base.mark_area(color=VERMILLION, opacity=0.25).encode(x=x, y=alt.Y("low:Q"), y2="high:Q")
    line = base.mark_line(color=BLUE, strokeWidth=1.2).encode(x=x, y=y)
    dots = base.mark_point(color=BLUE, filled=True, size=28, opacity=1).encode(x=x, y=y)
    return _panel([band, line, dots], "Autocorrelation of squared returns")


def correlations(returns: np.ndarray, lags: list[int]) -> np.ndarray:
    """Autocorrelation of squared returns at each lag, over the pairs in which both are known."""
    squares = returns.astype(np.float64) ** 2
    squares -= np.nanmean(squares)
    variance = np.nanmean(squares**2)
    return np.array([np.nanmean(squares[:-lag] * squares[lag:]) for lag in lags]) / variance


def _tail(series: Series, side: int) -> alt.LayerChart:
    known = side * series.data[np.isfinite(series.data)]
    sizes = np.geomspace(np.quantile(known, 0.75), known.max() * 1.5, 40)
    each = np.array([_share_beyond(side * history, sizes) for history in series.model])
    low, high = np.quantile(each, BAND, axis=0)
    floor = 0.5 / len(known)
    curve = pd.DataFrame({"size": 100 * sizes, "low": np.maximum(low, floor), "high": np.maximum(high, floor)})
    largest = np.sort(known)[::-1]
    ranks = np.unique(np.round(np.geomspace(1, len(known) / 4, 60)).astype(int))
    dots = pd.DataFrame({"size": 100 * largest[ranks - 1], "share": ranks / len(known)})
    what = "Falls" if side < 0 else "Rises"
    log = alt.Scale(type="log", nice=False)
    x = alt.X("size:Q", title="Size, per cent (logarithmic axes)", scale=log, axis=alt.Axis(format="~g", tickCount=6))
    axis = alt.Axis(format="~e", tickCount=6)
    band = (
        alt.Chart(curve)
        .mark_area(color=VERMILLION, opacity=0.25)
        .encode(x=x, y=alt.Y("low:Q", scale=log, title="Share of returns beyond", axis=axis), y2="high:Q")
    )
    points = alt.Chart(dots).mark_point(color=BLUE, filled=True, size=28, opacity=1).encode(x=x, y=alt.Y("share:Q"))
    return _panel([band, points], f"{what} larger than a size")


def _share_beyond(moves: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return 1 - np.searchsorted(np.sort(moves), sizes, side="right") / len(moves)


def _volatility(series: Series) -> list[alt.LayerChart]:
    """Of the data and of two simulated histories, on one scale."""
    shown = [("data", series.data, BLUE), *((f"simulated, {i + 1}", series.model[i], VERMILLION) for i in range(2))]
    lines = [(name, _daily_volatility(returns, series.window_s), colour) for name, returns, colour in shown]
    known = np.concatenate([values[np.isfinite(values) & (values > 0)] for _, values, _ in lines])
    domain = [float(np.quantile(known, 0.001)) * 100, float(known.max()) * 100]
    return [_path(name, values, colour, domain, series) for name, values, colour in lines]


def _path(name: str, values: np.ndarray, colour: str, domain: list[float], series: Series) -> alt.LayerChart:
    years = np.arange(len(values)) * len(series.data) * series.window_s / SECONDS_PER_YEAR / len(values)
    table = pd.DataFrame({"years": years, "volatility": np.where(values > 0, 100 * values, np.nan)})
    line = (
        alt.Chart(table)
        .mark_line(color=colour, strokeWidth=0.9, clip=True)
        .encode(
            x=alt.X(
                "years:Q",
                title="Years of data" if "2" in name else None,
                scale=alt.Scale(nice=False),
                axis=alt.Axis(tickCount=6),
            ),
            y=alt.Y(
                "volatility:Q",
                title=None,
                scale=alt.Scale(type="log", domain=domain),
                axis=alt.Axis(format="~g", values=[5, 10, 20, 50, 100, 200, 500, 1000]),
            ),
        )
    )
    return _panel([line], f"Volatility of each day, per cent a year: {name}", WIDTH, LOW)


def _daily_volatility(returns: np.ndarray, window_s: float) -> np.ndarray:
    """Root of the mean square over each day, annual; a day with more gaps than returns is not known."""
    day = max(1, round(86_400 / window_s))
    days = returns[: len(returns) // day * day].reshape(-1, day).astype(np.float64)
    known = np.isfinite(days)
    squares = np.where(known, days**2, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return np.where(2 * known.sum(axis=1) > day, np.sqrt(squares * SECONDS_PER_YEAR / window_s), np.nan)


def _panel(layers: list[alt.Chart], title: str, width: float = HALF, height: float = HEIGHT) -> alt.LayerChart:
    heading = alt.TitleParams(title, anchor="start", frame="group", fontSize=13, fontWeight="normal", color=INK)
    return alt.LayerChart(layer=layers).properties(width=width, height=height, title=heading)
