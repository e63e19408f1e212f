"""The picture that a venue decides by: how likely is insolvency at each level of leverage, and what buys each point.

The upper panel shows the probability with its interval on a logarithmic axis, the lower panels the parameters that
change along the frontier, all over the same leverage. A point at which no simulated path failed stands at its upper
limit as an open triangle, because a logarithmic axis has no zero; points whose certificate was refused are hollow. The
points that matter most carry their names, placed where there is room.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import altair as alt
import pandas as pd

from calibrate import wording
from calibrate.drawing import (
    BLUE,
    INK,
    MUTED,
    PERCENT_LABELS,
    ROLES,
    WIDTH,
    layered,
    log_domain,
    log_ticks,
    padded,
    styled,
)
from calibrate.placement import LINE, Pixel, Placer, Spot, along

HEIGHT, PARAMETER_HEIGHT = 370.0, 78.0
CERTIFIED, UNCERTIFIED, UNSEEN = "certified", "not certified", "no insolvency seen: upper limit"
KINDS = {CERTIFIED: (BLUE, "circle"), UNCERTIFIED: ("white", "circle"), UNSEEN: ("white", "triangle-down")}
MEASURED = ("insolvency_probability", "max_leverage", "margin_per_oi", "user_cost", "bad_debt")
BOOKKEEPING = ("label", "tolerance", "standard_error", "low", "high", "certified", "paths")


class Frontier(NamedTuple):
    """The frontier prepared for drawing: `points` say how each looks, where it stands and what its tooltip shows."""

    points: pd.DataFrame
    parameters: list[str]
    tips: list[str]
    leverage: tuple[float, float]
    probability: tuple[float, float]

    def extent(self) -> float:
        """Room for the numbers of the vertical axes, the same in all panels so that their headings line up."""
        return 16 + 6.8 * max(len(wording.percent(tick)) for tick in [1e-3, *log_ticks(self.probability)])

    def tolerance(self) -> float | None:
        """What was asked of the point that the run is about, if there is one."""
        asked = self.points.loc[self.points["label"] != "frontier", "tolerance"].dropna()
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

    `frontier` has one row per point of the trade-off (`label` is "frontier"), one for the incumbent and one for what
    a run proposes ("recommended", or "best found" where the certificate was refused). `free` names the parameters to
    draw; by default those that vary along the frontier.
    """
    prepared = prepare(frontier)
    drawn = [key for key in prepared.parameters if (_varies(frontier, key) if free is None else key in free)]
    hover = alt.selection_point(name="hover", fields=["point"], on="pointerover", clear="pointerout", empty=False)
    panels = [_trade_off(prepared, horizon_days, hover, last=not drawn)]
    panels += [_along_the_frontier(prepared, key, hover, last=key == drawn[-1]) for key in drawn]
    subtitle = [
        f"Chance that losses exceed the insurance fund within {wording.horizon(horizon_days)}, by leverage offered.",
        "Lower and further right is better. Bars are 95 % intervals, on paths that the search did not use.",
    ]
    # The rows belong to the whole; layers that carried their own copies would make drawing slow.
    chart = alt.VConcatChart(vconcat=panels, data=prepared.points, spacing=18)
    return styled(chart, f"{name}: insolvency against leverage", subtitle)


