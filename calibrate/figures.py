"""Every figure of a report, each as one Altair chart.

`frontier_chart` is the trade-off between insolvency and leverage, `scenarios_chart` the same in every scenario,
`metrics_chart` sets the recommended parameters against today's, and `sensitivity_chart` shows which assumption the answer
leans on. `save` writes any of them as an interactive page, SVG and PNG. Uncertainty is always drawn: bars are 95 %
intervals, and what was never seen on any simulated path stands at its upper limit as an open triangle.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from calibrate import wording
from calibrate.drawing import (
    BLUE,
    INK,
    MUTED,
    ORANGE,
    PERCENT_LABELS,
    ROLES,
    WIDTH,
    layered,
    log_domain,
    log_ticks,
    padded,
    save,
    styled,
)
from calibrate.evidence_words import by_kind_and_size
from calibrate.frontier_figure import frontier_chart
from calibrate.frontier_panels import scenarios_chart

__all__ = ["frontier_chart", "metrics_chart", "save", "scenarios_chart", "sensitivity_chart"]

ROW_HEIGHT = 34.0
INFLUENCES = {"assumption": (ORANGE, "assumption about the world"), "policy": (BLUE, "parameter of the venue")}
LOSSES = (
    "account_insolvency_rate",
    "bad_debt",
    "bad_debt_var",
    "bad_debt_es",
    "fund_draw",
    "fund_draw_es",
    "socialised_loss",
    "socialised_loss_es",
    "open_deficit",
    "user_cost",
    "false_liquidation_rate",
)


def metrics_chart(metrics: Mapping[str, Any], name: str) -> alt.LayerChart:
    """What do losses and costs look like today, and under the recommended parameters? `metrics` is `metrics.json`."""
    rows = pd.DataFrame(_loss_rows(metrics))
    domain = log_domain(rows["shown"], rows["low"], rows["high"])
    rows["bar_low"], rows["shown"] = rows["low"].clip(lower=domain[0]), rows["shown"].clip(lower=domain[0])
    order, roles = list(dict.fromkeys(rows["metric"])), [role for role in ROLES if role in metrics]
    title = "Share of open interest (logarithmic axis)"
    shared: dict[str, Any] = {
        "scale": alt.Scale(type="log", domain=domain, nice=False),
        "axis": alt.Axis(values=log_ticks(domain), labelExpr=PERCENT_LABELS, title=title),
    }
    x, bar = alt.X("shown:Q", **shared), {"x": alt.X("bar_low:Q", **shared), "x2": "high:Q"}
    key = alt.Legend(title=None, orient="top", symbolSize=110)
    colours, shapes = (alt.Scale(domain=roles, range=[ROLES[role][part] for role in roles]) for part in (0, 1))
    shape = alt.Shape("role:N", scale=shapes, legend=key)
    bands = alt.Axis(labelLimit=300, grid=True, tickBand="extent", ticks=False)
    base = alt.Chart(rows).encode(
        y=alt.Y("metric:N", sort=order, title=None, axis=bands),
        yOffset=alt.YOffset("role:N", sort=roles, scale=alt.Scale(paddingOuter=0.6)),
        color=alt.Color("role:N", scale=colours, legend=key),
        tooltip=_tooltips("metric", "role", "value", "interval"),
    )
    seen, limit, never = (base.transform_filter(f"datum.drawn === '{drawn}'") for drawn in ("value", "limit", "zero"))
    layers = [
        seen.mark_rule(strokeWidth=1.6).encode(**bar),
        seen.mark_point(size=60, filled=True, opacity=1).encode(x=x, shape=shape),
        limit.mark_point(size=60, shape="triangle-left", fill="white", strokeWidth=1.8, opacity=1).encode(x=x),
        never.mark_text(text="0", align="left", dx=5, fontSize=12, fontWeight="bold").encode(x=x),
    ]
    subtitle = "Bars are 95 % intervals. Open triangle: not seen on any simulated path, drawn at its upper limit."
    chart = layered(layers, WIDTH - 250, ROW_HEIGHT * len(order))
    return styled(chart, f"{name}: losses and costs", [subtitle])


def _loss_rows(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for role in [role for role in ROLES if role in metrics]:
        found = metrics[role]["metrics"]
        for key in sorted((key for key in found if wording.metric_family(key) in LOSSES), key=_place):
            value, (low, high) = found[key]["value"], found[key]["interval"]
            rows.append(
                {
                    "metric": wording.metric_name(key, short=True),
                    "role": role,
                    "value": wording.percent(value, found[key]["standard_error"]),
                    "interval": f"{wording.percent(low)} to {wording.percent(high)}",
                    "drawn": "value" if value > 0 else "limit" if high > 0 else "zero",
                    "shown": value if value > 0 else high,
                    "low": low,
                    "high": high,
                }
            )
    return rows


def _place(key: str) -> int:
    """Where a metric stands in the figure, tails at whatever level."""
    return LOSSES.index(wording.metric_family(key))


def sensitivity_chart(
    sensitivities: Sequence[Mapping[str, Any]], name: str, *, of: str = "insolvency_probability"
) -> alt.LayerChart:
    """Which assumption drives the answer? Elasticities of one metric, of assumptions before those of the policy, with
    their 95 % intervals."""
    rows = pd.DataFrame(_elasticity_rows(sensitivities, of))
    order, metric = list(rows["parameter"]), wording.lower(wording.metric_name(of))
    shared: dict[str, Any] = {
        "scale": alt.Scale(domain=padded([0.0, *rows["low"], *rows["high"]], 0.13), nice=False),
        "axis": alt.Axis(title=f"Change of the {metric} in per cent, for +1 %", tickCount=8),
    }
    present = [(colour, kind) for colour, kind in INFLUENCES.values() if kind in set(rows["kind"])]
    colours = alt.Scale(domain=[kind for _, kind in present], range=[colour for colour, _ in present])
    legend = alt.Legend(title=None, orient="top", symbolSize=110)
    base = alt.Chart(rows).encode(
        y=alt.Y("parameter:N", sort=order, title=None, axis=alt.Axis(labelLimit=300, ticks=False)),
        tooltip=_tooltips("parameter", "elasticity", "kind", "method"),
    )
    bars = base.mark_bar(height={"band": 0.6}).encode(
        x=alt.X("value:Q", **shared), color=alt.Color("kind:N", scale=colours, legend=legend)
    )
    errors = base.mark_rule(color=INK, strokeWidth=1.6).encode(x=alt.X("low:Q", **shared), x2="high:Q")
    # Numbers stand beyond the end of the interval, on the side to which the bar points.
    rising, falling = base.transform_filter("datum.value >= 0"), base.transform_filter("datum.value < 0")
    right = rising.mark_text(align="left", dx=6, baseline="middle", color=INK, fontSize=11.5)
    left = falling.mark_text(align="right", dx=-6, baseline="middle", color=INK, fontSize=11.5)
    numbers = [
        right.encode(x=alt.X("high:Q", **shared), text="short:N"),
        left.encode(x=alt.X("low:Q", **shared), text="short:N"),
    ]
    zero = alt.Chart(pd.DataFrame({"zero": [0.0]})).mark_rule(color=MUTED).encode(x=alt.X("zero:Q", **shared))
    subtitle = [
        f"+1 % in the parameter changes the {metric} by this many per cent.",
        "Bars to the left: raising it makes the venue safer. Black lines are 95 % intervals.",
    ]
    chart = layered([bars, errors, *numbers, zero], WIDTH - 200, ROW_HEIGHT * len(order))
    return styled(chart, f"{name}: what the answer depends on", subtitle)


def _tooltips(*fields: str) -> list[alt.Tooltip]:
    return [alt.Tooltip(f"{field}:N", title=field.capitalize()) for field in fields]


def _elasticity_rows(sensitivities: Sequence[Mapping[str, Any]], of: str) -> list[dict[str, Any]]:
    chosen = [entry for entry in sensitivities if entry["of"] == of and math.isfinite(entry["elasticity"])]
    rows = []
    for entry in sorted(chosen, key=by_kind_and_size):
        value = entry["elasticity"]
        error = entry["standard_error"] if math.isfinite(entry["standard_error"]) else 0.0
        rows.append(
            {
                "parameter": wording.parameter_name(entry["parameter"]),
                "kind": INFLUENCES.get(entry["kind"], INFLUENCES["assumption"])[1],
                "method": entry["method"],
                "value": value,
                "elasticity": wording.number(value, error),
                "short": (f"{value:+.2g}" if abs(value) < 10 else f"{value:+.0f}").replace("-", wording.MINUS),
                "low": value - 1.96 * error,
                "high": value + 1.96 * error,
            }
        )
    return rows
