"""Model files: a fitted market model as a small TOML file that a person can read, check and write by hand.

A file needs `[model]`, which names the parts (`schema.py`), and `[parameters]`; the tables of a fit (`[standard_errors]`, `[fit]`,
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
from typing import TYPE_CHECKING, Any

import numpy as np

from calibrate.errors import Problem, UserError, raise_all
from calibrate.market.residuals import read_residuals, residuals_text
from calibrate.market.schema import KINDS, WHOLE, Parts, Ranges, joint_problems
from calibrate.run_folder import write_text
from calibrate.shipped import shipped_folder

if TYPE_CHECKING:  # a job reads model files without loading the fit and SciPy
    from calibrate.market.fit import Fit

# What a fit says of where it comes from, beside its files.
ORIGIN_KEYS: dict[str, type] = {
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
FIT_KEYS: dict[str, type] = {"source": str, "sha256": str, "windows": list} | ORIGIN_KEYS
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
# Where a model draws from a history: the file that holds it, and its hash.
RESIDUAL_KEYS = ("residuals", "residuals_sha256")
TABLES = ("model", "parameters", "standard_errors", "fit", "goodness", "autocorrelation")
KIND = {str: "text in quotes", int: "a whole number", float: "a number", list: "a list", dict: "a table"}


@dataclass(frozen=True)
class ModelFile:
    """A model as read from a file. `family` is as the file names it, `parts` what it stands for. `fit` says where the numbers
    come from; it and the tables of evidence are empty for a model written by hand. `source` is the file's name and `sha256` the
    hash of its text. `residuals` are there where the family draws from a history."""

    family: str
    parts: Parts
    parameters: dict[str, float]
    standard_errors: dict[str, float]
    fit: dict[str, Any]
    goodness: list[dict[str, Any]]
    autocorrelation: list[dict[str, Any]]
    source: str
    sha256: str
    residuals: np.ndarray | None = None


def read_model(path: str | os.PathLike[str]) -> ModelFile:
    """Read and check a model file; everything wrong with it is raised together as one `UserError`."""
    text = read_text(path)
    content = parsed(path, text)
    check = Check(str(path))
    check.keys("", content, required=("model", "parameters"), allowed=TABLES)
    model = check.table(content, "model")
    parameters = check.table(content, "parameters")
    errors = check.table(content, "standard_errors")
    fit = check.table(content, "fit")
    parts = check_parts(check, model) if "model" in content else None
    if parts is not None and "parameters" in content:
        check_parameters(check, parts.ranges(), parameters)
    if parts is not None:
        check_standard_errors(check, parts.ranges(), errors)
    residuals = _residuals(check, model, parts, Path(path).parent)
    check.keys("fit", fit, allowed=tuple(FIT_KEYS))
    check.types("fit", fit, FIT_KEYS)
    goodness = check.rows(content, "goodness", GOODNESS_KEYS)
    autocorrelation = check.rows(content, "autocorrelation", AUTOCORRELATION_KEYS)
    raise_all(check.problems)
    assert parts is not None
    return ModelFile(
        model["family"],
        parts,
        {name: float(parameters[name]) for name in parts.ranges()},
        {name: float(value) for name, value in errors.items()},
        fit,
        goodness,
        autocorrelation,
        Path(path).name,
        sha256_of(text),
        residuals,
    )


def parsed(path: str | os.PathLike[str], text: str) -> dict[str, Any]:
    """The tables of a TOML file."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError([Problem(str(path), f"not readable as TOML: {error}; mend that line")]) from error


def find_model(name: str) -> Path:
    """The file of a model that is given by its path or by the name under which it is shipped."""
    path, shipped = Path(name), shipped_folder("models") / f"{name}.toml"
    if path.is_file() or not shipped.is_file():
        return path
    return shipped


def write_model(path: str | os.PathLike[str], fit: "Fit", *, command: str) -> None:
    """Write a fit as a model file, beside it the history of a family that draws from one. A reader sees the old file or the whole
    new one, never a part."""
    target = Path(path)
    history = None if fit.residuals is None else residuals_text(fit.residuals)
    named = (
        {} if history is None else dict(zip(RESIDUAL_KEYS, (_history_of(target).name, sha256_of(history)), strict=True))
    )
    text = model_text(fit, command=command, residuals=named)
    if not target.parent.is_dir():
        raise UserError([Problem(str(path), f"there is no folder {str(target.parent)!r}; create it or choose another")])
    try:
        if history is not None:
            write_text(_history_of(target), history)
        write_text(target, text)
    except OSError as error:
        found = error.strerror or type(error).__name__
        raise UserError([Problem(str(path), f"cannot write the file ({found}); check the folder")]) from error


def _history_of(target: Path) -> Path:
    """The file beside a model that holds its history."""
    return target.with_name(f"{target.stem}-residuals.csv")


def model_text(fit: "Fit", *, command: str, residuals: dict[str, str] | None = None) -> str:
    """The text of a fit's model file; `residuals` names the file of a family that draws from a history, and its hash."""
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
    if fit.windows:
        origin["windows"] = list(fit.windows)
    if fit.notes:
        origin["notes"] = list(fit.notes)
    blocks = [
        "# A market model fitted to candles. What each number means: models/README.md.",
        toml_table("[model]", {"family": fit.family} | fit.parts | (residuals or {})),
        toml_table("[parameters]", fit.parameters),
        toml_table("[standard_errors]", fit.standard_errors),
        toml_table("[fit]", origin),
        *(toml_table("[[goodness]]", row) for row in fit.goodness),
        *(toml_table("[[autocorrelation]]", row) for row in fit.autocorrelation),
    ]
    return "\n\n".join(blocks) + "\n"