def prepare(frontier: pd.DataFrame) -> Frontier:
    """Decide how every point is drawn, before anything is."""
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
    # What no tolerance was asked of, such as the incumbent, was not refused a certificate either.
    points["inside"] = points["colour"].where(seen & (certified | points["tolerance"].isna()), "white")
    tolerances = points["tolerance"].dropna()
    domain = log_domain(points["shown"], points["low"], [*points["high"], *tolerances])
    points["bar_low"], points["shown"] = (points[key].clip(lower=domain[0]) for key in ("low", "shown"))
    points = points.join(pd.DataFrame([list(tip.values()) for tip in tips]).add_prefix("tip"))
    return Frontier(points, parameters, list(tips[0]), padded(points["max_leverage"], 0.06), domain)


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
    asked, seen = not pd.isna(row["tolerance"]), row["insolvency_probability"] > 0
    probability = wording.percent(row["insolvency_probability"], row["standard_error"])
    verdict = f", {CERTIFIED if is_true(row['certified']) else UNCERTIFIED}" if asked else ""
    texts = {
        "Point": f"{row['label']}{verdict}",
        "Tolerance": wording.percent(row["tolerance"]),
        "Insolvency probability": probability if seen else "none seen",
        "95 % interval": f"{wording.percent(row['low'])} to {wording.percent(row['high'])}",
        "Highest leverage": wording.leverage(row["max_leverage"]),
        "Initial margin": wording.percent(row["margin_per_oi"], row["margin_per_oi_standard_error"]),
        "Cost to liquidated users": wording.percent(row["user_cost"], row["user_cost_standard_error"]),
    }
    texts |= {
        wording.metric_name(str(key)): wording.percent(row[key]) for key in row.index if str(key).startswith("bad_debt")
    }
    texts["Simulated paths"] = wording.count(row["paths"])
    return texts | {_parameter_title(key): wording.setting(row[key]) for key in parameters}


def _trade_off(frontier: Frontier, horizon_days: float, hover: alt.Parameter, *, last: bool) -> alt.LayerChart:
    """The upper panel: probability on a logarithmic axis, the named points labelled where there is room."""
    axis = alt.Axis(
        values=log_ticks(frontier.probability), labelExpr=PERCENT_LABELS, title=None, minExtent=frontier.extent()
    )
    axes = Axes(
        _leverage(frontier, first=True, last=last), alt.Scale(type="log", domain=frontier.probability, nice=False), axis
    )
    bars = _only("datum.insolvency_probability > 0").mark_rule(strokeWidth=1.6)
    layers = [
        *_tolerance_rule(frontier, axes),
        _line(f"datum.kind === '{CERTIFIED}'").encode(**axes.at("shown")),
        bars.encode(**axes.at("bar_low"), y2="high:Q", color=alt.Color("colour:N", scale=None)),
        _marks(frontier, legend=True).encode(**axes.at("shown")),
        _named_marks().encode(**axes.at("shown")),
        *_labels(frontier, axes),
        *_hover(frontier, axes, "shown", hover),
    ]
    title = f"Insolvency probability within {wording.horizon(horizon_days)} (per cent, logarithmic axis)"
    return _panel(layers, title, HEIGHT)


def _along_the_frontier(frontier: Frontier, key: str, hover: alt.Parameter, *, last: bool) -> alt.LayerChart:
    """One lower panel: the value of one parameter at every point of the frontier."""
    scale = alt.Scale(domain=padded(frontier.points[key], 0.15), nice=False, zero=False)
    axes = Axes(_leverage(frontier, last=last), scale, alt.Axis(tickCount=3, title=None, minExtent=frontier.extent()))
    layers = [
        _line(f"datum.kind !== '{UNCERTIFIED}'").encode(**axes.at(key)),
        _marks(frontier, legend=False).encode(**axes.at(key)),
        _named_marks().encode(**axes.at(key)),
        *_hover(frontier, axes, key, hover),
    ]
    return _panel(layers, _parameter_title(key), PARAMETER_HEIGHT)


def _leverage(frontier: Frontier, *, first: bool = False, last: bool) -> alt.X:
    """The shared axis of all panels: numbers under the first and the last, its name under the last."""
    title = "Highest leverage at the initial margin (position / collateral)" if last else None
    axis = alt.Axis(title=title, labelExpr=f"datum.label + '{wording.TIMES}'", labels=last or first, tickCount=8)
    return alt.X("max_leverage:Q", scale=alt.Scale(domain=frontier.leverage, nice=False, zero=False), axis=axis)


def _line(condition: str) -> alt.Chart:
    line = _only(f"datum.label === 'frontier' && {condition}")
    return line.mark_line(color=BLUE, strokeWidth=2, opacity=0.5).encode(order="max_leverage:Q")


def _marks(frontier: Frontier, *, legend: bool) -> alt.Chart:
    """The points of the frontier; their legend stands once, above the upper panel."""
    marks = _only("datum.label === 'frontier'").mark_point(size=48, strokeWidth=1.7, opacity=1)
    if not legend:
        return marks.encode(
            stroke=alt.value(BLUE), fill=alt.Fill("inside:N", scale=None), shape=alt.Shape("shape:N", scale=None)
        )
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


