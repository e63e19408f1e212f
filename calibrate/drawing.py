"""What all figures share: colours, logarithmic axes in per cent, type, and how a chart becomes files.

A chart is one Altair specification; the interactive page, the SVG and the PNG are all made of it, and none of them
loads anything from anywhere. Colours are told apart by colour-blind readers, and shapes repeat what they say.
"""

import json
import math
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, TypeVar

import altair as alt
import vl_convert

from calibrate.run_folder import write_bytes

Drawable = alt.LayerChart | alt.VConcatChart | dict[str, Any]
C = TypeVar("C", alt.LayerChart, alt.VConcatChart)

WIDTH = 665.0  # of the plotting area; about 760 with the axis
BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#007F5F", "#E69F00"
PURPLE, BROWN = "#8A3B7C", "#6E5200"
INK, MUTED, GRID, AXIS = "#1f2933", "#5b6673", "#e6e9ee", "#9aa5b1"
FONT = "Arial, Helvetica, Liberation Sans, sans-serif"
ROLES = {  # colour and shape; what was found but not certified is not called a recommendation
    "incumbent": (VERMILLION, "diamond"),
    "recommended": (GREEN, "square"),
    "best found": (GREEN, "square"),
}
OTHERS = [  # of the policies that a job names
    (colour, shape)
    for colour in (PURPLE, BROWN)
    for shape in ("triangle-up", "cross", "triangle-right", "triangle-left")
]
PERCENT_LABELS = "format(100 * datum.value, '.2~r') + ' %'"
# The browser itself is told to load nothing from anywhere.
CONTENT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'; img-src data:"
)


def layered(layers: Sequence[alt.Chart], width: float, height: float) -> alt.LayerChart:
    return alt.LayerChart(layer=list(layers)).properties(width=width, height=height)


def log_domain(shown: Iterable[float], low: Iterable[float], high: Iterable[float]) -> tuple[float, float]:
    """Ends of a logarithmic axis: all points and upper ends, lower ends as far as they do not stretch it."""
    points = [value for value in shown if value > 0 and math.isfinite(value)]
    tops = points + [value for value in high if value > 0 and math.isfinite(value)]
    if not tops:
        return 1e-6, 1e-2
    floor = min(points or tops) / 8
    bottom = min([*(points or tops), *(max(value, floor) for value in low if value > 0)])
    ratio = max(1.3, math.sqrt(10 * bottom / max(tops)))  # one decade at least
    return bottom / ratio, max(tops) * ratio


def log_ticks(domain: tuple[float, float]) -> list[float]:
    """Decades, with 2 and 5 between them when there are few."""
    low, high = domain
    steps = (1, 2, 5) if math.log10(high / low) <= 2.5 else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [
        float(f"{step}e{decade}") for decade in decades for step in steps if low <= float(f"{step}e{decade}") <= high
    ]


def clock(field: str, title: str, form: str, *, ticks: int, last: bool) -> alt.X:
    """The time axis in UTC of panels that stand one above the other, of which only the last says what it shows."""
    axis = alt.Axis(
        title=title if last else None,
        labels=last,
        ticks=last,
        format=form,
        tickCount=ticks,
        grid=True,
        labelOverlap=True,
        labelSeparation=12,
    )
    return alt.X(f"{field}:T", axis=axis, scale=alt.Scale(type="utc"))


def padded(values: Iterable[float], share: float) -> tuple[float, float]:
    """The range of the values with a margin on both sides; never empty."""
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    margin = share * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def styled(chart: C, title: str, subtitle: list[str]) -> C:
    heading = alt.TitleParams(
        title, subtitle=subtitle, anchor="start", frame="bounds", fontSize=17, limit=WIDTH + 75, subtitleFontSize=12.5,
        color=INK, subtitleColor=MUTED, subtitlePadding=5, subtitleLineHeight=17, offset=16,
    )  # fmt: skip
    text = {
        "labelFontSize": 12,
        "titleFontSize": 12.5,
        "labelColor": INK,
        "titleColor": INK,
        "titleFontWeight": "normal",
    }
    return (
        chart.properties(title=heading, background="white", padding=14, description=title)
        .configure(font=FONT)
        .configure_axis(**text, gridColor=GRID, domainColor=AXIS, tickColor=AXIS, titlePadding=10, labelPadding=5)
        .configure_legend(labelFontSize=12, labelColor=INK, labelLimit=320, columnPadding=30, padding=0, offset=12)
        .configure_view(stroke=None)
    )


def save(chart: Drawable, stem: Path, formats: Sequence[str] = ("html", "svg", "png")) -> list[Path]:
    """Write `stem.html`, `stem.svg`, `stem.png`; each appears whole or not at all."""
    made_of = specification(chart)
    makers = {
        "html": lambda: page(made_of, stem.name).encode(),
        "svg": lambda: svg(made_of).encode(),
        "png": lambda: png(made_of),
    }
    unknown = [form for form in formats if form not in makers]
    if unknown:
        raise ValueError(f"figures are written as {', '.join(makers)}, not as {', '.join(unknown)}")
    return [write_bytes(stem.with_name(f"{stem.name}.{form}"), makers[form]()) for form in formats]


def specification(chart: Drawable) -> dict[str, Any]:
    """The chart as Vega-Lite, checked against its schema. That takes a while, so whoever needs it often keeps it."""
    return chart if isinstance(chart, dict) else chart.to_dict()


def svg(chart: Drawable) -> str:
    return vl_convert.vegalite_to_svg(specification(chart), vl_version=_vega_lite())


def png(chart: Drawable) -> bytes:
    return vl_convert.vegalite_to_png(specification(chart), vl_version=_vega_lite(), scale=2)


def page(chart: Drawable, title: str) -> str:
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
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=_vega_lite())


def embedding(chart: Drawable, element: str) -> str:
    """The script that draws the chart into an element of the page, once `javascript()` has been loaded."""
    # No text of ours may close the script element that it stands in.
    text = json.dumps(specification(chart)).replace("<", "\\u003c")
    options = {"renderer": "svg", "actions": {"export": True, "source": False, "compiled": False, "editor": False}}
    return f"vegaEmbed({json.dumps('#' + element)}, {text}, {json.dumps(options)});"


def _vega_lite() -> str:
    """The version of Vega-Lite that Altair writes, as `6.4`."""
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