def text_sha256(path: str | os.PathLike[str]) -> str:
    """Hash of a text file that does not depend on how the system ends its lines."""
    return sha256_of(read_text(path))


@dataclass
class Check:
    """Collects the problems of one file, or of the tables `within` a part of it."""

    path: str
    within: str = ""

    def __post_init__(self) -> None:
        self.problems: list[Problem] = []

    def add(self, key: str, message: str) -> None:
        place = f"{self.within}{key}"
        self.problems.append(Problem(f"{self.path}: {place}" if place else self.path, message))

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
            if name in table and not is_kind(table[name], kind):
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


def check_parts(check: Check, model: Mapping[str, Any]) -> Parts | None:
    """The parts that a model names, if they go together."""
    check.keys("model", model, required=("family",), allowed=(*KINDS, *RESIDUAL_KEYS))
    before = len(check.problems)
    for kind, known in KINDS.items():
        names = [*known, *WHOLE] if kind == "family" else list(known)
        if kind in model and model[kind] not in names:
            check.add(f"model.{kind}", f"found {model[kind]!r}; expected {' or '.join(map(repr, names))}")
    if "family" not in model or len(check.problems) > before:
        return None
    chosen = {kind: model[kind] for kind in KINDS if kind in model}
    if chosen["family"] in WHOLE:
        for kind in ("jumps", "arrival"):
            if kind in chosen:
                check.add(
                    f"model.{kind}", f"found {chosen[kind]!r}; the family {chosen['family']!r} has jumps; remove it"
                )
        return WHOLE[chosen["family"]]._replace(regimes=chosen.get("regimes"))
    if "arrival" in chosen and "jumps" not in chosen:
        check.add("model.arrival", f"found {chosen['arrival']!r} but no `jumps`; say what the jumps are, or remove it")
    if "jumps" in chosen:
        chosen = {"arrival": "constant"} | chosen
    return Parts(**chosen)


def check_parameters(check: Check, ranges: Ranges, parameters: Mapping[str, Any]) -> None:
    check.keys("parameters", parameters, required=tuple(ranges), allowed=tuple(ranges))
    before = len(check.problems)
    for name, limits in ranges.items():
        value = parameters.get(name)
        if value is None:
            continue
        if not is_kind(value, float):
            check.add(f"parameters.{name}", f"found {value!r}; expected a number {limits}")
        elif not limits.holds(value):
            check.add(f"parameters.{name}", f"found {value:g}; expected a number {limits}")
    if all(name in parameters for name in ranges) and len(check.problems) == before:
        for name, message in joint_problems(parameters):
            check.add(f"parameters.{name}", message)


def check_standard_errors(check: Check, ranges: Ranges, errors: Mapping[str, Any]) -> None:
    check.keys("standard_errors", errors, allowed=tuple(ranges))
    for name, value in errors.items():
        if not is_kind(value, float) or value < 0:
            check.add(f"standard_errors.{name}", f"found {value!r}; expected a number of at least 0")


def _residuals(check: Check, model: Mapping[str, Any], parts: Parts | None, folder: Path) -> np.ndarray | None:
    """The history of a family that draws from one: a file beside the model, whose hash the model states."""
    if parts is None:
        return None
    if parts.family != "filtered-historical":
        for key in RESIDUAL_KEYS:
            if key in model:
                check.add(f"model.{key}", f"the family {parts.family!r} draws from no history; remove it")
        return None
    if not isinstance(model.get("residuals"), str):
        found = "missing" if "residuals" not in model else f"found {model['residuals']!r}"
        check.add("model.residuals", f"{found}; expected the name of a CSV file beside this one")
        return None
    try:
        residuals, digest = read_residuals(folder / model["residuals"])
    except UserError as error:
        check.problems += error.problems
        return None
    if model.get("residuals_sha256") != digest:
        found = model.get("residuals_sha256", "none")
        check.add("model.residuals_sha256", f"found {found!r}; expected {digest!r}, the hash of {model['residuals']}")
    return residuals


def is_kind(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def read_text(path: str | os.PathLike[str]) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        found = error.strerror or type(error).__name__
        raise UserError([Problem(str(path), f"cannot read the file ({found}); check the path")]) from error
    except UnicodeDecodeError as error:
        raise UserError([Problem(str(path), "not a text file; expected a model file in TOML")]) from error


def toml_table(header: str, values: Mapping[str, Any]) -> str:
    return "\n".join([header, *(f"{name} = {toml_literal(value)}" for name, value in values.items())])


def toml_literal(value: Any) -> str:
    """A TOML literal: JSON's escapes of text are TOML's too, but for one control character that JSON leaves alone."""
    if isinstance(value, str):
        readable = value.encode("utf-8", "replace").decode("utf-8")
        return json.dumps(readable, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(map(toml_literal, value))}]"
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, int):
        return str(int(value))
    raise TypeError(f"found {type(value).__name__}; expected text, a number or a list of them")


def sha256_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
