"""The picture of one insurance fund for several markets: how likely it is to need more than so much."""

import altair as alt
import numpy as np
import pandas as pd
from scipy.stats import beta

from calibrate.drawing import BLUE, GREEN, INK, MUTED, PERCENT_LABELS, WIDTH, layered, log_domain, log_ticks, styled
from calibrate.joint import Together

_POINTS, _FEWEST = 60, 5
_KINDS = ("in this world", "if markets were independent", "each with a fund of its own")
_COLOURS = (BLUE, GREEN, MUTED)


def exceedance_table(found: Together) -> pd.DataFrame:
    """The probability of needing more than an amount, with its 95 % interval, for amounts that at least a handful of paths exceed.
    Funds of their own add up to the amounts that each market exceeds with the same probability."""
    joint, independent = found.joint.usd, found.independent.usd
    each = (joint.sum(axis=0), independent.sum(axis=0), np.sort(joint, axis=1).sum(axis=0))
    return pd.concat([_exceeded(values, kind) for values, kind in zip(each, _KINDS, strict=True)], ignore_index=True)


def _exceeded(values: np.ndarray, kind: str) -> pd.DataFrame:
    falling = np.sort(values[values > 0])[::-1]
    if len(falling) < _FEWEST:
        return pd.DataFrame({"amount_musd": [], "probability": [], "low": [], "high": [], "what": []})
    hits = np.unique(np.round(np.geomspace(_FEWEST, len(falling), _POINTS)).astype(int))
    paths = len(values)
    return pd.DataFrame(
        {
            "amount_musd": falling[hits - 1] / 1e6,
            "probability": hits / paths,
            "low": beta.ppf(0.025, hits, paths - hits + 1),
            "high": beta.ppf(0.975, hits + 1, np.maximum(paths - hits, 1)),
            "what": kind,
        }
    )


def one_fund_chart(table: pd.DataFrame, found: Together) -> alt.LayerChart:
    """How large must one fund for all markets be?"""
    domain = log_domain(table["probability"], table["low"], table["high"])
    x = alt.X(
        "amount_musd:Q",
        title="needed of the insurance fund, million USD",
        scale=alt.Scale(zero=True, nice=True),
        axis=alt.Axis(tickCount=8),
    )
    axis = alt.Axis(title="probability of needing more", values=log_ticks(domain), labelExpr=PERCENT_LABELS)
    scale = alt.Scale(type="log", domain=list(domain), clamp=True)
    legend = alt.Legend(title=None, orient="top-right", symbolType="stroke", symbolOpacity=1, symbolStrokeWidth=2)
    colour = alt.Color("what:N", scale=alt.Scale(domain=list(_KINDS), range=list(_COLOURS)), legend=legend)
    base = alt.Chart(table).encode(x=x, color=colour)
    band = base.mark_area(opacity=0.2).encode(y=alt.Y("low:Q", scale=scale, axis=axis), y2="high:Q")
    line = base.mark_line(strokeWidth=1.8).encode(y=alt.Y("probability:Q", scale=scale, axis=axis))
    fund = pd.DataFrame({"amount_musd": [found.fund_usd / 1e6], "label": ["the fund"]})
    rule = alt.Chart(fund).mark_rule(strokeDash=[5, 4], color=INK).encode(x="amount_musd:Q")
    named = (
        alt.Chart(fund)
        .mark_text(align="left", dx=5, color=INK, baseline="top")
        .encode(x="amount_musd:Q", y=alt.value(4), text="label:N")
    )
    names = ", ".join(f"{market.name} ({market.asset})" for market in found.markets)
    subtitle = [
        f"{names}: {found.joint.usd.shape[1]:,} paths over {found.horizon_days:g} day(s).",
        "Bands are 95 % intervals. Funds of their own: what each market needs more than with the same probability, added up.",
    ]
    return styled(layered([band, line, rule, named], WIDTH, 320.0), "One insurance fund for all markets", subtitle)
