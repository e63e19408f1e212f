"""The picture that a venue decides by: how likely is insolvency at each level of leverage, and what buys each point.

The upper panel shows the probability with its interval on a logarithmic axis, the lower panels the parameters that
change along the frontier, all over the same leverage; a job may ask for other axes (`frontier_axes.py`). A point at which no
simulated path failed stands at its upper limit as an open triangle, because a logarithmic axis has no zero; points whose
certificate was refused are hollow, and points that another one beats are grey, off the line. Policies with a name carry it,
placed where there is room.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import altair as alt
import pandas as pd

from calibrate import wording
from calibrate.drawing import (
    AXIS,
    BLUE,
    INK,
    MUTED,
    OTHERS,
    PERCENT_LABELS,
    ROLES,
    WIDTH,
    layered,
    log_domain,
    log_ticks,
    padded,
    styled,
)
from calibrate.frontier_axes import HORIZONTAL, VERTICAL, Horizontal, Vertical, shortfall_columns, subject
from calibrate.placement import LINE, Pixel, Placer, Spot, along

HEIGHT, PARAMETER_HEIGHT = 370.0, 78.0
CERTIFIED, UNCERTIFIED, BEATEN = "certified", "not certified", "beaten by another point"
MARKER = ((0, 0), (-6, 0), (6, 0), (0, -6), (0, 6))  # how far a point reaches from its centre
MEASURED = ("insolvency_probability", "max_leverage", "margin_per_oi", "user_cost", "bad_debt")
BOOKKEEPING = ("label", "tolerance", "standard_error", "low", "high", "certified", "dominated", "paths")


class Frontier(NamedTuple):
    """The frontier prepared for drawing: `points` say how each looks, where it stands and what its tooltip shows."""

    points: pd.DataFrame
    parameters: list[str]
    tips: list[str]
    x: Horizontal
    y: Vertical
    risk: str
    across: tuple[float, float]
    upright: tuple[float, float]
    tolerance: float | None

    def extent(self) -> float:
        """Room for the numbers of the vertical axes, the same in all panels so that their headings line up."""
        return 16 + 6.8 * max(len(wording.percent(tick)) for tick in [1e-3, *log_ticks(self.upright)])

    def kinds(self) -> dict[str, tuple[str, str, str]]:
        """Outline, filling and shape of the points of the sweep."""
        return {
            CERTIFIED: (BLUE, BLUE, "circle"),
            UNCERTIFIED: (BLUE, "white", "circle"),
            BEATEN: (AXIS, AXIS, "circle"),
            self.y.unseen: (BLUE, "white", "triangle-down"),
        }


class Axes(NamedTuple):
    """The axes that the layers of one panel share."""

    x: alt.X
    scale: alt.Scale
    axis: alt.Axis

    def at(self, field: str) -> dict[str, Any]:
        return {"x": self.x, "y": alt.Y(f"{field}:Q", scale=self.scale, axis=self.axis)}


def frontier_chart(
    frontier: pd.DataFrame,
    name: str,
    horizon_days: float,
    *,
    x: str = "max_leverage",
    y: str = "insolvency_probability",
    free: Sequence[str] | None = None,
) -> alt.VConcatChart:
    """How likely is insolvency at each level of leverage, and which parameters buy it?

    `frontier` has one row per point of the trade-off (`label` is "frontier"), one for the incumbent, one for what a run
    proposes ("recommended", or "best found" where the certificate was refused), and one for each alternative under its name.
    `x` and `y` choose other axes. `free` names the parameters to draw; by default those that vary along the frontier.
    """
    prepared, horizon = prepare(frontier, x, y), wording.horizon(horizon_days)
    drawn = [key for key in prepared.parameters if (_varies(frontier, key) if free is None else key in free)]
    hover = alt.selection_point(name="hover", fields=["point"], on="pointerover", clear="pointerout", empty=False)
    panels = [_trade_off(prepared, horizon, hover, last=not drawn)]
    panels += [_along_the_frontier(prepared, key, horizon, hover, last=key == drawn[-1]) for key in drawn]
    subtitle = [
        f"{prepared.y.told.format(horizon=horizon)}, by {prepared.x.told}.",
        f"Lower and {prepared.x.better} is better. Bars are 95 % intervals, on paths that the search did not use.",
    ]
    if (x, y) != ("max_leverage", "insolvency_probability"):
        subtitle.append(
            "The sweep was made for insolvency against leverage; here its points are seen from another side."
        )
    # The rows belong to the whole; layers that carried their own copies would make drawing slow.
    chart = alt.VConcatChart(vconcat=panels, data=prepared.points, spacing=18)
    return styled(chart, f"{name}: {subject(x, y)}", subtitle)


def prepare(frontier: pd.DataFrame, x: str = "max_leverage", y: str = "insolvency_probability") -> Frontier:
    """Decide how every point is drawn, before anything is."""
    across, upright = HORIZONTAL[x], VERTICAL[y]
    points = frontier.sort_values("max_leverage", kind="stable").reset_index(drop=True)
    parameters = _parameters(points)
    tips = [_tooltip(row, parameters) for _, row in points.iterrows()]
    value, low, high = upright.columns(points.columns)
    points["point"], points["role"] = range(len(points)), points["label"].isin(list(ROLES))
    points["seen"] = points[value] > 0
    points["shown"] = points[value].where(points["seen"], points[high])
    points["bar_low"], points["bar_high"] = points[low], points[high]
    error = 0.0 if across.error is None else 1.96 * points[across.error].fillna(0.0)
    points["bar_left"], points["bar_right"] = points[across.column] - error, points[across.column] + error
    points = points.join(_looks(points, upright))
    asked = points.loc[points["label"] != "frontier", "tolerance"].dropna()
    tolerances = list(points["tolerance"].dropna()) if y == "insolvency_probability" else []
    domain = log_domain(points["shown"], points["bar_low"], [*points["bar_high"], *tolerances])
    for key in ("bar_low", "shown"):
        points[key] = points[key].clip(lower=domain[0])
    points = points.join(pd.DataFrame([list(tip.values()) for tip in tips]).add_prefix("tip"))
    return Frontier(
        points,
        parameters,
        list(tips[0]),
        across,
        upright,
        wording.metric_name(value),
        padded([*points["bar_left"], *points["bar_right"]], 0.06),
        domain,
        float(asked.iloc[0]) if len(asked) and tolerances else None,
    )


def _looks(points: pd.DataFrame, upright: Vertical) -> pd.DataFrame:
    """What kind of point each row is, with its colour, shape and inside."""
    seen, certified, beaten = points["seen"], points["certified"].map(is_true), points["dominated"].map(is_true)
    of_sweep = points["label"] == "frontier"
    kind = certified.map({True: CERTIFIED, False: UNCERTIFIED}).mask(beaten, BEATEN).where(seen, upright.unseen)
    named = looks_of_named(points["label"])
    colours, shapes = zip(*(named.get(label, (BLUE, "circle")) for label in points["label"]), strict=True)
    looks = pd.DataFrame({"kind": kind, "colour": colours, "shape": shapes})
    looks["colour"] = looks["colour"].mask(of_sweep & (kind == BEATEN), AXIS)
    looks["shape"] = looks["shape"].where(seen, "triangle-down")
    # What no tolerance was asked of, such as the incumbent, was not refused a certificate either.
    solid = seen & (certified | points["tolerance"].isna() | (of_sweep & (kind == BEATEN)))
    return looks.assign(inside=looks["colour"].where(solid, "white"))


def looks_of_named(labels: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Colour and shape of everything that is not of the sweep."""
    others = sorted({label for label in labels if label not in ROLES and label != "frontier"})
    return {label: OTHERS[i % len(OTHERS)] for i, label in enumerate(others)} | ROLES


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
    verdict += f", {BEATEN}" if is_true(row["dominated"]) else ""
    texts = {
        "Point": f"{row['label']}{verdict}",
        "Tolerance": wording.percent(row["tolerance"]),
        "Insolvency probability": probability if seen else "none seen",
        "95 % interval": f"{wording.percent(row['low'])} to {wording.percent(row['high'])}",
        "Highest leverage": wording.leverage(row["max_leverage"]),
        "Initial margin": wording.percent(row["margin_per_oi"], row["margin_per_oi_standard_error"]),
        "Cost to liquidated users": wording.percent(row["user_cost"], row["user_cost_standard_error"]),
    }
    shortfall, *_ = shortfall_columns(row.index)
    texts[wording.metric_name(shortfall)] = wording.percent(row[shortfall], row[f"{shortfall}_standard_error"])
    texts["Simulated paths"] = wording.count(row["paths"])
    return texts | {_parameter_title(key): wording.setting(row[key]) for key in parameters}


