"""Model files: a fitted market model as a small TOML file that a person can read, check and write by hand.

A file needs `[model]` with the family and `[parameters]`; the tables of a fit (`[standard_errors]`, `[fit]`,
`[[goodness]]`, `[[autocorrelation]]`) say where the numbers come from and are optional. `read_model` lists everything
that is wrong with a file at once. The same fit gives the same bytes.
"""

import difflib
import hashlib
import json
import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from calibrate.errors import Problem, UserError, raise_all
from calibrate.run_folder import write_text
from calibrate.shipped import shipped_folder

if TYPE_CHECKING:  # a job reads model files without loading the fit and SciPy
    from calibrate.market.fit import Fit

MINUTES_PER_YEAR = 365 * 1440
# The engine draws at most one jump a step. At volatility three standard deviations above its median a minute must still
# see one rarely, or jumps would be lost.
MOST_JUMPS_PER_WILD_MINUTE = 0.1


class Range(NamedTuple):
    """The values that a parameter may take; the ends belong to it unless they are open."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def holds(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def __str__(self) -> str:
        low = "above" if self.open_low else "at least"
        high = "below" if self.open_high else "at most"
        return f"{low} {self.low:g} and {high} {self.high:g}"


VOLATILITY = Range(0, 10, open_low=True)
DRIFT = Range(-5, 5)

# Annual units; names with `_days` in days. Jump means are log-returns; an upward mean of 1 has no expectation, and the
# engine's step loses accuracy well before, hence a half.
FAMILIES: dict[str, dict[str, Range]] = {
    "log-ou-kou": {
        "volatility": VOLATILITY,
        "log_volatility_sd": Range(0, 1.5),
        "reversion_half_life_days": Range(1 / 24, 3650),
        "leverage_correlation": Range(-1, 1, open_low=True, open_high=True),
        "jumps_per_year": Range(0, 50_000),
        "jump_volatility_exponent": Range(-5, 5),
        "jump_up_probability": Range(0, 1),
        "jump_up_mean": Range(0, 0.5, open_high=True),
        "jump_down_mean": Range(0, 0.5, open_high=True),
        "drift": DRIFT,
    },
    "constant": {"volatility": VOLATILITY, "drift": DRIFT},
}

FIT_KEYS: dict[str, type] = {
    "source": str,
    "sha256": str,
    "first": str,
    "last": str,
    "bars": int,
    "gaps": int,
    "interval_s": float,
    "seed": int,
    "calibrate_version": str,
    "command": str,
    "notes": list,
}
GOODNESS_KEYS: dict[str, type] = {
    "horizon": str,
    "quantile": float,
    "data": float,
    "data_standard_error": float,
    "model": float,
    "ratio": float,
}
AUTOCORRELATION_KEYS: dict[str, type] = {
    "what": str,
    "lag_hours": float,
    "data": float,
    "data_standard_error": float,
    "model": float,
}
TABLES = ("model", "parameters", "standard_errors", "fit", "goodness", "autocorrelation")
KIND = {str: "text in quotes", int: "a whole number", float: "a number", list: "a list", dict: "a table"}


@dataclass(frozen=True)
class ModelFile:
    """A model as read from a file. `fit` says where the numbers come from; it and the tables of evidence are empty for
    a model written by hand. `source` is the file's name and `sha256` the hash of its text."""

    family: str
    parameters: dict[str, float]
    standard_errors: dict[str, float]
    fit: dict[str, Any]
    goodness: list[dict[str, Any]]
    autocorrelation: list[dict[str, Any]]
    source: str
    sha256: str


