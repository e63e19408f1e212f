"""The page that people decide by, rebuilt from a run folder alone.

`build_report` reads what a run left behind, draws the figures and writes one self-contained `report.html`: what is
recommended and why in plain words first, then the evidence, the trade-off, all metrics with their errors, what the
answer depends on, what was assumed and where it all came from. The page loads nothing, prints well, and only the
interactive frontier needs JavaScript. Names and messages from the files may hold anything; they reach the page through
`markup` alone, which escapes them.
"""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from calibrate import drawing, evidence_words, markup, wording
from calibrate import report_words as words
from calibrate.figures import frontier_chart, metrics_chart, scenarios_chart, sensitivity_chart
from calibrate.frontier_axes import subject
from calibrate.report_data import (
    Axes,
    Certificate,
    Constraint,
    Measured,
    Metric,
    Recommended,
    Run,
    read_run,
)
from calibrate.report_drivers import drivers_section, leading
from calibrate.report_scenarios import in_every_scenario, tolerated_on_average
from calibrate.report_style import STYLE
from calibrate.run_folder import write_bytes
from calibrate.trade_off_words import hypervolume_at_length, standing_at_length

HEADLINES = ("insolvency_probability", "max_leverage", "margin_per_oi", "user_cost")


def build_report(run: Path) -> Path:
    """Write `figures/` and `report.html` into the run folder, from its other files; returns the path of the page."""
    found = read_run(run)
    charts = _charts(found)
    drawn = {}
    for name, chart in charts.items():
        formats = ("svg", "png", "html") if name == "frontier" else ("svg", "png")
        svg, *_ = drawing.save(chart, run / "figures" / name, formats)
        drawn[name] = _inline(svg.read_text(encoding="utf-8"), name)
    return write_bytes(run / "report.html", _page(found, drawn, charts["frontier"]).encode())


def _charts(run: Run) -> dict[str, drawing.Drawable]:
    recommended = run.recommended
    free = [key for key, parameter in recommended.policy.items() if parameter.free]
    axes = run.trade_off.axes.model_dump()
    about = (recommended.name, recommended.horizon_days)
    frontier = frontier_chart(_judged(run, run.frontier), *about, **axes, free=free)
    proposed = run.proposed()
    measured = {"incumbent": run.metrics.incumbent.model_dump()} | (
        {run.role(): proposed.model_dump()} if proposed else {}
    )
    charts: dict[str, drawing.Drawable] = {
        "frontier": drawing.specification(frontier),
        "metrics": metrics_chart(measured, recommended.name),
    }
    if run.trade_off.scenarios:
        worlds = _judged(run, run.worlds)
        if tolerated_on_average(recommended):
            worlds["tolerance"] = worlds["tolerance"].where(worlds["label"] == "frontier")
        charts["frontier_scenarios"] = scenarios_chart(worlds, *about, **axes)
    first, elasticities = leading(recommended), [entry.model_dump() for entry in recommended.sensitivities]
    if any(entry["of"] == first and math.isfinite(entry["elasticity"]) for entry in elasticities):
        charts["sensitivities"] = sensitivity_chart(elasticities, recommended.name, of=first)
    return charts


def _judged(run: Run, table: pd.DataFrame) -> pd.DataFrame:
    """The frontier, with the proposed point named and judged by its own certificate."""
    frontier, recommended = table.copy(), run.recommended
    row = frontier["label"] == "recommended"
    if run.proposed() is None:
        return frontier[~row]
    for constraint in recommended.certificate.constraints if recommended.certificate else []:
        if constraint.name == "insolvency_probability":
            frontier.loc[row, "tolerance"] = constraint.limit
    frontier.loc[row, "certified"] = str(recommended.status == "certified")
    frontier.loc[row, "label"] = run.role()
    return frontier


# --- the page -------------------------------------------------------------------------------------------------------