def _trade_off(frontier: Frontier, horizon: str, hover: alt.Parameter, *, last: bool) -> alt.LayerChart:
    """The upper panel: the risk on a logarithmic axis, the named points labelled where there is room."""
    axis = alt.Axis(
        values=log_ticks(frontier.upright), labelExpr=PERCENT_LABELS, title=None, minExtent=frontier.extent()
    )
    scale = alt.Scale(type="log", domain=frontier.upright, nice=False)
    axes = Axes(shared_axis(frontier, horizon, first=True, last=last), scale, axis)
    layers = [
        *tolerance_rule(frontier, axes),
        swept_line(f"datum.kind === '{CERTIFIED}'").encode(**axes.at("shown")),
        *bars(frontier, axes),
        _marks(frontier, legend=True).encode(**axes.at("shown")),
        *(named.encode(**axes.at("shown")) for named in named_marks()),
        *_labels(frontier, axes),
        *_hover(frontier, axes, "shown", hover),
    ]
    return _panel(layers, frontier.y.title.format(risk=frontier.risk, horizon=horizon), HEIGHT)


def bars(frontier: Frontier, axes: Axes) -> list[alt.Chart]:
    """Intervals upright, and along the other axis too where they are wide enough to be seen."""
    colour = alt.Color("colour:N", scale=None)
    bars = [only("datum.seen").mark_rule(strokeWidth=1.6).encode(**axes.at("bar_low"), y2="bar_high:Q", color=colour)]
    if frontier.x.error is not None:
        left = alt.X("bar_left:Q", scale=axes.x["scale"], axis=axes.x["axis"])
        place = axes.at("shown") | {"x": left, "x2": "bar_right:Q"}
        bars.append(alt.Chart().mark_rule(strokeWidth=1.6).encode(**place, color=colour))
    return bars


