"""Every figure once: one Altair chart, from which the interactive page, the SVG and the PNG are all made.

`frontier_chart` is the picture that a venue decides by: how likely insolvency is at each level of leverage, and below it the
parameters that buy each point. `metrics_chart` sets the recommended parameters against today's, and `sensitivity_chart`
shows which assumption the answer leans on. `save` writes any of them; nothing that it writes needs a network. Uncertainty
is always drawn: bars are 95 % intervals, and what never happened on any simulated path stands at its upper limit as an open
triangle, because a logarithmic axis has no zero.
"""

import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import altair as alt
import pandas as pd
import vl_convert

from calibrate import wording
from calibrate.placement import LINE, Pixel, Placer, Spot, along

Chart = alt.LayerChart | alt.VConcatChart
C = TypeVar("C", alt.LayerChart, alt.VConcatChart)

WIDTH = 665.0  # of the plotting area; about 760 with the axis
FRONTIER_HEIGHT, PARAMETER_HEIGHT, ROW_HEIGHT = 370.0, 78.0, 34.0
BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#007F5F", "#E69F00"  # told apart by colour-blind readers
INK, MUTED, GRID = "#1f2933", "#5b6673", "#e6e9ee"
FONT = "Arial, Helvetica, Liberation Sans, sans-serif"
ROLES = {"incumbent": (VERMILLION, "diamond"), "recommended": (GREEN, "square")}
CERTIFIED, UNCERTIFIED, UNSEEN = "certified", "not certified", "no insolvency seen: upper limit"
KINDS = {CERTIFIED: (BLUE, "circle"), UNCERTIFIED: ("white", "circle"), UNSEEN: ("white", "triangle-down")}
INFLUENCES = {"assumption": (ORANGE, "assumption about the world"), "policy": (BLUE, "parameter of the venue")}
PERCENT_LABELS = "format(100 * datum.value, '.2~r') + ' %'"
MEASURED = ("insolvency_probability", "max_leverage", "margin_per_oi", "user_cost", "bad_debt")
BOOKKEEPING = ("label", "tolerance", "standard_error", "low", "high", "certified", "paths")
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
# The browser itself is told to load nothing from anywhere.
CONTENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'; img-src data:"


# ------------------------------------------------------------------------------------------------ the frontier


class Frontier(NamedTuple):
    """The frontier prepared for drawing: `points` say how each looks, where it stands and what its tooltip shows."""

    points: pd.DataFrame
    parameters: list[str]
    tips: list[str]
    leverage: tuple[float, float]
    probability: tuple[float, float]

    def only(self, condition: str) -> alt.Chart:
        return alt.Chart(self.points).transform_filter(condition)

    def extent(self) -> float:
        """Room for the numbers of the vertical axes, the same in all panels so that their headings line up."""
        return 16 + 6.8 * max(len(wording.percent(tick)) for tick in [1e-3, *_log_ticks(self.probability)])

    def tolerance(self) -> float | None:
        """What was asked of the recommended point, if there is one."""
        asked = self.points.loc[self.points["label"] == "recommended", "tolerance"].dropna()
        return float(asked.iloc[0]) if len(asked) else None


class Axes(NamedTuple):
    """The axes that the layers of one panel share."""

    x: alt.X
    scale: alt.Scale
    axis: alt.Axis

    def at(self, field: str) -> dict[str, Any]:
        return {"x": self.x, "y": alt.Y(f"{field}:Q", scale=self.scale, axis=self.axis)}


def frontier_chart(
    frontier: pd.DataFrame, name: str, horizon_days: float, *, free: Sequence[str] | None = None
) -> alt.VConcatChart:
    """How likely is insolvency at each level of leverage, and which parameters buy it?

    `frontier` has one row per point of the trade-off (`label` is "frontier"), one for the incumbent and one for the
    recommended parameters. `free` names the parameters to draw; by default those that vary along the frontier.
    """
    prepared = _prepare(frontier)
    drawn = [key for key in prepared.parameters if (_varies(frontier, key) if free is None else key in free)]
    hover = alt.selection_point(name="hover", fields=["point"], on="pointerover", clear="pointerout", empty=False)
    panels = [_trade_off(prepared, horizon_days, hover, last=not drawn)]
    panels += [_along_the_frontier(prepared, key, hover, last=key == drawn[-1]) for key in drawn]
    subtitle = [
        f"Chance that losses exceed the insurance fund within {wording.horizon(horizon_days)}, by leverage offered to users.",
        "Lower and further right is better. Bars are 95 % intervals, on paths that the search did not use.",
    ]
    return _styled(alt.vconcat(*panels, spacing=18), f"{name}: insolvency against leverage", subtitle)


