"""A venue in words and numbers, as `calibrate venues` prints it."""

import textwrap
from itertools import groupby
from pathlib import Path
from typing import Any

from calibrate.export.codecs import CODECS
from calibrate.presets import VENUES, Preset, find_venue, load_preset, read_venue, rules_of, shipped_presets

_WIDTH = 110
# Keys of a policy that a venue of one number leaves at 0 need not be shown.
_SHOWN = ("base_margin_bps", "initial_ratio", "penalty_bps", "keeper_share")


def venue_list() -> list[dict[str, Any]]:
    """Every shipped preset with its date and first source."""
    rows = []
    for name in shipped_presets():
        stem, _, market = name.partition(":")
        venue = read_venue(VENUES / f"{stem}.toml")
        entry = venue.markets.get(market)
        sources = (entry.sources if entry else None) or venue.sources
        date = (entry.as_of if entry else None) or venue.as_of
        rows.append({"preset": name, "venue": venue.name, "as_of": date, "source": sources[0]})
    return rows


def venue_lines(rows: list[dict[str, Any]]) -> list[str]:
    """The list for a screen: a venue in two lines."""
    lines = []
    for stem, group in groupby(rows, key=lambda row: row["preset"].partition(":")[0]):
        markets = list(group)
        names = [row["preset"].partition(":")[2] for row in markets]
        known = f"{stem}:{{{', '.join(names)}}}" if names[0] else f"{stem} (rules; values are yours)"
        lines += textwrap.wrap(known, _WIDTH, subsequent_indent=" " * 4)
        lines.append(f"    {markets[0]['venue']}, {markets[0]['as_of']}: {markets[0]['source']}")
    return [*lines, 'calibrate venues show NAME says more; a job uses one with preset = "NAME" in its [venue]']


def shown(name: str, folder: Path) -> dict[str, Any]:
    """What is known of a preset; a venue without values of its own says which ones it needs."""
    path, venue, market = find_venue(name, folder, "")
    content: dict[str, Any] = {
        "preset": name,
        "venue": venue.name,
        "status": venue.status,
        "as_of": market.as_of or venue.as_of,
        "sources": market.sources or venue.sources,
        "rules": venue.rules,
        "not_simulated": venue.not_simulated,
        "assumed": [text for text in (venue.caution, *market.assumed) if text],
        "change": venue.change.model_dump(mode="json"),
        "simulated_as": {"venue": venue.defaults.venue, "oracle": venue.defaults.oracle | market.oracle},
    }
    given = venue.native | market.native
    needed = [
        key for key, field in CODECS[venue.codec].model_fields.items() if field.is_required() and key not in given
    ]
    if needed:
        others = [f"{name}:{key}" for key in venue.markets]
        return content | {"values": given, "needed": needed, "markets": others}
    preset = load_preset(name, folder, str(path))
    content["simulated_as"]["venue"] = rules_of(preset)
    return content | _numbers(preset)


def _numbers(preset: Preset) -> dict[str, Any]:
    native, policy = preset.native, preset.native.policy()
    return {
        "values": native.model_dump(mode="json"),
        "policy": {key: policy[key] for key in _SHOWN},
        "free": list(native.free),
        "worked": dict(native.worked()),
    }


def shown_lines(content: dict[str, Any]) -> list[str]:
    """The same for a screen."""
    lines = _block(f"{content['preset']}: {content['venue']}, values of {content['as_of']}", [content["status"]])
    lines += ["", *_block("rules", content["rules"])]
    values = [f"{key} = {_value(value)}" for key, value in content["values"].items() if value is not None]
    lines += ["", *_block("in force, in the venue's own numbers", values or ["none is known here"])]
    if "needed" in content:
        wanted = [f"for [venue.native] of the job: {', '.join(content['needed'])}"]
        wanted += [f"or name a market: {', '.join(content['markets'])}"] if content["markets"] else []
        lines += ["", *_block("values that are not known here", wanted)]
    else:
        policy = [f"{key} = {value:.6g}" for key, value in content["policy"].items()]
        policy.append(f"a job may free {', '.join(content['free'])}")
        lines += ["", *_block("simulated as the policy", policy)]
        lines += ["", *_block("worked out", [f"{what}: {value}" for what, value in content["worked"].items()])]
    lines += ["", *_block("not simulated", content["not_simulated"])]
    rules = content["simulated_as"]["venue"]
    told = [f"{key}: {_value(value)}" for key, value in rules.items() if isinstance(value, dict)]
    told.append(f"[oracle]: {_value(content['simulated_as']['oracle'])}")
    lines += ["", *_block("rules beside the usual ones, under [venue] of a job, and its oracle", told)]
    change = content["change"]
    limits = [f"at most {_value(change['largest_step'])} in one change"] if change["largest_step"] else []
    limits += [f"at least {change['minimum_delay_days']:g} days apart"] if change["minimum_delay_days"] else []
    lines += ["", *_block("how it is changed", [change["process"], *limits, *change["notes"]])]
    if content["assumed"]:
        lines += ["", *_block("mind", content["assumed"])]
    return [*lines, "", *_block("sources", [*content["sources"], *([change["source"]] if change["source"] else [])])]


def _block(heading: str, items: list[str]) -> list[str]:
    lines = [heading]
    for item in items:
        # A long address is not broken, so that it can be copied.
        lines += textwrap.wrap(
            item, _WIDTH, initial_indent="  ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
        )
    return lines


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_value(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return "; ".join(_value(inner) for inner in value)
    if isinstance(value, bool):
        return str(value).lower()  # as a job has it
    if isinstance(value, float):
        return f"{value:,.10g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