def _page(run: Run, drawn: Mapping[str, str], frontier: drawing.Drawable) -> str:
    axes = run.trade_off.axes.model_dump()
    sections = {
        "recommendation": (
            "What is recommended" if run.recommended.status == "certified" else "What was found",
            _recommendation(run),
        ),
        "evidence": ("The evidence", _evidence(run.recommended)),
        "limits": ("What the limits cost", _limits(run)),
        "frontier": (subject(**axes).capitalize(), _trade_off(run, drawn["frontier"])),
        "scenarios": ("The trade-off in every scenario", in_every_scenario(run, drawn.get("frontier_scenarios"))),
        "metrics": ("Losses, costs and margin", _all_metrics(run, drawn["metrics"])),
        "drivers": ("What the answer depends on", drivers_section(run.recommended, drawn.get("sensitivities"))),
        "scope": ("What was assumed, and what is not covered", _scope()),
        "method": ("Method and sources", markup.paragraph(words.METHOD) + markup.bullets(words.SOURCES)),
        "record": ("Where this page comes from", _record(run.record)),
    }
    sections = {key: (heading, content) for key, (heading, content) in sections.items() if content}
    links = " ".join(f'<a href="#{key}">{markup.text(heading)}</a>' for key, (heading, _) in sections.items())
    body = "\n".join(markup.section(key, heading, content) for key, (heading, content) in sections.items())
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{drawing.CONTENT_POLICY}">\n'
        f"<title>{markup.text(run.recommended.name)}: margin parameters</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{_header(run.recommended)}\n<nav>{links}</nav>\n{body}\n</main>\n"
        f"{_interactive(frontier)}\n</body>\n</html>\n"
    )


def _header(recommended: Recommended) -> str:
    about = (
        f"Margin parameters, calibrated by simulation. Horizon {wording.horizon(recommended.horizon_days)}, "
        f"open interest {wording.usd(recommended.open_interest_usd)}."
    )
    banner, message = words.BANNERS[recommended.status], recommended.message
    return (
        f'<h1>{markup.text(recommended.name)}</h1>\n<p class="under">{markup.text(about)}</p>\n'
        f'<div class="banner {recommended.status.replace(" ", "-")}">{markup.text(banner)}'
        f"{markup.paragraph(wording.sentence(message)) if message else ''}</div>"
    )


def _recommendation(run: Run) -> str:
    rows = [*_policy_rows(run.recommended), *_headline_rows(run)]
    heads = ["", "Today (incumbent)", run.role().capitalize(), "Change", "Unit"]
    if run.proposed() is None:
        kept = (0, 1, 4)
        heads, rows = [heads[column] for column in kept], [[row[column] for column in kept] for row in rows]
    return markup.bullets(_reasons(run)) + markup.table(heads, rows)


def _reasons(run: Run) -> Iterator[str]:
    """Plain words for what changes and what it buys."""
    recommended, before, proposed = run.recommended, run.metrics.incumbent.metrics, run.proposed()
    within = f"within {wording.horizon(recommended.horizon_days)}"
    if proposed is None:
        yield "No set of parameters is proposed; the figures on this page describe the parameters in force today."
        chance = _chance(before["insolvency_probability"])
        yield f"Today the chance that losses exhaust the insurance fund {within} is {chance}."
        yield "Wider bounds, a larger insurance fund or a higher tolerance would have to come first."
        return
    after = proposed.metrics
    yield _change_in_words(recommended)
    both = before.keys() & after.keys()
    if "insolvency_probability" in both:
        old, new = (_chance(found["insolvency_probability"]) for found in (before, after))
        yield f"The chance that losses exhaust the insurance fund {within} goes from {old} to {new}."
    if "max_leverage" in both:
        old, new = (wording.leverage(found["max_leverage"].value) for found in (before, after))
        yield f"The highest leverage, averaged over the simulated time, goes from {old} to {new}."
    if bought := _doubling(recommended):
        yield bought
    if "bad_debt" in both:
        old, new = (_dollars(found["bad_debt"], recommended.open_interest_usd) for found in (before, after))
        yield f"Average losses beyond the accounts' own collateral go from {old} to {new} {within}."