def _prepare(frontier: pd.DataFrame) -> Frontier:
    points = frontier.sort_values("max_leverage", kind="stable").reset_index(drop=True)
    parameters = _parameters(points)
    tips = [_tooltip(row, parameters) for _, row in points.iterrows()]
    seen = points["insolvency_probability"] > 0
    certified = points["certified"].map(is_true)
    points["point"] = range(len(points))
    points["kind"] = certified.map({True: CERTIFIED, False: UNCERTIFIED}).where(seen, UNSEEN)
    points["shown"] = points["insolvency_probability"].where(seen, points["high"])
    colours, shapes = zip(*(ROLES.get(label, (BLUE, "circle")) for label in points["label"]), strict=True)
    points["colour"], points["shape"] = colours, shapes
    points["shape"] = points["shape"].where(seen, "triangle-down")
    points["inside"] = points["colour"].where(certified & seen | (points["label"] == "incumbent") & seen, "white")
    tolerances = points["tolerance"].dropna()
    domain = _log_domain(points["shown"], points["low"], [*points["high"], *tolerances])
    points["bar_low"] = points["low"].clip(lower=domain[0])
    points = points.join(pd.DataFrame([list(tip.values()) for tip in tips]).add_prefix("tip"))
    return Frontier(points, parameters, list(tips[0]), _padded(points["max_leverage"], 0.06), domain)


def _parameters(frontier: pd.DataFrame) -> list[str]:
    """The columns that are neither measured (with errors and tails) nor bookkeeping: those of the policy."""
    rest = [key for key in frontier.columns if key not in BOOKKEEPING and not key.startswith(MEASURED)]
    return [key for key in rest if pd.api.types.is_numeric_dtype(frontier[key])]


def _varies(frontier: pd.DataFrame, key: str) -> bool:
    return bool(frontier.loc[frontier["label"] == "frontier", key].nunique() > 1)


def is_true(value: object) -> bool:
    """A truth value from a CSV file, whatever was made of its spelling on the way."""
    return str(value).strip().lower() in ("true", "1", "1.0")


def _tooltip(row: pd.Series, parameters: Sequence[str]) -> dict[str, str]:
    texts = {
        "Point": f"{row['label']}, {CERTIFIED if is_true(row['certified']) else UNCERTIFIED}",
        "Tolerance": wording.percent(row["tolerance"]),
        "Insolvency probability": wording.percent(row["insolvency_probability"], row["standard_error"]),
        "95 % interval": f"{wording.percent(row['low'])} to {wording.percent(row['high'])}",
        "Highest leverage": wording.leverage(row["max_leverage"]),
        "Initial margin": wording.percent(row["margin_per_oi"], row["margin_per_oi_standard_error"]),
        "Cost to liquidated users": wording.percent(row["user_cost"], row["user_cost_standard_error"]),
    }
    texts |= {wording.metric_name(str(key)): wording.percent(row[key]) for key in row.index if str(key).startswith("bad_debt")}
    texts["Simulated paths"] = wording.count(row["paths"])
    return texts | {_parameter_title(key): wording.number(row[key]) for key in parameters}


