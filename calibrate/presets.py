"""Venue files: a venue's rules in words, its markets' values in its own numbers, and what a job of it starts from.

A job names one with `preset = "hyperliquid:ETH"` in its `[venue]`: a file that travels with the package, or one beside the job
(`"my-venue.toml:ETH"`), and a market in it. What the job itself says goes first, key by key; `[venue.native]` replaces values of
the market. Such files are read strictly, like jobs.
"""

import difflib
import tomllib
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from calibrate.errors import Problem, UserError, raise_all
from calibrate.export.codecs import CODECS
from calibrate.export.native import Native
from calibrate.job_policy import LEGAL
from calibrate.section import Count, Positive, Section

VENUES = Path(__file__).parent / "venues"


class ChangeProcess(Section):
    """How the venue is changed: `largest_step` of a field of its set in one change, and the days between two."""

    process: str
    source: str | None = None
    minimum_delay_days: Positive | None = None
    largest_step: dict[str, Count] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)


class Defaults(Section):
    """What a job of the venue starts from, by section; of the policy bounds alone, since its values follow from the market's."""

    venue: dict[str, Any] = Field(default_factory=dict)
    oracle: dict[str, Any] = Field(default_factory=dict)
    policy: dict[str, dict[str, Any]] = Field(default_factory=dict)


class MarketEntry(Section):
    """A market's values, what of its oracle differs, and what about it is assumed rather than read."""

    native: dict[str, Any] = Field(default_factory=dict)
    oracle: dict[str, Any] = Field(default_factory=dict)
    assumed: list[str] = Field(default_factory=list)
    as_of: str | None = None
    sources: list[str] | None = None


class VenueFile(Section):
    """A venue: which set of numbers it has (`codec`), since when what is said of it is known, and from where."""

    name: str
    codec: str
    status: str
    as_of: str
    sources: list[str] = Field(min_length=1)
    caution: str | None = None
    rules: list[str] = Field(min_length=1)
    not_simulated: list[str]
    change: ChangeProcess
    defaults: Defaults = Defaults()
    native: dict[str, Any] = Field(default_factory=dict)
    markets: dict[str, MarketEntry] = Field(default_factory=dict)

    @field_validator("codec")
    @classmethod
    def _known(cls, codec: str) -> str:
        if codec not in CODECS:
            raise ValueError(f"found {codec!r}; expected one of {', '.join(CODECS)}")
        return codec


class Preset(Section):
    """A venue's market as a job uses it: the file that it comes from, and its values with those of the job in their place."""

    name: str
    path: Path
    venue: VenueFile
    market: MarketEntry
    native: Native

    @property
    def sources(self) -> list[str]:
        return self.market.sources or self.venue.sources

    @property
    def as_of(self) -> str:
        return self.market.as_of or self.venue.as_of


def shipped_presets() -> list[str]:
    """Names of the presets that travel with the package; a venue without values of its own has one name."""
    named = [(path.stem, read_venue(path).markets) for path in sorted(VENUES.glob("*.toml"))]
    return [name for stem, markets in named for name in ([f"{stem}:{key}" for key in markets] or [stem])]


def read_venue(path: Path) -> VenueFile:
    """Read and check a venue file."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            [Problem(str(path), f"cannot be read ({error.strerror}); give the path of a venue file")]
        ) from None
    except ValueError as error:
        raise UserError([Problem(str(path), f"is not valid TOML in UTF-8: {error}")]) from None
    try:
        return VenueFile.model_validate(tables)
    except ValidationError as error:
        raise UserError([_problem(str(path), dict(details)) for details in error.errors()]) from None


def find_venue(name: str, folder: Path, place: str) -> tuple[Path, VenueFile, MarketEntry]:
    """The file and the market that a preset names; files are looked for in `folder`. A venue without a market has its rules."""
    stem, _, market = name.partition(":")
    path = folder / stem if stem.endswith(".toml") else VENUES / f"{stem}.toml"
    if not path.is_file() or Path(stem).name != stem:
        near = "; there is no such venue file beside the job" if stem.endswith(".toml") else _nearest(name)
        known = "`calibrate venues` lists all, and a file beside the job is named with its ending .toml"
        raise UserError([Problem(place, f"no preset {name!r}{near}; {known}")])
    venue = read_venue(path)
    if market and market not in venue.markets:
        known = ", ".join(f"{stem}:{key}" for key in venue.markets) or f"{stem}, without a market"
        raise UserError([Problem(place, f"no preset {name!r}; {venue.name} has {known}")])
    return path, venue, venue.markets.get(market, MarketEntry())


def load_preset(name: str, folder: Path, place: str, own: dict[str, Any] | None = None) -> Preset:
    """A preset by its name, with values `own` in the place of the market's."""
    path, venue, market = find_venue(name, folder, place)
    given = own or {}
    values = venue.native | market.native | given
    try:
        native = CODECS[venue.codec].model_validate(values)
    except ValidationError as error:
        raise UserError([_native_problem(place, venue, given, dict(details)) for details in error.errors()]) from None
    steps = set(venue.change.largest_step) - {key for key, value in native if isinstance(value, int)}
    where = f"{path}: change.largest_step"
    raise_all([Problem(f"{where}.{key}", "is no whole number of the venue's set; remove it") for key in sorted(steps)])
    return Preset(name=name, path=path, venue=venue, market=market, native=native)