def _along_the_frontier(
    frontier: Frontier, key: str, horizon: str, hover: alt.Parameter, *, last: bool
) -> alt.LayerChart:
    """One lower panel: the value of one parameter at every point of the frontier."""
    scale = alt.Scale(domain=padded(frontier.points[key], 0.15), nice=False, zero=False)
    axis = alt.Axis(tickCount=3, title=None, minExtent=frontier.extent())
    axes = Axes(shared_axis(frontier, horizon, last=last), scale, axis)
    layers = [
        swept_line(f"datum.kind !== '{UNCERTIFIED}' && datum.kind !== '{BEATEN}'").encode(**axes.at(key)),
        _marks(frontier, legend=False).encode(**axes.at(key)),
        *(named.encode(**axes.at(key)) for named in named_marks()),
        *_hover(frontier, axes, key, hover),
    ]
    return _panel(layers, _parameter_title(key), PARAMETER_HEIGHT)


def shared_axis(frontier: Frontier, horizon: str, *, first: bool = False, last: bool) -> alt.X:
    """The shared axis of all panels: numbers under the first and the last, its name under the last."""
    title = frontier.x.title.format(horizon=horizon) if last else None
    axis = alt.Axis(title=title, labelExpr=frontier.x.labels, labels=last or first, tickCount=8)
    return alt.X(f"{frontier.x.column}:Q", scale=alt.Scale(domain=frontier.across, nice=False, zero=False), axis=axis)


def swept_line(condition: str) -> alt.Chart:
    line = only(f"datum.label === 'frontier' && {condition}")
    return line.mark_line(color=BLUE, strokeWidth=2, opacity=0.5).encode(order="max_leverage:Q")


def _marks(frontier: Frontier, *, legend: bool) -> alt.Chart:
    """The points of the frontier; their legend stands once, above the upper panel."""
    marks = only("datum.label === 'frontier'").mark_point(size=48, strokeWidth=1.7, opacity=1)
    if not legend:
        return marks.encode(
            stroke=alt.Stroke("colour:N", scale=None),
            fill=alt.Fill("inside:N", scale=None),
            shape=alt.Shape("shape:N", scale=None),
        )
    present = set(frontier.points.loc[frontier.points["label"] == "frontier", "kind"])
    kinds = {kind: looks for kind, looks in frontier.kinds().items() if kind in present}
    key = alt.Legend(title=None, orient="top", symbolSize=70) if kinds else None
    outlines, fills, shapes = (
        alt.Scale(domain=list(kinds), range=[looks[part] for looks in kinds.values()]) for part in range(3)
    )
    return marks.encode(
        stroke=alt.Stroke("kind:N", scale=outlines, legend=key),
        fill=alt.Fill("kind:N", scale=fills, legend=key),
        shape=alt.Shape("kind:N", scale=shapes, legend=key),
    )


def named_marks() -> list[alt.Chart]:
    """Alternatives share many values with the incumbent: it is drawn over them, and they show around it."""
    looks = {
        "stroke": alt.Stroke("colour:N", scale=None),
        "fill": alt.Fill("inside:N", scale=None),
        "shape": alt.Shape("shape:N", scale=None),
    }
    sizes = {"datum.label !== 'frontier' && !datum.role": 190, "datum.role": 110}
    return [
        only(whose).mark_point(size=size, strokeWidth=2, opacity=1).encode(**looks) for whose, size in sizes.items()
    ]


