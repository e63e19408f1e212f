"""The memo that goes with a proposal: what changes, why, on what evidence, and what was assumed. Markdown, for people."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

from calibrate.export.native import percent
from calibrate.wording import count, horizon, leverage, lower, metric_name, metric_value, sentence, usd

_SHOWN = ("insolvency_probability", "bad_debt_es", "margin_per_oi", "max_leverage", "user_cost")
# How the names of a venue's numbers end that are shares, and what the whole is.
_WHOLES = {"_bps": 10**4, "_ppm": 10**6, "_e18": 10**18, "_e30": 10**30}


def memo(content: dict[str, Any], recommended: dict[str, Any], metrics: dict[str, Any]) -> str:
    """From what export.json holds, and recommended.json and metrics.json of the run."""
    parts = [
        f"# {_plain(content['venue_name'])}: {_plain(recommended['name'])}",
        _opening(content),
        "## What changes",
        _table(("number of the venue", "in force", "proposed"), (_row(change) for change in content["changes"])),
        "## Why",
        _why(content, recommended, metrics),
        _table(("over " + horizon(content["horizon_days"]), *metrics), _figures(metrics)),
        "## Evidence",
        _evidence(content),
        *([] if len(content["steps"]) == 1 else ["## Steps", _steps(content)]),
        "## What was assumed",
        _bullets(_assumptions(content)),
        "## How to change it, and check this",
        _bullets([content["change_process"], *content["notes"], *_checks(content)]),
    ]
    return "\n\n".join(parts) + "\n"


def _opening(content: dict[str, Any]) -> str:
    steps = len(content["steps"])
    way = "in one change" if steps == 1 else f"in {steps} steps"
    every = "the set is certified" if steps == 1 else "every set on the way is certified"
    verdict = every if content["status"] == "certified" else "**not every set on the way is certified**"
    return (
        f"Proposal for `{content['venue']}` {way}; {verdict} as rounded to the venue's own numbers. Values in force are those "
        f"of {content['values_as_of']}; compare them with the live ones before proposing."
    )


def _row(change: dict[str, Any]) -> tuple[str, str, str]:
    field = change["field"]
    return f"`{field}`", _share(field, change["before"]), _share(field, change["after"])


def _share(field: str, value: Any) -> str:
    """A number of the venue, with what part of the whole it is in front where it is one."""
    whole = next((whole for end, whole in _WHOLES.items() if field.endswith(end)), None)
    if whole is None or not isinstance(value, int):
        return _value(value)
    return f"{percent(Fraction(value, whole), 6)} ({_value(value)})"


def _value(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else _plain(str(value))


def _why(content: dict[str, Any], recommended: dict[str, Any], metrics: dict[str, Any]) -> str:
    limits = ", ".join(
        f"{lower(metric_name(h['name']))} at most {h['limit']:g}" for h in recommended["certificate"]["constraints"]
    )
    levels = [metrics[name]["metrics"]["max_leverage"]["value"] for name in ("incumbent", "recommended")]
    weight = content["simulated_with"]["user_cost_weight"]
    times = "" if weight == 1 else f"{weight:g} times "
    sought = f"The least initial margin, plus {times}what liquidated users pay," if weight else "The most leverage"
    return (
        f"{sought} that keeps the limits ({limits}). Highest leverage goes from {leverage(levels[0])} to "
        f"{leverage(levels[1])}. Shares below are of open interest, with standard errors."
    )


def _figures(metrics: dict[str, Any]) -> Iterable[tuple[str, ...]]:
    first = next(iter(metrics.values()))["metrics"]
    for prefix in _SHOWN:
        key = next((key for key in first if key.startswith(prefix)), None)
        if key is not None:
            entries = [part["metrics"][key] for part in metrics.values()]
            yield metric_name(key), *(metric_value(key, e["value"], e["standard_error"]) for e in entries)


def _evidence(content: dict[str, Any]) -> str:
    last = content["steps"][-1]
    heads = ("limit on", "limit", "estimate", "standard error", "upper confidence limit", "kept")
    rows = (
        (
            metric_name(h["name"]),
            f"{h['limit']:g}",
            f"{h['value']:.3g}",
            f"{h['standard_error']:.2g}",
            f"{h['upper']:.3g}",
            "yes" if h["satisfied"] else "no",
        )
        for h in last["constraints"]
    )
    said = (
        f"The proposed set itself was simulated on {count(last['paths'])} paths (seed {last['seed']}), and every limit held "
        f"against its upper limit at {100 * last['confidence']:g} % confidence, at an open interest of "
        f"${content['open_interest_usd']:,.0f}."
    )
    warned = "".join(f"\n\n**{sentence(text)}**" for text in content["warnings"])
    return f"{said}\n\n{_table(heads, rows)}{warned}"


def _steps(content: dict[str, Any]) -> str:
    rows = [
        (
            str(step["number"]),
            f"{step['not_before_day']:g}",
            ", ".join(f"`{c['field']}` {_value(c['before'])} to {_value(c['after'])}" for c in step["changes"]),
            "yes" if step["certified"] else "no",
        )
        for step in content["steps"]
    ]
    largest = ", ".join(f"`{key}` {value}" for key, value in content["largest_step"].items())
    said = f"The venue's process takes no more than {largest} in one change. Days count from the first."
    if any(not step["certified"] for step in content["steps"]):
        said += " A set that is not certified does not keep every limit; it lies between what is in force and what is proposed."
    return f"{said}\n\n{_table(('step', 'not before day', 'changes', 'certified'), rows)}"


def _assumptions(content: dict[str, Any]) -> list[str]:
    used = content["simulated_with"]
    simulated = (
        f"Simulated: prices of {_plain(used['market'])}; sales of {usd(used['depth_usd'])} move them by 2 % at median volatility; "
        f"losses beyond {usd(used['insurance_fund_usd'])} count as insolvency; steps of {used['step_s']:g} s"
    )
    left_out = [f"Not simulated: {text}" for text in content["not_simulated"]]
    return [
        simulated,
        *left_out,
        *content["assumed"],
        f"Sources of the venue's rules and values: {', '.join(content['sources'])}",
    ]


def _checks(content: dict[str, Any]) -> list[str]:
    written = [f"`{name}`" for step in content["steps"] for name in step["files"]]
    shown = written if len(written) <= 6 else [*written[:5], f"and {len(written) - 5} more"]
    return [
        f"Files with this memo: {', '.join(shown)}",
        "`calibrate verify RUN` makes the run's certificate again; the job, its inputs' hashes and versions are in its run.toml",
    ]


def _bullets(texts: Iterable[str]) -> str:
    return "\n".join(f"- {sentence(text)}" for text in texts)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """A user's text where it must not become markup."""
    return "".join(f"\\{c}" if c in "|`*_<>[]#\\" else c for c in " ".join(text.split()))