def _doubling(recommended: Recommended) -> str:
    """What tolerating twice as much would buy, or nothing."""
    limits = len(recommended.certificate.constraints) if recommended.certificate else 0
    doubled = recommended.limits_doubled
    return evidence_words.doubling_at_length(doubled.model_dump() if doubled else None, limits)


def _change_in_words(recommended: Recommended) -> str:
    steps = [
        f"the {wording.lower(wording.parameter_name(key))} to {_quantity(entry.value, entry.unit)} "
        f"(today {wording.setting(entry.incumbent)})"
        for key, entry in recommended.policy.items()
        if entry.change != 0
    ]
    if not steps:
        return "Keep the parameters as they are."
    verb = "Set" if recommended.status == "certified" else "The search would set"
    return f"{verb} {wording.together(steps)}."


def _evidence(recommended: Recommended) -> str:
    certificate, horizon = recommended.certificate, wording.horizon(recommended.horizon_days)
    if certificate is None:
        return markup.paragraph("No parameters reached the check on fresh paths, so there is no certificate.")
    level = f"{wording.number(100 * certificate.confidence)} %"
    intro = (
        f"The search and the check use different random numbers. After the search, {certificate.paths:,} new periods "
        f"of {horizon} were simulated (seed {certificate.seed}). Every limit has to hold not only for the estimate but "
        f"for its upper {level} confidence limit. Whoever has this folder can make the check again, with the command "
        "calibrate verify."
    )
    if certificate.attempts > 1:
        intro += f" This was attempt {certificate.attempts}; each used new paths."
    if recommended.status == "infeasible":
        intro += " The set checked here was refused, and nothing tighter within the bounds was found."
    rows = [
        (
            (wording.metric_name(entry.name), wording.metric_meaning(entry.name)),
            wording.metric_value(entry.name, entry.limit),
            _estimate(entry.name, entry),
            wording.metric_value(entry.name, entry.upper),
            markup.Verdict(entry.satisfied),
        )
        for entry in certificate.constraints
    ]
    heads = ["Constraint", "Limit", "Estimate ± standard error", f"Upper {level} limit", "Holds?"]
    in_words = [_constraint_in_words(entry, certificate, horizon) for entry in certificate.constraints]
    scenarios = [f"{line}." for line in evidence_words.by_scenario(certificate.model_dump())]
    table = markup.bullets([*in_words, *scenarios]) + markup.table(heads, rows)
    return markup.paragraph(intro) + table + _how_drawn(certificate.model_dump())


def _how_drawn(certificate: Mapping[str, Any]) -> str:
    told = "".join(map(markup.paragraph, evidence_words.drawn_at_length(certificate)))
    if found := list(evidence_words.rests_on(certificate)):
        told += markup.paragraph(words.RESTS_ON) + markup.bullets(found)
    return told


def _constraint_in_words(entry: Constraint, certificate: Certificate, horizon: str) -> str:
    name, level = wording.metric_name(entry.name), f"{wording.number(100 * certificate.confidence)} %"
    upper, limit = wording.metric_value(entry.name, entry.upper), wording.metric_value(entry.name, entry.limit)
    judged = f"below {upper}, {'within' if entry.satisfied else 'NOT within'} the limit of {limit}"
    if entry.name != "insolvency_probability" or entry.by_scenario:
        return f"{name}: {_estimate(entry.name, entry)}. With {level} confidence it is {judged}."
    days = "days" if horizon == "1 day" else f"periods of {horizon}"
    failures = entry.value * certificate.paths
    # Weighted paths give no whole number; then there is nothing to count.
    counted = certificate.sampling != "importance" and abs(failures - round(failures)) < 1e-6 * max(failures, 1.0)
    chance = wording.percent(entry.value, entry.standard_error)
    seen = (
        f"In {certificate.paths:,} simulated {days} the insurance fund was exhausted on {round(failures):,} of them: "
        f"{chance} within {horizon}."
        if counted
        else f"By {certificate.paths:,} weighted {days}, the insurance fund is exhausted within {horizon} with a probability of "
        f"{chance}."
    )
    return f"{seen} With {level} confidence the probability is {judged}."