def _trade_off(frontier: Frontier, horizon_days: float, hover: alt.Parameter, *, last: bool) -> alt.LayerChart:
    """The upper panel: probability on a logarithmic axis, the named points labelled where there is room."""
    axis = alt.Axis(values=_log_ticks(frontier.probability), labelExpr=PERCENT_LABELS, title=None, minExtent=frontier.extent())
    axes = Axes(_leverage(frontier, first=True, last=last), alt.Scale(type="log", domain=frontier.probability, nice=False), axis)
    bars = frontier.only("datum.insolvency_probability > 0").mark_rule(strokeWidth=1.6)
    layers = [
        *_tolerance_rule(frontier, axes),
        _line(frontier, f"datum.kind === '{CERTIFIED}'").encode(**axes.at("shown")),
        bars.encode(**axes.at("bar_low"), y2="high:Q", color=alt.Color("colour:N", scale=None)),
        _marks(frontier, legend=True).encode(**axes.at("shown")),
        _named_marks(frontier).encode(**axes.at("shown")),
        *_labels(frontier, axes),
        *_hover(frontier, axes, "shown", hover),
    ]
    title = f"Insolvency probability within {wording.horizon(horizon_days)} (per cent, logarithmic axis)"
    return _panel(layers, title, FRONTIER_HEIGHT)


def _along_the_frontier(frontier: Frontier, key: str, hover: alt.Parameter, *, last: bool) -> alt.LayerChart:
    """One lower panel: the value of one parameter at every point of the frontier."""
    scale = alt.Scale(domain=_padded(frontier.points[key], 0.15), nice=False, zero=False)
    axes = Axes(_leverage(frontier, last=last), scale, alt.Axis(tickCount=3, title=None, minExtent=frontier.extent()))
    layers = [
        _line(frontier, f"datum.kind !== '{UNCERTIFIED}'").encode(**axes.at(key)),
        _marks(frontier, legend=False).encode(**axes.at(key)),
        _named_marks(frontier).encode(**axes.at(key)),
        *_hover(frontier, axes, key, hover),
    ]
    return _panel(layers, _parameter_title(key), PARAMETER_HEIGHT)


def _leverage(frontier: Frontier, *, first: bool = False, last: bool) -> alt.X:
    """The shared axis of all panels: numbers under the first and the last, its name under the last."""
    title = "Highest leverage at the initial margin (position / collateral)" if last else None
    axis = alt.Axis(title=title, labelExpr=f"datum.label + '{wording.TIMES}'", labels=last or first, tickCount=8)
    return alt.X("max_leverage:Q", scale=alt.Scale(domain=frontier.leverage, nice=False, zero=False), axis=axis)


def _line(frontier: Frontier, condition: str) -> alt.Chart:
    line = frontier.only(f"datum.label === 'frontier' && {condition}")
    return line.mark_line(color=BLUE, strokeWidth=2, opacity=0.5).encode(order="max_leverage:Q")


def _marks(frontier: Frontier, *, legend: bool) -> alt.Chart:
    """The points of the frontier; their legend stands once, above the upper panel."""
    marks = frontier.only("datum.label === 'frontier'").mark_point(size=48, strokeWidth=1.7, opacity=1)
    if not legend:
        return marks.encode(stroke=alt.value(BLUE), fill=alt.Fill("inside:N", scale=None), shape=alt.Shape("shape:N", scale=None))
    present = set(frontier.points.loc[frontier.points["label"] == "frontier", "kind"])
    kinds = [kind for kind in KINDS if kind in present]
    fills, shapes = [KINDS[kind][0] for kind in kinds], [KINDS[kind][1] for kind in kinds]
    key = alt.Legend(title=None, orient="top", symbolSize=70) if kinds else None
    outlines = alt.Scale(domain=kinds, range=[BLUE] * len(kinds))  # one colour, but only so does it reach the legend
    return marks.encode(
        stroke=alt.Stroke("kind:N", scale=outlines, legend=key),
        fill=alt.Fill("kind:N", scale=alt.Scale(domain=kinds, range=fills), legend=key),
        shape=alt.Shape("kind:N", scale=alt.Scale(domain=kinds, range=shapes), legend=key),
    )


def _named_marks(frontier: Frontier) -> alt.Chart:
    return (
        frontier.only("datum.label !== 'frontier'")
        .mark_point(size=110, strokeWidth=2, opacity=1)
        .encode(
            stroke=alt.Stroke("colour:N", scale=None),
            fill=alt.Fill("inside:N", scale=None),
            shape=alt.Shape("shape:N", scale=None),
        )
    )


