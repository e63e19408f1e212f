"""The picture of a replayed history: price, margin, liquidations and losses over time, one above the other on one clock.

A line is the median over paths, the band around it reaches from the 5th to the 95th percentile: what the bars leave open.
"""

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from calibrate.course import Course
from calibrate.drawing import BLUE, GREEN, INK, ORANGE, VERMILLION, WIDTH, clock, layered, styled

BAND = (0.05, 0.95)
_HEIGHT = 130.0


def course_table(course: Course, first_ms: int, days: float, first_price: float) -> pd.DataFrame:
    """One row a moment: medians, and the ends of the bands, of prices in the history's currency and shares of open interest."""
    points = len(course.price)
    moments = first_ms + np.round(days * 86_400_000 * np.arange(1, points + 1) / points).astype(np.int64)
    table = {"ts": moments, "time": pd.to_datetime(moments, unit="ms", utc=True).strftime("%Y-%m-%dT%H:%M:%SZ")}
    columns: dict[str, np.ndarray] = {}
    for name, values in course._asdict().items():
        unit = first_price if name in ("price", "lowest", "highest") else 1.0
        low, middle, high = np.quantile(np.asarray(values, np.float64) * unit, (BAND[0], 0.5, BAND[1]), axis=1)
        columns |= {name: middle, f"{name}_low": low, f"{name}_high": high}
    return pd.DataFrame(table | columns)


def replay_chart(table: pd.DataFrame, name: str, history: str, paths: int) -> alt.VConcatChart:
    """What happened to price, margin, accounts and money? `table` is that of `course_table`."""
    panels = [
        _panel(table, "Price", [("price", BLUE, "lowest_low", "highest_high")], percent=False, zero=False),
        _panel(table, "Margin, % of notional", [("margin", INK, "margin_low", "margin_high")]),
        _panel(table, "Liquidated, % of OI", [("liquidated", GREEN, "liquidated_low", "liquidated_high")]),
        _panel(
            table,
            "Losses, % of OI",
            [
                ("user_cost", ORANGE, "user_cost_low", "user_cost_high"),
                ("bad_debt", VERMILLION, "bad_debt_low", "bad_debt_high"),
            ],
            names={"user_cost": "paid by liquidated users", "bad_debt": "bad debt"},
            last=True,
        ),
    ]
    subtitle = [
        f"{history}.",
        f"Lines are medians over {paths:,} ways through its bars, bands their 5th to 95th percentile, lows and highs included.",
        "Margin is that for maintenance. Bad debt counts what open accounts would lack at that moment. OI: open interest.",
    ]
    stacked = alt.vconcat(*panels, spacing=14).resolve_scale(color="independent")
    return styled(stacked, f"{name}: a real history replayed", subtitle)


def _panel(
    table: pd.DataFrame,
    title: str,
    series: Sequence[tuple[str, str, str, str]],
    *,
    percent: bool = True,
    zero: bool = True,
    names: dict[str, str] | None = None,
    last: bool = False,
) -> alt.LayerChart:
    rows = pd.concat([_rows(table, *one, 100.0 if percent else 1.0, names or {}) for one in series])
    shared: dict[str, Any] = {
        "scale": alt.Scale(zero=zero, nice=True),
        "axis": alt.Axis(title=title, tickCount=4, minExtent=44),
    }
    kinds = list(dict.fromkeys(rows["what"]))
    legend = (
        alt.Legend(title=None, orient="top-left", symbolType="stroke", symbolOpacity=1, symbolStrokeWidth=2)
        if len(kinds) > 1
        else None
    )
    colour = alt.Color("what:N", scale=alt.Scale(domain=kinds, range=[one[1] for one in series]), legend=legend)
    base = alt.Chart(rows).encode(x=clock("moment", "UTC", "%d %b %H:%M", ticks=8, last=last), color=colour)
    band = base.mark_area(opacity=0.25).encode(y=alt.Y("low:Q", **shared), y2="high:Q")
    line = base.mark_line(strokeWidth=1.6).encode(y=alt.Y("middle:Q", **shared))
    return layered([band, line], WIDTH, _HEIGHT)


def _rows(
    table: pd.DataFrame, column: str, colour: str, low: str, high: str, unit: float, names: dict[str, str]
) -> pd.DataFrame:
    del colour
    values = {"middle": column, "low": low, "high": high}
    rows = pd.DataFrame({name: unit * table[source] for name, source in values.items()})
    return rows.assign(moment=table["time"], what=names.get(column, column))
