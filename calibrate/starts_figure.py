"""The picture of a history replayed from many starts: what became of each, by the date it starts on.

A point is the mean over ways through the bars of one window, the bar behind it their 5th to 95th percentile. Points of windows in
which the fund was not enough on most ways are diamonds.
"""

import altair as alt
import pandas as pd

from calibrate.drawing import BLUE, GREEN, INK, VERMILLION, WIDTH, clock, layered, styled

_HEIGHT = 140.0
_KINDS = {"solvent": "circle", "insolvent": "diamond"}


def starts_chart(table: pd.DataFrame, name: str, history: str, paths: int) -> alt.VConcatChart:
    """What became of each start? `table` has a row for each."""
    fate = table["insolvency_probability"].gt(0.5).map({True: "insolvent", False: "solvent"})
    shown = pd.DataFrame({"moment": table["start"], "fate": fate})
    for column in ("lowest_return", "bad_debt", "liquidated"):
        shown[column] = 100 * table[column]
    for column in ("bad_debt", "liquidated"):
        shown[f"{column}_low"], shown[f"{column}_high"] = 100 * table[f"{column}_low"], 100 * table[f"{column}_high"]
    panels = [
        _panel(shown, "lowest_return", "Lowest price, % from start", BLUE),
        _panel(shown, "liquidated", "Liquidated, % of OI", GREEN, band=True),
        _panel(shown, "bad_debt", "Bad debt, % of OI", VERMILLION, band=True, last=True),
    ]
    subtitle = [
        f"{history}.",
        f"Points are means over {paths:,} ways through a window's bars, lines their 5th to 95th percentile.",
        "Diamonds: the fund was not enough on most ways. Neighbouring windows overlap. OI: open interest.",
    ]
    stacked = alt.vconcat(*panels, spacing=14)
    return styled(stacked, f"{name}: a real history from many starts", subtitle)


def _panel(
    shown: pd.DataFrame, column: str, title: str, colour: str, *, band: bool = False, last: bool = False
) -> alt.LayerChart:
    base = alt.Chart(shown).encode(x=clock("moment", "start of the window, UTC", "%d %b %Y", ticks=6, last=last))
    axis = alt.Axis(title=title, tickCount=4, minExtent=44)
    shape = alt.Shape("fate:N", scale=alt.Scale(domain=list(_KINDS), range=list(_KINDS.values())), legend=None)
    stroke = alt.condition(alt.datum.fate == "insolvent", alt.value(INK), alt.value(colour))
    size = alt.condition(alt.datum.fate == "insolvent", alt.value(70), alt.value(26))
    points = base.mark_point(filled=True, color=colour, opacity=0.85, strokeWidth=1).encode(
        y=alt.Y(f"{column}:Q", axis=axis), shape=shape, stroke=stroke, size=size
    )
    bands = base.mark_rule(color=colour, opacity=0.4, strokeWidth=1.6).encode(
        y=alt.Y(f"{column}_low:Q", axis=axis), y2=f"{column}_high:Q"
    )
    return layered([bands, points] if band else [points], WIDTH, _HEIGHT)