def _tolerance_rule(frontier: Frontier, axes: Axes) -> list[alt.Chart]:
    tolerance = frontier.tolerance()
    if tolerance is None:
        return []
    rule = alt.Chart(pd.DataFrame({"tolerance": [tolerance]})).mark_rule(color=MUTED, strokeDash=[5, 4], strokeWidth=1.2)
    return [rule.encode(y=axes.at("tolerance")["y"])]


def _hover(frontier: Frontier, axes: Axes, field: str, hover: alt.Parameter) -> list[alt.Chart]:
    """A wide invisible target on every point; pointing at one in the upper panel marks its leverage in all of them."""
    rows = alt.Chart(frontier.points)
    target = rows.mark_point(size=420, opacity=0, filled=True).encode(
        **axes.at(field), tooltip=[alt.Tooltip(f"tip{i}:N", title=title) for i, title in enumerate(frontier.tips)]
    )
    rule = rows.transform_filter(hover).mark_rule(color=INK, opacity=0.35, strokeWidth=1.2).encode(x=axes.x)
    return [rule, target.add_params(hover) if field == "shown" else target]


def _labels(frontier: Frontier, axes: Axes) -> list[alt.Chart]:
    """The names of the incumbent, the recommendation and the tolerance, each on a white halo."""
    placer = Placer(WIDTH, FRONTIER_HEIGHT, _drawn(frontier))
    layers: list[alt.Chart] = []
    tolerance = frontier.tolerance()
    for _, row in frontier.points[frontier.points["label"] != "frontier"].iterrows():
        limit = "" if row["insolvency_probability"] > 0 else "below "
        values = f"{wording.leverage(row['max_leverage'])}, {limit}{wording.percent(row['shown'])}"
        lines = [str(row["label"]).capitalize(), values]
        spot = placer.place(_pixel(frontier, row["max_leverage"], row["shown"]), lines)
        layers += _halo(axes.at("shown"), {k: row[k] for k in ("max_leverage", "shown")}, lines, spot, row["colour"])
    if tolerance is not None:
        lines = [f"tolerance {wording.percent(tolerance)}"]
        spots = [Spot(dx, dy, align) for dy in (-10.0, 11.0) for dx, align in ((6.0, "left"), (WIDTH - 6.0, "right"))]
        spot = placer.place((0.0, _pixel(frontier, frontier.leverage[0], tolerance)[1]), lines, spots)
        layers += _halo(axes.at("shown") | {"x": alt.value(0)}, {"shown": tolerance}, lines, spot, MUTED)
    return layers


def _halo(place: dict[str, Any], row: dict[str, Any], lines: Sequence[str], spot: Spot, colour: str) -> list[alt.Chart]:
    rows = alt.Chart(pd.DataFrame([{**row, "text": "\n".join(lines)}]))
    first_line = spot.dy - LINE * (len(lines) - 1) / 2
    style: dict[str, Any] = {"align": spot.align, "dx": spot.dx, "dy": first_line, "baseline": "middle", "lineBreak": "\n"}
    style |= {"fontSize": 12, "fontWeight": "bold", "lineHeight": LINE}
    layers = [rows.mark_text(**style, stroke="white", strokeWidth=5, strokeJoin="round"), rows.mark_text(**style, color=colour)]
    return [layer.encode(**place, text="text:N") for layer in layers]


def _drawn(frontier: Frontier) -> list[Pixel]:
    """The pixels that labels should keep clear of: points, bars, the line and the tolerance."""
    points, tolerance = frontier.points, frontier.tolerance()
    pixels = [_pixel(frontier, x, y) for x, y in zip(points["max_leverage"], points["shown"], strict=True)]
    line = points[(points["label"] == "frontier") & (points["kind"] == CERTIFIED)]
    pixels += along([_pixel(frontier, x, y) for x, y in zip(line["max_leverage"], line["shown"], strict=True)])
    for x, low, high in zip(points["max_leverage"], points["bar_low"], points["high"], strict=True):
        pixels += along([_pixel(frontier, x, low), _pixel(frontier, x, high)])
    if tolerance is not None:
        pixels += along([_pixel(frontier, x, tolerance) for x in frontier.leverage])
    return pixels