def _limits(run: Run) -> str:
    """Which limits bind and what easing them buys; nothing where none is recommended, or the folder does not say."""
    certificate = run.recommended.certificate
    if certificate is None or run.proposed() is None:
        return ""
    prices = evidence_words.limit_prices([entry.model_dump() for entry in certificate.constraints])
    found = [*filter(None, [_doubling(run.recommended)]), *prices]
    return markup.paragraph(words.LIMITS) + markup.bullets(found) if found else ""


def _trade_off(run: Run, drawn: str) -> str:
    others = run.trade_off.axes != Axes(x="max_leverage", y="insolvency_probability")
    told = markup.paragraph(words.TRADE_OFF) + (markup.paragraph(words.OTHER_AXES) if others else "")
    return (
        f'{told}\n<div id="frontier-interactive" hidden></div>\n'
        f'<figure id="frontier-static">{drawn}</figure>\n'
        '<p id="frontier-hint" class="small" hidden>Point at a marker to read its values.</p>\n'
        f"{markup.paragraph(words.STANDINGS)}{markup.bullets(_standings(run))}"
        f"{markup.paragraph(hypervolume_at_length(run.trade_off.hypervolume.model_dump()))}"
    )


def _standings(run: Run) -> Iterator[str]:
    """How far every named policy is from the frontier; what was not proposed is left out."""
    known = {"incumbent": "The policy in force today", "recommended": f"The {run.role()} policy"}
    for standing in run.trade_off.standings:
        if standing.label == "recommended" and run.proposed() is None:
            continue
        called = known.get(standing.label) or f"{standing.label} ({_settings(run, standing.label)})"
        yield standing_at_length(called, standing.model_dump())


def _settings(run: Run, label: str) -> str:
    """What an alternative sets otherwise than the policy in force, to the digits that are shown."""
    row = run.frontier[run.frontier["label"] == label].iloc[0]
    changed = [
        f"{wording.lower(wording.parameter_name(key))} {_quantity(row[key], entry.unit)}"
        for key, entry in run.recommended.policy.items()
        if key in row and wording.setting(row[key]) != wording.setting(entry.incumbent)
    ]
    return wording.together(changed) if changed else "as in force today"


def _all_metrics(run: Run, drawn: str) -> str:
    incumbent, proposed, size = run.metrics.incumbent, run.proposed(), run.recommended.open_interest_usd
    text = (
        f"Means and tails over {incumbent.paths:,} simulated paths, with standard errors: as a share of open interest, "
        "and below it in US dollars."
    )
    certificate = run.recommended.certificate
    weighted = certificate is not None and certificate.sampling == "importance"
    # Weighted paths suit one policy: those of another are others, whatever the seed.
    if proposed and not weighted and (proposed.seed, proposed.paths) == (incumbent.seed, incumbent.paths):
        text += " Both columns are measured on the same paths, so that their difference is sharper than either."
    heads = ["Metric", "Today (incumbent)", *([run.role().capitalize(), "Change"] if proposed else [])]
    rows = [_metric_row(run, key, size)[: len(heads)] for key in _ordered(incumbent.metrics)]
    warnings = [*_warnings("Incumbent", incumbent), *(_warnings(run.role().capitalize(), proposed) if proposed else [])]
    notes = f"<aside>{markup.bullets(warnings)}</aside>" if warnings else ""
    return f"{markup.paragraph(text)}\n<figure>{drawn}</figure>\n{markup.table(heads, rows)}\n{notes}"


def _warnings(whose: str, measured: Measured) -> Iterator[str]:
    for key, metric in measured.metrics.items():
        if metric.warning:
            yield f"{whose}, {wording.lower(wording.metric_name(key))}: {metric.warning}"


def _scope() -> str:
    assumed = markup.paragraph("Assumed:") + markup.bullets(words.ASSUMED)
    return assumed + markup.paragraph("Not covered:") + markup.bullets(words.NOT_COVERED)