def _named_marks() -> alt.Chart:
    return (
        _only("datum.label !== 'frontier'")
        .mark_point(size=110, strokeWidth=2, opacity=1)
        .encode(
            stroke=alt.Stroke("colour:N", scale=None),
            fill=alt.Fill("inside:N", scale=None),
            shape=alt.Shape("shape:N", scale=None),
        )
    )


def _only(condition: str) -> alt.Chart:
    return alt.Chart().transform_filter(condition)


def _tolerance_rule(frontier: Frontier, axes: Axes) -> list[alt.Chart]:
    tolerance = frontier.tolerance()
    if tolerance is None:
        return []
    rule = alt.Chart(pd.DataFrame({"tolerance": [tolerance]})).mark_rule(
        color=MUTED, strokeDash=[5, 4], strokeWidth=1.2
    )
    return [rule.encode(y=axes.at("tolerance")["y"])]


def _hover(frontier: Frontier, axes: Axes, field: str, hover: alt.Parameter) -> list[alt.Chart]:
    """A wide invisible target on every point; pointing at one in the upper panel marks its leverage in all of them."""
    target = (
        alt.Chart()
        .mark_point(size=420, opacity=0, filled=True)
        .encode(
            **axes.at(field), tooltip=[alt.Tooltip(f"tip{i}:N", title=title) for i, title in enumerate(frontier.tips)]
        )
    )
    rule = alt.Chart().transform_filter(hover).mark_rule(color=INK, opacity=0.35, strokeWidth=1.2).encode(x=axes.x)
    return [rule, target.add_params(hover) if field == "shown" else target]


def _labels(frontier: Frontier, axes: Axes) -> list[alt.Chart]:
    """The names of the incumbent, the recommendation and the tolerance, each on a white halo."""
    placer = Placer(WIDTH, HEIGHT, _drawn(frontier))
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
    style: dict[str, Any] = {
        "align": spot.align,
        "dx": spot.dx,
        "dy": first_line,
        "baseline": "middle",
        "lineBreak": "\n",
    }
    style |= {"fontSize": 12, "fontWeight": "bold", "lineHeight": LINE}
    layers = [
        rows.mark_text(**style, stroke="white", strokeWidth=5, strokeJoin="round"),
        rows.mark_text(**style, color=colour),
    ]
    return [layer.encode(**place, text="text:N") for layer in layers]


def _drawn(frontier: Frontier) -> list[Pixel]:
    """The pixels that labels should keep clear of: points, bars, the line and the tolerance."""
    points, tolerance = frontier.points, frontier.tolerance()
    pixels = [_pixel(frontier, x, y) for x, y in zip(points["max_leverage"], points["shown"], strict=True)]
    line = points[(points["label"] == "frontier") & (points["kind"] == CERTIFIED)]
    pixels += along([_pixel(frontier, x, y) for x, y in zip(line["max_leverage"], line["shown"], strict=True)])
    for x, low, high in zip(points["max_leverage"], points["bar_low"], points["high"], strict=True):
        pixels += along([_pixel(frontier, x, low), _pixel(frontier, x, max(low, high))])
    if tolerance is not None:
        pixels += along([_pixel(frontier, x, tolerance) for x in frontier.leverage])
    return pixels


def _pixel(frontier: Frontier, leverage: float, probability: float) -> Pixel:
    (left, right), (bottom, top) = frontier.leverage, frontier.probability
    height = math.log(probability / bottom) / math.log(top / bottom)
    return WIDTH * (leverage - left) / (right - left), HEIGHT * (1 - height)


def _parameter_title(key: str) -> str:
    unit = wording.parameter_unit(key)
    return f"{wording.parameter_name(key)} ({unit})" if unit else wording.parameter_name(key)


def _panel(layers: Sequence[alt.Chart], title: str, height: float) -> alt.LayerChart:
    heading = alt.TitleParams(
        title, anchor="start", frame="bounds", fontSize=12.5, fontWeight="bold", color=INK, offset=8
    )
    return layered(layers, WIDTH, height).properties(title=heading)