def _pixel(frontier: Frontier, leverage: float, probability: float) -> Pixel:
    (left, right), (bottom, top) = frontier.leverage, frontier.probability
    height = math.log(probability / bottom) / math.log(top / bottom)
    return WIDTH * (leverage - left) / (right - left), FRONTIER_HEIGHT * (1 - height)


# ------------------------------------------------------------------------------------------------ the other figures


def metrics_chart(metrics: Mapping[str, Any], name: str) -> alt.LayerChart:
    """What do losses and costs look like today, and under the recommended parameters? `metrics` is `metrics.json`."""
    rows = pd.DataFrame(_loss_rows(metrics))
    domain = _log_domain(rows["shown"], rows["low"], rows["high"])
    rows["bar_low"], rows["shown"] = rows["low"].clip(lower=domain[0]), rows["shown"].clip(lower=domain[0])
    order = list(dict.fromkeys(rows["metric"]))
    roles = [role for role in ROLES if role in metrics]
    axis = alt.Axis(values=_log_ticks(domain), labelExpr=PERCENT_LABELS, title="Share of open interest (logarithmic axis)")
    scale = alt.Scale(type="log", domain=domain, nice=False)
    colours = alt.Scale(domain=roles, range=[ROLES[role][0] for role in roles])
    shapes = alt.Scale(domain=roles, range=[ROLES[role][1] for role in roles])
    key = alt.Legend(title=None, orient="top", symbolSize=110)
    base = alt.Chart(rows).encode(
        y=alt.Y("metric:N", sort=order, title=None, axis=alt.Axis(labelLimit=300, grid=True, tickBand="extent", ticks=False)),
        yOffset=alt.YOffset("role:N", sort=roles, scale=alt.Scale(paddingOuter=0.6)),
        tooltip=[alt.Tooltip(f"{field}:N", title=field.capitalize()) for field in ("metric", "role", "value", "interval")],
    )
    x, colour = alt.X("shown:Q", scale=scale, axis=axis), alt.Color("role:N", scale=colours, legend=key)
    seen, limit, never = (base.transform_filter(f"datum.drawn === '{drawn}'") for drawn in ("value", "limit", "zero"))
    layers = [
        seen.mark_rule(strokeWidth=1.6).encode(x=alt.X("bar_low:Q", scale=scale, axis=axis), x2="high:Q", color=colour),
        seen.mark_point(size=60, filled=True, opacity=1).encode(x=x, color=colour, shape=alt.Shape("role:N", scale=shapes, legend=key)),
        limit.mark_point(size=60, shape="triangle-left", fill="white", strokeWidth=1.8, opacity=1).encode(x=x, color=colour),
        never.mark_text(text="0", align="left", dx=5, fontSize=12, fontWeight="bold").encode(x=x, color=colour),
    ]
    subtitle = ["Bars are 95 % intervals. An open triangle: never seen on the simulated paths; drawn at its upper limit."]
    chart = alt.layer(*layers).properties(width=WIDTH - 250, height=ROW_HEIGHT * len(order))
    return _styled(chart, f"{name}: losses and costs", subtitle)


