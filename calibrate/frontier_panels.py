"""The trade-off in every scenario at once: small multiples, one panel a scenario, all on the same axes.

Each panel is the upper panel of `frontier_figure.py` under one scenario: points look as they do there, and the same policies
stand in all of them, so that it can be seen how far each world moves them and the line. In so little room nothing has its name
beside it; a legend says what is what, once for all panels.
"""

from typing import Any

import altair as alt
import pandas as pd

from calibrate import wording
from calibrate.drawing import INK, PERCENT_LABELS, ROLES, WIDTH, layered, log_ticks, styled
from calibrate.frontier_axes import subject
from calibrate.frontier_figure import (
    CERTIFIED,
    Axes,
    Frontier,
    bars,
    looks_of_named,
    named_marks,
    only,
    prepare,
    swept_line,
    targets,
    tolerance_rule,
)
from calibrate.frontier_worlds import SCENARIO

HEIGHT, GAP = 200.0, 16.0


def scenarios_chart(
    frontier: pd.DataFrame,
    name: str,
    horizon_days: float,
    *,
    x: str = "max_leverage",
    y: str = "insolvency_probability",
) -> alt.VConcatChart:
    """How does the trade-off look in every scenario, and where do the named policies stand there?

    `frontier` has a column `scenario`, and for each of them the rows that `frontier_chart` draws; `x` and `y` are as there.
    """
    prepared, horizon = prepare(frontier, x, y), wording.horizon(horizon_days)
    points = prepared.points
    points["entry"] = points["kind"].where(points["label"] == "frontier", points["label"].map(wording.role))
    scenarios = list(dict.fromkeys(frontier[SCENARIO]))
    columns = 2 if len(scenarios) in (2, 4) else 3
    width = (WIDTH - (columns - 1) * GAP) / columns
    panels = [
        _panel(prepared, scenario, width, left=i % columns == 0, lowest=i + columns >= len(scenarios))
        for i, scenario in enumerate(scenarios)
    ]
    rows = [
        alt.HConcatChart(hconcat=panels[first : first + columns], spacing=GAP, bounds="flush")
        for first in range(0, len(panels), columns)
    ]
    subtitle = [
        f"{prepared.y.told.format(horizon=horizon)}, by {prepared.x.told}.",
        f"One panel a scenario, all on the same axes. Lower and {prepared.x.better} is better. Bars are 95 % intervals.",
    ]
    if prepared.tolerance is not None:
        subtitle.append(
            f"Dashed: the tolerance of {wording.percent(prepared.tolerance)}, to be kept in every scenario."
        )
    chart = alt.VConcatChart(vconcat=rows, data=points, spacing=GAP)
    return styled(chart, f"{name}: {subject(x, y)} in every scenario", subtitle)


def _panel(frontier: Frontier, scenario: str, width: float, *, left: bool, lowest: bool) -> alt.LayerChart:
    """One scenario; numbers stand at the left and under the lowest panel of each column."""
    upright = alt.Axis(
        values=log_ticks(frontier.upright), labelExpr=PERCENT_LABELS, labels=left, ticks=left,
        title=f"{wording.sentence(frontier.y.short).rstrip('.')}, logarithmic axis" if left else None,
        minExtent=frontier.extent() if left else 0,
    )  # fmt: skip
    across = alt.Axis(
        labelExpr=frontier.x.labels, labels=lowest, ticks=lowest, tickCount=4, labelBound=True,
        title=wording.sentence(frontier.x.told).rstrip(".") if lowest else None,
    )  # fmt: skip
    axes = Axes(
        alt.X(f"{frontier.x.column}:Q", scale=alt.Scale(domain=frontier.across, nice=False, zero=False), axis=across),
        alt.Scale(type="log", domain=frontier.upright, nice=False),
        upright,
    )
    layers = [
        _heading(scenario),
        *tolerance_rule(frontier, axes),
        swept_line(f"datum.kind === '{CERTIFIED}'").encode(**axes.at("shown")),
        *bars(frontier, axes),
        only("datum.label === 'frontier'")
        .mark_point(size=40, strokeWidth=1.6, opacity=1)
        .encode(**axes.at("shown"), **_legend(frontier)),
        *(named.encode(**axes.at("shown")) for named in named_marks()),
        targets(frontier, axes, "shown"),
    ]
    panel = layered(layers, width, HEIGHT)
    return panel.transform_filter(alt.FieldEqualPredicate(field=SCENARIO, equal=scenario))


def _heading(scenario: str) -> alt.Chart:
    """The name of a scenario over its panel. A title of the panel would stand higher where numbers reach above the axis."""
    mark = alt.Chart(pd.DataFrame({"text": [scenario]})).mark_text(
        align="left", baseline="bottom", fontSize=12.5, fontWeight="bold", color=INK
    )
    return mark.encode(x=alt.value(0), y=alt.value(-9), text="text:N")


def _legend(frontier: Frontier) -> dict[str, Any]:
    """Outline, filling and shape by what a point is: a kind of point of the sweep, or a policy with a name."""
    named = ROLES | looks_of_named(frontier.points["label"])
    looks = frontier.kinds() | {
        wording.role(label): (colour, colour, shape) for label, (colour, shape) in named.items()
    }
    present = [entry for entry in looks if entry in set(frontier.points["entry"])]
    outlines, fills, shapes = (
        alt.Scale(domain=present, range=[looks[entry][part] for entry in present]) for part in range(3)
    )
    key = alt.Legend(title=None, orient="top", symbolSize=70, columns=_in_rows(len(present)))
    return {
        "stroke": alt.Stroke("entry:N", scale=outlines, legend=key),
        "fill": alt.Fill("entry:N", scale=fills, legend=key),
        "shape": alt.Shape("entry:N", scale=shapes, legend=key),
    }


def _in_rows(entries: int) -> int:
    """How many entries of the legend stand side by side, so that rows are even."""
    most = 5 if entries <= 5 else 4
    return -(-entries // -(-entries // most))
