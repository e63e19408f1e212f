"""The figure of each fit: what was fitted, against the data, with its errors."""

import altair as alt
import numpy as np
import pandas as pd

from calibrate.drawing import BLUE, VERMILLION, WIDTH, styled
from calibrate.fits.result import WorldFit

HEIGHT = 250.0
DATA, MODEL = "data", "fit"
KEY = alt.Legend(title=None, orient="top", symbolStrokeWidth=3)


def figure_of(fit: WorldFit) -> alt.VConcatChart:
    """The figure of a fit of any kind."""
    panels = {"oracle": _oracle, "liquidity": _depth, "book": _book}[fit.section](fit)
    chart = alt.VConcatChart(vconcat=panels, spacing=28)
    return styled(chart, f"{fit.origin['source']}: {fit.title}", [_subtitle(fit)])


def _subtitle(fit: WorldFit) -> str:
    return {
        "oracle": "Gaps between rounds as recorded and as the fitted feed makes them; delays against volatility, bars 95 %.",
        "liquidity": "Dots are quotes, on the axis if cheaper; the line is the fit, the band its 95 % interval over batches.",
        "book": "Steps are accounts, weighted by size; lines are the fit, bands 95 % intervals over resampled accounts.",
    }[fit.section]


def _oracle(fit: WorldFit) -> list[alt.LayerChart]:
    gaps, late = fit.curves["gaps"], fit.curves["lateness"]
    rows = pd.concat(
        pd.DataFrame({"gap": np.maximum(gaps["gap_s"], 10), "share": gaps[key], "of": name})
        for key, name in (("recorded", DATA), ("made", MODEL))
    )
    distance = next(row.model for row in fit.goodness if row.what.startswith("gaps, Kolmogorov"))
    label = f"Time since the round before, seconds (the curves are at most {distance:.3f} apart)"
    steps = (
        alt.Chart(rows)
        .mark_line(interpolate="step-after", strokeWidth=1.8)
        .encode(
            x=alt.X("gap:Q", scale=alt.Scale(type="log", nice=False), title=label),
            y=alt.Y("share:Q", title="Share of gaps that are shorter"),
            color=_two_colours(),
        )
    )
    table = pd.DataFrame(late).assign(
        low=late["delay_s"] - 1.96 * late["error"], high=late["delay_s"] + 1.96 * late["error"]
    )
    # In per cent a year, as a person says it.
    table["volatility"] *= 100
    power, level = fit.figure("delay_volatility_exponent").value, fit.figure("delay_s").value
    grid = np.geomspace(table["volatility"].min(), table["volatility"].max(), 60)
    middle = np.exp(np.mean(np.log(table["volatility"])))
    line = pd.DataFrame({"volatility": grid, "delay": level * (grid / middle) ** power})
    x = alt.X("volatility:Q", scale=alt.Scale(type="log"), title="Volatility in the six hours before, per cent a year")
    y = alt.Y("low:Q", title="Mean delay, seconds", scale=alt.Scale(zero=True))
    bars = alt.Chart(table).mark_rule(color=BLUE, strokeWidth=1.8).encode(x=x, y=y, y2="high:Q")
    dots = alt.Chart(table).mark_point(color=BLUE, filled=True, size=60, opacity=1).encode(x=x, y=alt.Y("delay_s:Q"))
    fitted = alt.Chart(line).mark_line(color=VERMILLION).encode(x=x, y=alt.Y("delay:Q"))
    return [_panel([steps]), _panel([bars, dots, fitted], height=170)]


def _depth(fit: WorldFit) -> list[alt.LayerChart]:
    quotes = pd.DataFrame(fit.curves["quotes"]).assign(cost=lambda t: 1e4 * t["cost"])
    curve = pd.DataFrame(fit.curves["fitted"])
    curve[["cost", "low", "high"]] *= 1e4
    bottom = float(curve["low"].min()) / 8  # what is cheaper is noise, and would fill the picture
    quotes["cost"] = quotes["cost"].clip(lower=bottom)
    x = alt.X(
        "size_usd:Q",
        scale=alt.Scale(type="log", nice=False),
        title="Size sold at once, USD",
        axis=alt.Axis(format="~s"),
    )
    scale = alt.Scale(type="log", domainMin=bottom, nice=False)
    y = alt.Y("cost:Q", scale=scale, title="Cost, bps (logarithmic axes)", axis=alt.Axis(format="~g"))
    dots = alt.Chart(quotes).mark_circle(color=BLUE, size=22, opacity=0.5).encode(x=x, y=y)
    band = (
        alt.Chart(curve)
        .mark_area(color=VERMILLION, opacity=0.25)
        .encode(x=x, y=alt.Y("low:Q", scale=scale), y2="high:Q")
    )
    line = alt.Chart(curve).mark_line(color=VERMILLION, strokeWidth=2).encode(x=x, y=y)
    return [_panel([band, dots, line], height=1.4 * HEIGHT)]


def _book(fit: WorldFit) -> list[alt.LayerChart]:
    panels = []
    for side, curve in fit.curves.items():
        table = pd.DataFrame(curve)
        lines = pd.concat(
            table[["excess", key]].set_axis(["excess", "share"], axis=1).assign(of=name)
            for key, name in (("recorded", DATA), ("made", MODEL))
        )
        label = f"Collateral over the maintenance requirement, less one ({side} accounts)"
        x = alt.X("excess:Q", scale=alt.Scale(type="log", nice=False), title=label, axis=alt.Axis(format="~g"))
        y = alt.Y("share:Q", title="Share of notional with less")
        band = alt.Chart(table).mark_area(color=VERMILLION, opacity=0.2).encode(x=x, y=alt.Y("low:Q"), y2="high:Q")
        base = alt.Chart(lines).encode(x=x, y=y, color=_two_colours())
        steps = base.transform_filter(f"datum.of === '{DATA}'").mark_line(interpolate="step-after", strokeWidth=1.8)
        curve_line = base.transform_filter(f"datum.of === '{MODEL}'").mark_line(strokeWidth=1.8)
        panels.append(_panel([band, steps, curve_line]))
    return panels


def _two_colours() -> alt.Color:
    return alt.Color("of:N", scale=alt.Scale(domain=[DATA, MODEL], range=[BLUE, VERMILLION]), legend=KEY)


def _panel(layers: list[alt.Chart], height: float = HEIGHT) -> alt.LayerChart:
    return alt.LayerChart(layer=layers).properties(width=WIDTH, height=height)