def _loss_rows(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for role in ROLES:
        found = metrics.get(role, {}).get("metrics", {})
        for key in sorted((key for key in found if _loss_order(key) is not None), key=_loss_order):
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


def _loss_order(key: str) -> int | None:
    """The place of a metric in the figure; tails stand under any level of the tail."""
    stem = key.rstrip("0123456789").rstrip("_")
    return LOSSES.index(stem) if stem in LOSSES else None


def sensitivity_chart(
    sensitivities: Sequence[Mapping[str, Any]], name: str, *, of: str = "insolvency_probability"
) -> alt.LayerChart:
    """Which assumption drives the answer? Elasticities of one metric, largest first, with their 95 % intervals."""
    rows = pd.DataFrame(_elasticity_rows(sensitivities, of))
    order = list(rows["parameter"])
    present = [kind for kind in INFLUENCES.values() if kind[1] in set(rows["kind"])]
    colours = alt.Scale(domain=[label for _, label in present], range=[colour for colour, _ in present])
    ends = [0.0, *rows["low"], *rows["high"]]
    x_scale = alt.Scale(domain=_padded(ends, 0.09), nice=False)
    metric = wording.metric_name(of)
    axis = alt.Axis(title=f"Change of the {metric[0].lower()}{metric[1:]} in per cent, for +1 %", tickCount=8)
    base = alt.Chart(rows).encode(
        y=alt.Y("parameter:N", sort=order, title=None, axis=alt.Axis(labelLimit=300, ticks=False)),
        tooltip=[alt.Tooltip(f"{field}:N", title=field.capitalize()) for field in ("parameter", "elasticity", "kind", "method")],
    )
    legend = alt.Legend(title=None, orient="top", symbolSize=110)
    bars = base.mark_bar(height={"band": 0.6}, opacity=1).encode(
        x=alt.X("value:Q", scale=x_scale, axis=axis), color=alt.Color("kind:N", scale=colours, legend=legend)
    )
    errors = base.mark_rule(color=INK, strokeWidth=1.6).encode(x=alt.X("low:Q", scale=x_scale, axis=axis), x2="high:Q")
    text = {"baseline": "middle", "color": INK, "fontSize": 11.5}
    layers = [bars, errors]
    for rising, end, align, dx in ((True, "high", "left", 6), (False, "low", "right", -6)):
        side = base.transform_filter("datum.value >= 0" if rising else "datum.value < 0")
        layers.append(side.mark_text(align=align, dx=dx, **text).encode(x=alt.X(f"{end}:Q", scale=x_scale, axis=axis), text="short:N"))
    zero = alt.Chart(pd.DataFrame({"zero": [0.0]})).mark_rule(color=MUTED).encode(x=alt.X("zero:Q", scale=x_scale, axis=axis))
    subtitle = [
        f"+1 % in the parameter changes the {metric[0].lower()}{metric[1:]} by this many per cent.",
        "Bars to the left: raising it makes the venue safer. Black lines are 95 % intervals.",
    ]
    chart = alt.layer(*layers, zero).properties(width=WIDTH - 200, height=ROW_HEIGHT * len(order))
    return _styled(chart, f"{name}: what the answer depends on", subtitle)


def _elasticity_rows(sensitivities: Sequence[Mapping[str, Any]], of: str) -> list[dict[str, Any]]:
    chosen = [entry for entry in sensitivities if entry["of"] == of and math.isfinite(entry["elasticity"])]
    rows = []
    for entry in sorted(chosen, key=lambda entry: -abs(entry["elasticity"])):
        value = entry["elasticity"]
        error = entry["standard_error"] if math.isfinite(entry["standard_error"]) else 0.0
        rows.append(
            {
                "parameter": wording.parameter_name(entry["parameter"]),
                "kind": INFLUENCES.get(entry["kind"], INFLUENCES["assumption"])[1],
                "method": entry["method"],
                "value": value,
                "elasticity": wording.number(value, error),
                "short": wording.signed(value),
                "low": value - 1.96 * error,
                "high": value + 1.96 * error,
            }
        )
    return rows


# ------------------------------------------------------------------------------------------------ axes and style


def _parameter_title(key: str) -> str:
    unit = wording.parameter_unit(key)
    return f"{wording.parameter_name(key)} ({unit})" if unit else wording.parameter_name(key)


def _panel(layers: Sequence[alt.Chart], title: str, height: float) -> alt.LayerChart:
    heading = alt.TitleParams(title, anchor="start", frame="bounds", fontSize=12.5, fontWeight="bold", color=INK, offset=8)
    return alt.layer(*layers).properties(width=WIDTH, height=height, title=heading)


def _log_domain(shown: Iterable[float], low: Iterable[float], high: Iterable[float]) -> tuple[float, float]:
    """Ends of a logarithmic axis: all points and upper ends, lower ends as far as they do not stretch it."""
    points = [value for value in shown if value > 0 and math.isfinite(value)]
    tops = points + [value for value in high if value > 0 and math.isfinite(value)]
    if not tops:
        return 1e-6, 1e-2
    floor = min(points or tops) / 8
    bottom = min([*(points or tops), *(max(value, floor) for value in low if value > 0)])
    ratio = max(1.3, math.sqrt(10 * bottom / max(tops)))  # one decade at least
    return bottom / ratio, max(tops) * ratio


def _log_ticks(domain: tuple[float, float]) -> list[float]:
    """Decades, with 2 and 5 between them when there are few."""
    low, high = domain
    steps = (1, 2, 5) if math.log10(high / low) <= 2.5 else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [float(f"{step}e{decade}") for decade in decades for step in steps if low <= float(f"{step}e{decade}") <= high]


def _padded(values: Iterable[float], share: float) -> tuple[float, float]:
    """The range of the values with a margin on both sides; never empty."""
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    margin = share * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def _styled(chart: C, title: str, subtitle: list[str]) -> C:
    heading = alt.TitleParams(
        title, subtitle=subtitle, anchor="start", frame="bounds", fontSize=17, limit=WIDTH + 75, subtitleFontSize=12.5,
        color=INK, subtitleColor=MUTED, subtitlePadding=5, subtitleLineHeight=17, offset=16,
    )  # fmt: skip
    text = {"labelFontSize": 12, "titleFontSize": 12.5, "labelColor": INK, "titleColor": INK, "titleFontWeight": "normal"}
    return (
        chart.properties(title=heading, background="white", padding=14, description=title)
        .configure(font=FONT)
        .configure_axis(**text, gridColor=GRID, domainColor="#9aa5b1", tickColor="#9aa5b1", titlePadding=10, labelPadding=5)
        .configure_legend(labelFontSize=12, labelColor=INK, labelLimit=320, columnPadding=22, padding=0, offset=12)
        .configure_view(stroke=None)
    )


# ------------------------------------------------------------------------------------------------ files


def save(chart: Chart, stem: Path, formats: Sequence[str] = ("html", "svg", "png")) -> list[Path]:
    """Write `stem.html`, `stem.svg`, `stem.png`; each appears whole or not at all."""
    makers = {"html": lambda: page(chart, stem.name).encode(), "svg": lambda: svg(chart).encode(), "png": lambda: png(chart)}
    unknown = [form for form in formats if form not in makers]
    if unknown:
        raise ValueError(f"figures are written as {', '.join(makers)}, not as {', '.join(unknown)}")
    return [write_whole(stem.with_name(f"{stem.name}.{form}"), makers[form]()) for form in formats]


def svg(chart: Chart) -> str:
    return vl_convert.vegalite_to_svg(chart.to_dict(), vl_version=_vega_lite())


def png(chart: Chart) -> bytes:
    return vl_convert.vegalite_to_png(chart.to_dict(), vl_version=_vega_lite(), scale=2)


def page(chart: Chart, title: str) -> str:
    """A page that shows the interactive chart and loads nothing."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_POLICY}">\n'
        f'<title>{escape(title)}</title>\n</head>\n<body>\n<div id="chart"></div>\n'
        f"<script>{javascript()}</script>\n<script>{embedding(chart, 'chart')}</script>\n</body>\n</html>\n"
    )


@cache
def javascript() -> str:
    """The libraries that draw an interactive chart in a browser."""
    return vl_convert.javascript_bundle(vl_version=_vega_lite())


def embedding(chart: Chart, element: str) -> str:
    """The script that draws the chart into an element of the page, once `javascript()` has been loaded."""
    # No text of ours may close the script element that it stands in.
    specification = json.dumps(chart.to_dict()).replace("<", "\\u003c")
    options = {"renderer": "svg", "actions": {"export": True, "source": False, "compiled": False, "editor": False}}
    return f"vegaEmbed({json.dumps('#' + element)}, {specification}, {json.dumps(options)});"


def write_whole(path: Path, content: bytes) -> Path:
    """Write beside the target and move into place, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)  # mkstemp makes it private
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path


def _vega_lite() -> str:
    """The version of Vega-Lite that Altair writes, as `6.4`."""
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