def read_model(path: str | os.PathLike[str]) -> ModelFile:
    """Read and check a model file; everything wrong with it is raised together as one `UserError`."""
    text = _read_text(path)
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError([Problem(str(path), f"not readable as TOML: {error}; mend that line")]) from error

    check = _Check(str(path))
    check.keys("", content, required=("model", "parameters"), allowed=TABLES)
    model = check.table(content, "model")
    parameters = check.table(content, "parameters")
    errors = check.table(content, "standard_errors")
    fit = check.table(content, "fit")
    family = _check_family(check, model) if "model" in content else None
    if family is not None and "parameters" in content:
        _check_parameters(check, family, parameters)
    if family is not None:
        _check_standard_errors(check, family, errors)
    check.keys("fit", fit, allowed=tuple(FIT_KEYS))
    check.types("fit", fit, FIT_KEYS)
    goodness = check.rows(content, "goodness", GOODNESS_KEYS)
    autocorrelation = check.rows(content, "autocorrelation", AUTOCORRELATION_KEYS)
    raise_all(check.problems)
    return ModelFile(
        str(family),
        {name: float(parameters[name]) for name in FAMILIES[str(family)]},
        {name: float(value) for name, value in errors.items()},
        fit,
        goodness,
        autocorrelation,
        Path(path).name,
        _sha256(text),
    )


def find_model(name: str) -> Path:
    """The file of a model that is given by its path or by the name under which it is shipped."""
    path, shipped = Path(name), shipped_folder("models") / f"{name}.toml"
    if path.is_file() or not shipped.is_file():
        return path
    return shipped


def write_model(path: str | os.PathLike[str], fit: "Fit", *, command: str) -> None:
    """Write a fit as a model file. A reader sees the old file or the whole new one, never a part."""
    target = Path(path)
    text = model_text(fit, command=command)
    if not target.parent.is_dir():
        raise UserError([Problem(str(path), f"there is no folder {str(target.parent)!r}; create it or choose another")])
    try:
        write_text(target, text)
    except OSError as error:
        found = error.strerror or type(error).__name__
        raise UserError([Problem(str(path), f"cannot write the file ({found}); check the folder")]) from error


def model_text(fit: "Fit", *, command: str) -> str:
    """The text of a fit's model file."""
    origin = {
        "source": Path(fit.source).name,
        "sha256": fit.sha256,
        "first": fit.first,
        "last": fit.last,
        "bars": fit.bars,
        "gaps": fit.gaps,
        "interval_s": fit.interval_s,
        "seed": fit.seed,
        "calibrate_version": fit.version,
        "command": command,
    }
    if fit.notes:
        origin["notes"] = list(fit.notes)
    blocks = [
        "# A market model fitted to candles. What each number means: models/README.md.",
        _table("[model]", {"family": fit.family}),
        _table("[parameters]", fit.parameters),
        _table("[standard_errors]", fit.standard_errors),
        _table("[fit]", origin),
        *(_table("[[goodness]]", row) for row in fit.goodness),
        *(_table("[[autocorrelation]]", row) for row in fit.autocorrelation),
    ]
    return "\n\n".join(blocks) + "\n"


def text_sha256(path: str | os.PathLike[str]) -> str:
    """Hash of a text file that does not depend on how the system ends its lines."""
    return _sha256(_read_text(path))


def jumps_per_wild_minute(parameters: Mapping[str, float]) -> float:
    """Expected jumps in a minute when volatility is three standard deviations from its median, on the jumpier side."""
    stretch = 3 * abs(parameters["jump_volatility_exponent"]) * parameters["log_volatility_sd"]
    return parameters["jumps_per_year"] / MINUTES_PER_YEAR * math.exp(stretch)