def _record(record: Mapping[str, Any]) -> str:
    rows = [(key, str(value)) for key, value in _flat(record)]
    return markup.paragraph(words.RECORD) + markup.table([], rows, kind="record")


def _interactive(frontier: drawing.Drawable) -> str:
    """Puts the chart that one can point at in the place of the drawing; on paper the drawing stays."""
    swap = (
        ".then(function () { document.body.classList.add('interactive');"
        " document.getElementById('frontier-interactive').hidden = false;"
        " document.getElementById('frontier-hint').hidden = false; });"
    )
    draw = drawing.embedding(frontier, "frontier-interactive").rstrip(";") + swap
    return f"<script>{drawing.javascript()}</script>\n<script>{draw}</script>"


def _inline(svg: str, name: str) -> str:
    """A drawing to stand beside others in one page: they number their inner parts alike, so these get a prefix."""
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg[svg.index("<svg") :])


# --- rows and phrases -----------------------------------------------------------------------------------------------


def _policy_rows(recommended: Recommended) -> list[list[markup.Cell]]:
    rows: list[list[markup.Cell]] = []
    for key, entry in recommended.policy.items():
        reach = f"Searched from {wording.setting(entry.low)} to {wording.setting(entry.high)}."
        bounds = reach if entry.free else "Fixed."
        name, told = wording.parameter_name(key), entry.description
        about = f"{wording.sentence(told)} {bounds}" if told and told.lower() != name.lower() else bounds
        numbers = wording.setting(entry.incumbent), wording.setting(entry.value), wording.signed(entry.change)
        rows.append([(name, about), *numbers, entry.unit])
    return rows


def _headline_rows(run: Run) -> list[list[markup.Cell]]:
    within = f"within {wording.horizon(run.recommended.horizon_days)}"
    rows = []
    for key in [key for key in HEADLINES if key in run.metrics.incumbent.metrics]:
        unit = within if key == "insolvency_probability" else "" if key in wording.MULTIPLES else "of open interest"
        rows.append([*_metric_row(run, key), unit])
    return rows


def _metric_row(run: Run, key: str, size: float | None = None) -> list[markup.Cell]:
    """Name, today's value, the proposed one and the change; in dollars too where the open interest is given."""
    old, proposed = run.metrics.incumbent.metrics[key], run.proposed()
    new = proposed.metrics.get(key) if proposed else None
    never_seen = new is not None and new.value == 0 and new.interval[1] > 0
    change = "" if new is None or never_seen else wording.relative_change(old.value, new.value)
    return [
        (wording.metric_name(key), wording.metric_meaning(key)),
        _value(key, old, size),
        "" if new is None else _value(key, new, size),
        change,
    ]


def _value(key: str, entry: Metric, size: float | None) -> markup.Cell:
    if size is None or entry.value == 0 or key in wording.NOT_OF_OPEN_INTEREST:
        return _estimate(key, entry)
    return _estimate(key, entry), _dollars(entry, size)


def _estimate(key: str, entry: Metric | Constraint) -> str:
    """The value with its error; what was never seen has only an upper limit."""
    if entry.value == 0 and entry.interval[1] > 0:
        return f"none seen, below {wording.metric_value(key, entry.interval[1])}"
    return wording.metric_value(key, entry.value, entry.standard_error)


def _dollars(entry: Metric, size: float) -> str:
    return wording.usd(entry.value * size, entry.standard_error * size)


def _chance(entry: Metric) -> str:
    if entry.value == 0:
        return f"below {wording.percent(entry.interval[1])} (never seen)"
    return f"{wording.percent(entry.value, entry.standard_error)} ({wording.odds(entry.value)})"


def _quantity(value: float, unit: str) -> str:
    return f"{wording.setting(value)} {unit}".strip()


def _ordered(metrics: Mapping[str, Metric]) -> list[str]:
    """Metrics in the order of the glossary, tails after their means, unknown ones last."""
    known = list(wording.METRICS)
    places = {key: [known.index(name) for name in known if key.startswith(name)] for key in metrics}
    return sorted(metrics, key=lambda key: max(places[key], default=len(known)))


def _flat(record: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