def only(condition: str) -> alt.Chart:
    return alt.Chart().transform_filter(condition)


def tolerance_rule(frontier: Frontier, axes: Axes) -> list[alt.Chart]:
    tolerance = frontier.tolerance
    if tolerance is None:
        return []
    rule = alt.Chart(pd.DataFrame({"tolerance": [tolerance]})).mark_rule(
        color=MUTED, strokeDash=[5, 4], strokeWidth=1.2
    )
    return [rule.encode(y=axes.at("tolerance")["y"])]


def targets(frontier: Frontier, axes: Axes, field: str) -> alt.Chart:
    """A wide invisible target on every point, which tells all about it."""
    tips = [alt.Tooltip(f"tip{i}:N", title=title) for i, title in enumerate(frontier.tips)]
    return alt.Chart().mark_point(size=420, opacity=0, filled=True).encode(**axes.at(field), tooltip=tips)


def _hover(frontier: Frontier, axes: Axes, field: str, hover: alt.Parameter) -> list[alt.Chart]:
    """Pointing at a point in the upper panel marks its leverage in all of them."""
    target = targets(frontier, axes, field)
    rule = alt.Chart().transform_filter(hover).mark_rule(color=INK, opacity=0.35, strokeWidth=1.2).encode(x=axes.x)
    return [rule, target.add_params(hover) if field == "shown" else target]


def _labels(frontier: Frontier, axes: Axes) -> list[alt.Chart]:
    """The names of policies and the tolerance, each on a white halo."""
    placer = Placer(WIDTH, HEIGHT, _drawn(frontier))
    layers: list[alt.Chart] = []
    tolerance = frontier.tolerance
    across = frontier.x.column
    named = frontier.points[frontier.points["label"] != "frontier"]
    # What the run is about is placed first, where there is most room.
    for _, row in named.sort_values("role", ascending=False, kind="stable").iterrows():
        risk = ("{}" if row["seen"] else frontier.y.unseen_text).format(wording.percent(row["shown"]))
        lines = [wording.role(str(row["label"])), f"{frontier.x.text(row[across])}, {risk}"]
        spot = placer.place(_pixel(frontier, row[across], row["shown"]), lines)
        layers += _halo(axes.at("shown"), {k: row[k] for k in (across, "shown")}, lines, spot, row["colour"])
    if tolerance is not None:
        lines = [f"tolerance {wording.percent(tolerance)}"]
        spots = [Spot(dx, dy, align) for dy in (-10.0, 11.0) for dx, align in ((6.0, "left"), (WIDTH - 6.0, "right"))]
        spot = placer.place((0.0, _pixel(frontier, frontier.across[0], tolerance)[1]), lines, spots)
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
    points, across, tolerance = frontier.points, frontier.x.column, frontier.tolerance
    centres = [_pixel(frontier, x, y) for x, y in zip(points[across], points["shown"], strict=True)]
    pixels = [(x + dx, y + dy) for x, y in centres for dx, dy in MARKER]
    line = points[(points["label"] == "frontier") & (points["kind"] == CERTIFIED)]
    pixels += along([_pixel(frontier, x, y) for x, y in zip(line[across], line["shown"], strict=True)])
    for _, row in points.iterrows():
        x, y = row[across], row["shown"]
        pixels += along(
            [_pixel(frontier, x, row["bar_low"]), _pixel(frontier, x, max(row["bar_low"], row["bar_high"]))]
        )
        pixels += along([_pixel(frontier, row["bar_left"], y), _pixel(frontier, row["bar_right"], y)])
    if tolerance is not None:
        pixels += along([_pixel(frontier, x, tolerance) for x in frontier.across])
    return pixels


def _pixel(frontier: Frontier, x: float, y: float) -> Pixel:
    (left, right), (bottom, top) = frontier.across, frontier.upright
    height = math.log(y / bottom) / math.log(top / bottom)
    return WIDTH * (x - left) / (right - left), HEIGHT * (1 - height)


def _parameter_title(key: str) -> str:
    unit = wording.parameter_unit(key)
    return f"{wording.parameter_name(key)} ({unit})" if unit else wording.parameter_name(key)


def _panel(layers: Sequence[alt.Chart], title: str, height: float) -> alt.LayerChart:
    heading = alt.TitleParams(
        title, anchor="start", frame="bounds", fontSize=12.5, fontWeight="bold", color=INK, offset=8
    )
    return layered(layers, WIDTH, height).properties(title=heading)