def with_preset(tables: dict[str, Any], folder: Path, place: str) -> tuple[dict[str, Any], Preset | None]:
    """The tables of a job with what its preset gives in the places that it leaves open, and the preset."""
    section = tables.get("venue")
    if not isinstance(section, dict) or "preset" not in section:
        return tables, None
    name = section["preset"]
    if not isinstance(name, str):
        raise UserError([Problem(f"{place}: venue.preset", f"found {name!r}; expected a name in quotes")])
    _refuse_in_scenarios(tables, place)
    own = section.get("native", {})
    if not isinstance(own, dict):
        raise UserError([Problem(f"{place}: venue.native", "expected a table of the venue's own values")])
    preset = load_preset(name, folder, f"{place}: venue.preset", own)
    defaults = preset.venue.defaults
    filled = tables | {"venue": _rules(preset, section), "policy": _policy(tables.get("policy", {}), preset)}
    if "oracle" not in tables and defaults.oracle:
        filled["oracle"] = defaults.oracle | preset.market.oracle
    return filled, preset


def notes_of(preset: Preset | None) -> list[str]:
    """What someone who uses a preset must know: which rules are not simulated, and what is not known for sure."""
    if preset is None:
        return []
    left_out = "; ".join(preset.venue.not_simulated)
    notes = [f"{preset.name}, values of {preset.as_of}; not simulated: {left_out}"]
    return notes + [text for text in (preset.venue.caution, *preset.market.assumed) if text]


def rules_of(preset: Preset) -> dict[str, Any]:
    """The `[venue]` that a preset gives: the venue's own, and what follows from the market's values."""
    return preset.venue.defaults.venue | preset.native.simulated()


def _rules(preset: Preset, section: dict[str, Any]) -> dict[str, Any]:
    """The `[venue]` of a job: a rule of its own takes the place of the preset's whole, and `false` takes it away."""
    usual = rules_of(preset)
    refused = {key for key, value in section.items() if value is False and isinstance(usual.get(key), dict)}
    return {key: value for key, value in (usual | section).items() if key not in refused}


def _policy(given: Any, preset: Preset) -> Any:
    """The policy of a job: the venue's values, and bounds for what is free, where the job does not say otherwise."""
    if not isinstance(given, dict):
        return given
    filled = dict(given)
    for key, value in preset.native.policy().items():
        entry = given.get(key, {})
        if isinstance(entry, dict):
            choice = {"value": value} | entry
            if entry.get("free") is True:
                # Where the venue has no usual bounds, whatever means anything.
                usual = dict(zip(("low", "high"), LEGAL[key], strict=True)) | preset.venue.defaults.policy.get(key, {})
                choice = _bounds(usual, choice["value"]) | choice
            filled[key] = choice
    return filled


def _bounds(bounds: dict[str, Any], value: Any) -> dict[str, Any]:
    """A venue's usual bounds, widened to hold the value that is in force."""
    sides = {"low": min, "high": max}
    return {key: sides[key](bound, value) if key in sides else bound for key, bound in bounds.items()}


def _refuse_in_scenarios(tables: dict[str, Any], place: str) -> None:
    entries = tables.get("scenarios")
    changed = [
        entry.get("venue") if isinstance(entry, dict) else None
        for entry in (entries if isinstance(entries, list) else [])
    ]
    message = "a scenario cannot change which venue it is; change single rules, such as `keeper_delay_s`"
    raise_all(
        [
            Problem(f"{place}: scenarios.{i}.venue.{key}", message)
            for i, venue in enumerate(changed)
            for key in ("preset", "native")
            if isinstance(venue, dict) and key in venue
        ]
    )


def _nearest(name: str) -> str:
    known = shipped_presets()
    by_fold = {key.casefold(): key for key in [*known, *(key.partition(":")[0] for key in known)]}
    close = [by_fold[key] for key in difflib.get_close_matches(name.casefold(), list(by_fold), n=3, cutoff=0.5)]
    return f"; the nearest names are {', '.join(close)}" if close else ""


def _native_problem(place: str, venue: VenueFile, own: dict[str, Any], details: dict[str, Any]) -> Problem:
    """What is wrong with a market's values, at the place that gave them."""
    key = str(details["loc"][0]) if details["loc"] else ""
    where = place.removesuffix(".preset") + ".native"
    if details["type"] == "missing" and len(details["loc"]) == 1:
        markets = f", or name a market ({', '.join(venue.markets)})" if venue.markets else ""
        message = f"is missing: {venue.name} has no value for it here; give it in [venue.native]{markets}"
        return Problem(f"{where}.{key}", message)
    return _problem(where if key in own or own else place, details)


def _problem(place: str, details: dict[str, Any]) -> Problem:
    where = ".".join(str(part) for part in details["loc"])
    found = details.get("input")
    message = {
        "extra_forbidden": "unknown key; remove it or correct its name",
        "missing": "is missing; add it",
    }.get(details["type"]) or details["msg"].removeprefix("Value error, ")
    if details["type"] not in ("extra_forbidden", "missing", "value_error"):
        message = f"{message} (found {found!r})"
    return Problem(f"{place}: {where}" if place.endswith(".toml") else f"{place}.{where}" if where else place, message)