@dataclass
class _Check:
    """Collects the problems of one file."""

    path: str

    def __post_init__(self) -> None:
        self.problems: list[Problem] = []

    def add(self, key: str, message: str) -> None:
        self.problems.append(Problem(f"{self.path}: {key}" if key else self.path, message))

    def table(self, content: Mapping[str, Any], name: str) -> dict[str, Any]:
        value = content.get(name, {})
        if isinstance(value, dict):
            return value
        self.add(name, f"found {value!r}; expected a table, written as [{name}]")
        return {}

    def keys(
        self, place: str, table: Mapping[str, Any], *, allowed: tuple[str, ...], required: tuple[str, ...] = ()
    ) -> None:
        prefix = f"{place}." if place else ""
        for name in required:
            if name not in table:
                self.add(f"{prefix}{name}", "missing; add it")
        for name in table:
            if name not in allowed:
                close = difflib.get_close_matches(name, allowed, n=1)
                hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(allowed)}"
                self.add(f"{prefix}{name}", f"unknown; {hint}")

    def types(self, place: str, table: Mapping[str, Any], expected: Mapping[str, type]) -> None:
        for name, kind in expected.items():
            if name in table and not _is_kind(table[name], kind):
                self.add(f"{place}.{name}", f"found {table[name]!r}; expected {KIND[kind]}")

    def rows(self, content: Mapping[str, Any], name: str, expected: Mapping[str, type]) -> list[dict[str, Any]]:
        rows = content.get(name, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            self.add(name, f"found {rows!r}; expected rows, each written as [[{name}]]")
            return []
        for number, row in enumerate(rows, 1):
            place = f"{name} row {number}"
            self.keys(place, row, required=tuple(expected), allowed=tuple(expected))
            self.types(place, row, expected)
        return rows


def _check_family(check: _Check, model: Mapping[str, Any]) -> str | None:
    check.keys("model", model, required=("family",), allowed=("family",))
    family = model.get("family")
    if family is not None and family not in list(FAMILIES):
        check.add("model.family", f"found {family!r}; expected {' or '.join(map(repr, FAMILIES))}")
    return family if family in list(FAMILIES) else None


def _check_parameters(check: _Check, family: str, parameters: Mapping[str, Any]) -> None:
    ranges = FAMILIES[family]
    check.keys("parameters", parameters, required=tuple(ranges), allowed=tuple(ranges))
    before = len(check.problems)
    for name, limits in ranges.items():
        value = parameters.get(name)
        if value is None:
            continue
        if not _is_kind(value, float):
            check.add(f"parameters.{name}", f"found {value!r}; expected a number {limits}")
        elif not limits.holds(value):
            check.add(f"parameters.{name}", f"found {value:g}; expected a number {limits}")
    complete = all(name in parameters for name in ranges) and len(check.problems) == before
    if family == "log-ou-kou" and complete and jumps_per_wild_minute(parameters) > MOST_JUMPS_PER_WILD_MINUTE:
        found = f"found {jumps_per_wild_minute(parameters):.3g} jumps in a minute of very high volatility (three "
        found += f"standard deviations); expected at most {MOST_JUMPS_PER_WILD_MINUTE:g}"
        check.add("parameters.jumps_per_year", f"{found}; lower it, jump_volatility_exponent or log_volatility_sd")


def _check_standard_errors(check: _Check, family: str, errors: Mapping[str, Any]) -> None:
    check.keys("standard_errors", errors, allowed=tuple(FAMILIES[family]))
    for name, value in errors.items():
        if not _is_kind(value, float) or value < 0:
            check.add(f"standard_errors.{name}", f"found {value!r}; expected a number of at least 0")


def _is_kind(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def _read_text(path: str | os.PathLike[str]) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        found = error.strerror or type(error).__name__
        raise UserError([Problem(str(path), f"cannot read the file ({found}); check the path")]) from error
    except UnicodeDecodeError as error:
        raise UserError([Problem(str(path), "not a text file; expected a model file in TOML")]) from error


def _table(header: str, values: Mapping[str, Any]) -> str:
    return "\n".join([header, *(f"{name} = {_literal(value)}" for name, value in values.items())])


def _literal(value: Any) -> str:
    """A TOML literal: JSON's escapes of text are TOML's too, but for one control character that JSON leaves alone."""
    if isinstance(value, str):
        readable = value.encode("utf-8", "replace").decode("utf-8")
        return json.dumps(readable, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, int):
        return str(int(value))
    raise TypeError(f"found {type(value).__name__}; expected text, a number or a list of them")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
