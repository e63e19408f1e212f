"""The report's section on what the answer depends on: what assumptions would force, and how every figure moves with all numbers."""

import math

from calibrate import evidence_words, markup, wording
from calibrate import report_words as words
from calibrate.report_data import Recommended


def drivers_section(recommended: Recommended, drawn: str | None) -> str:
    if not recommended.sensitivities:
        return markup.paragraph("No sensitivities were computed in this run.")
    drivers = sorted((entry.model_dump() for entry in recommended.sensitivities), key=evidence_words.by_kind_and_size)
    forced = any(evidence_words.forced_change(entry) for entry in drivers)
    rows: list[tuple[markup.Cell, ...]] = [
        (
            wording.parameter_name(entry["parameter"]),
            ("assumption" if entry["kind"] == "assumption" else "parameter", entry["method"]),
            wording.metric_name(entry["of"]),
            wording.number(entry["elasticity"], entry["standard_error"]),
            *([(evidence_words.forced_change(entry), evidence_words.found_again(entry))] if forced else []),
        )
        for entry in drivers
    ]
    margin = ["Change of the margin that +10 % forces"] if forced else []
    table = markup.table(["", "Kind and method", "Effect on", "Per cent for +1 %", *margin], rows)
    figure = f"<figure>{drawn}</figure>" if drawn else ""
    told = markup.paragraph(words.ELASTICITIES) + (markup.paragraph(words.FORCED) if forced else "")
    return told + _main_driver(recommended) + figure + table + _elasticities(recommended)


def _elasticities(recommended: Recommended) -> str:
    """How all other figures move, as a table of figures by the parameters that matter most, those first."""
    found = {(entry.of, entry.parameter): entry for entry in recommended.elasticities}
    if not found:
        return ""
    of = leading(recommended)
    figures, parameters = (list(dict.fromkeys(key[k] for key in found)) for k in (0, 1))
    size = {name: abs(found[of, name].elasticity) for name in parameters if (of, name) in found}
    shown = sorted(parameters, key=lambda name: -size.get(name, 0.0))[:_MOST_COLUMNS]
    heads = ["Per cent for +1 % in", *(wording.parameter_name(name) for name in shown)]
    rows = []
    for figure in figures:
        entries = (found.get((figure, name)) for name in shown)
        cells = (wording.number(e.elasticity, e.standard_error) if e else "" for e in entries)
        rows.append((wording.metric_name(figure), *cells))
    told = words.OTHER_ELASTICITIES
    if len(shown) < len(parameters):
        told += (
            f" Shown are the {len(shown)} of {len(parameters)} that move the {wording.lower(wording.metric_name(of))} "
            "most; the others are in recommended.json."
        )
    return markup.paragraph(told) + markup.table(heads, rows)


# As many parameters side by side as a page can hold.
_MOST_COLUMNS = 5


def _main_driver(recommended: Recommended) -> str:
    """The assumption that matters most, in one sentence."""
    of = leading(recommended)
    drivers = [entry.model_dump() for entry in recommended.sensitivities]
    assumed = [entry for entry in drivers if entry["kind"] == "assumption" and entry["of"] == of]
    first = min(assumed, key=evidence_words.by_kind_and_size, default=None)
    if first is None or not math.isfinite(first["elasticity"]):
        return ""
    ratio, change = 1.1 ** first["elasticity"], evidence_words.forced_at_length(first)
    then = f", and {change} for the limits to hold again" if change else ""
    effect = f"multiplied by roughly {ratio:.2g}" if ratio > 0.1 else "divided by more than ten"
    return markup.paragraph(
        f"Of these assumptions the {wording.lower(wording.parameter_name(first['parameter']))} matters most: if it were 10 % "
        f"higher than assumed, the {wording.lower(wording.metric_name(of))} would be {effect}{then}."
    )


def leading(recommended: Recommended) -> str:
    """The metric whose sensitivities lead: the insolvency probability where there are any."""
    found = [entry.of for entry in recommended.sensitivities]
    return found[0] if found and "insolvency_probability" not in found else "insolvency_probability"
