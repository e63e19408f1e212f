"""Joint model files: several assets whose prices move together, as one TOML file that a person can read and write by hand.

`[model]` names the assets and what they share: jumps that come to all of them at once, and a chain of calm and crash.
`[parameters]` holds the numbers of what is shared, `[correlation]` the correlations of diffusive returns in calm and in a
crash and of the changes of log-volatility. Each asset has `[assets.NAME.model]` and `[assets.NAME.parameters]`, written as in
the model file of one asset, with `shared_jump_beta` (its share of a jump of all) and `crash_volatility_multiplier` besides.
`read_joint` lists everything that is wrong with a file at once.
"""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calibrate.errors import raise_all
from calibrate.market.files import (
    GOODNESS_KEYS,
    ORIGIN_KEYS,
    Check,
    ModelFile,
    check_parameters,
    check_parts,
    check_standard_errors,
    is_kind,
    parsed,
    read_text,
    sha256_of,
    toml_literal,
    toml_table,
)
from calibrate.market.schema import ARRIVALS, KINDS, MULTIPLIER, REGIMES, SIZES, Parts, Range, Ranges, joint_problems
from calibrate.run_folder import write_text

# Families whose two normals of a step can be mixed with those of other assets.
FAMILIES = ("constant", "log-ou")
TABLES = (
    "model", "parameters", "correlation", "assets", "standard_errors", "correlation_standard_errors", "fit", "goodness",
    "dependence",
)  # fmt: skip
FIT_KEYS: dict[str, type] = {"sources": list, "sha256": list} | ORIGIN_KEYS
DEPENDENCE_KEYS: dict[str, type] = {
    "what": str,
    "first": str,
    "second": str,
    "data": float,
    "data_standard_error": float,
    "model": float,
}
BETA, CRASH_VOLATILITY = "shared_jump_beta", "crash_volatility_multiplier"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_MOST_ASSETS = 32
# Rounding in a file may leave the ends of a row this far from symmetry; a matrix this close to singular has no use.
_ROUNDING, _LEAST_EIGENVALUE = 1e-6, 1e-6


@dataclass(frozen=True)
class JointModel:
    """Several assets as read from a file, or fitted. `parameters` are those of what is shared, `jumps` and `regimes` name it
    (None for nothing). `correlation` holds the matrices `calm`, `crash` (where there are regimes) and `volatility` (where
    volatility moves), in the order of `assets`. `own` are the parts and parameters of each asset. The tables of evidence are
    empty for a model written by hand."""

    assets: tuple[str, ...]
    jumps: str | None
    regimes: str | None
    parameters: dict[str, float]
    correlation: dict[str, np.ndarray]
    own: dict[str, tuple[Parts, dict[str, float]]]
    source: str
    sha256: str
    standard_errors: dict[str, float]
    own_standard_errors: dict[str, dict[str, float]]
    correlation_standard_errors: dict[str, np.ndarray]
    fit: dict[str, Any]
    goodness: list[dict[str, Any]]
    dependence: list[dict[str, Any]]

    def marginal(self, asset: str) -> ModelFile:
        """One asset as if it had a model file of its own: its parts and, but for shared jumps, all of its parameters."""
        parts, own = self.own[asset]
        if self.jumps is not None and parts.jumps is None:
            # Whoever has shared jumps has jumps, if none of its own.
            parts, own = parts._replace(jumps="merton", arrival="constant"), own | _NO_JUMPS
        parts = parts._replace(regimes=self.regimes)
        # Shared jumps are described by the same names as own ones, which come last.
        named = {name: value for name, value in (self.parameters | own).items() if name in parts.ranges()}
        return ModelFile(parts.family, parts, named, {}, {}, [], [], self.source, self.sha256)


_NO_JUMPS = {"jumps_per_year": 0.0, "jump_mean": 0.0, "jump_sd": 0.0}


def is_joint(path: str | os.PathLike[str]) -> bool:
    """Whether a model file is one of several assets."""
    model = parsed(path, read_text(path)).get("model")
    return isinstance(model, dict) and "assets" in model


def read_joint(path: str | os.PathLike[str]) -> JointModel:
    """Read and check a joint model file; everything wrong with it is raised together as one `UserError`."""
    text = read_text(path)
    content = parsed(path, text)
    check = Check(str(path))
    check.keys("", content, required=("model", "parameters", "correlation", "assets"), allowed=TABLES)
    model, parameters = check.table(content, "model"), check.table(content, "parameters")
    check.keys("model", model, required=("assets",), allowed=("assets", "jumps", "regimes"))
    assets = _assets(check, model.get("assets"))
    for kind in ("jumps", "regimes"):
        if kind in model and model[kind] not in KINDS[kind]:
            check.add(f"model.{kind}", f"found {model[kind]!r}; expected {' or '.join(map(repr, KINDS[kind]))}")
    raise_all(check.problems)  # without these nothing else has a meaning
    jumps, regimes = model.get("jumps"), model.get("regimes")
    shared = shared_ranges(jumps, regimes)
    if "parameters" in content:
        check_parameters(check, shared, parameters)
    errors = check.table(content, "standard_errors")
    check_standard_errors(check, shared, errors)
    own, own_errors = _each(check, check.table(content, "assets"), assets, jumps, regimes)
    moves = any(parts.family != "constant" for parts, _ in own.values())
    correlation = _matrices(check, content, "correlation", matrix_names(regimes, moves), assets, exact=True)
    spread = _matrices(check, content, "correlation_standard_errors", matrix_names(regimes, moves), assets, exact=False)
    fit = check.table(content, "fit")
    check.keys("fit", fit, allowed=tuple(FIT_KEYS))
    check.types("fit", fit, FIT_KEYS)
    goodness = check.rows(content, "goodness", {"asset": str} | GOODNESS_KEYS)
    dependence = check.rows(content, "dependence", DEPENDENCE_KEYS)
    raise_all(check.problems)
    found = JointModel(
        assets, jumps, regimes, _floats(parameters, shared), correlation, own, Path(path).name, sha256_of(text),
        _floats(errors, errors), own_errors, spread, fit, goodness, dependence,
    )  # fmt: skip
    _check_together(check, found)
    raise_all(check.problems)
    return found


def joint_text(joint: JointModel) -> str:
    """The text of a joint model's file."""
    whole = {"assets": list(joint.assets), "jumps": joint.jumps, "regimes": joint.regimes}
    blocks = [
        "# Several assets that move together. What each number means: models/README.md.",
        toml_table("[model]", {key: value for key, value in whole.items() if value is not None}),
        toml_table("[parameters]", joint.parameters),
        _matrix_table("[correlation]", joint.correlation),
    ]
    for asset, (parts, own) in joint.own.items():
        named = {kind: name for kind, name in parts._asdict().items() if name is not None}
        ordered = {name: own[name] for name in own_ranges(parts, joint.jumps, joint.regimes)}
        blocks += [toml_table(f"[assets.{asset}.model]", named), toml_table(f"[assets.{asset}.parameters]", ordered)]
        if joint.own_standard_errors.get(asset):
            blocks.append(toml_table(f"[assets.{asset}.standard_errors]", joint.own_standard_errors[asset]))
    if joint.standard_errors:
        blocks.append(toml_table("[standard_errors]", joint.standard_errors))
    if joint.correlation_standard_errors:
        blocks.append(_matrix_table("[correlation_standard_errors]", joint.correlation_standard_errors))
    if joint.fit:
        blocks.append(toml_table("[fit]", joint.fit))
    blocks += [toml_table("[[goodness]]", row) for row in joint.goodness]
    blocks += [toml_table("[[dependence]]", row) for row in joint.dependence]
    return "\n\n".join(blocks) + "\n"


def write_joint(path: Path, joint: JointModel) -> None:
    """Write a joint model's file; a reader sees the old one or the whole new one."""
    write_text(path, joint_text(joint))


# --- what a file may say --------------------------------------------------------------------------------------------------


def shared_ranges(jumps: str | None, regimes: str | None) -> Ranges:
    """The parameters of what assets share. Shared jumps come at a constant rate, since volatilities differ from asset to asset."""
    ranges: Ranges = {}
    if jumps is not None:
        ranges |= ARRIVALS["constant"] | SIZES[jumps]
    if regimes is not None:
        ranges |= {name: limits for name, limits in REGIMES[regimes].items() if name != CRASH_VOLATILITY}
    return ranges


def own_ranges(parts: Parts, jumps: str | None, regimes: str | None) -> Ranges:
    """The parameters of one asset."""
    ranges = parts.ranges()
    if jumps is not None:
        ranges = ranges | {BETA: Range(0, 100)}
    return ranges | ({CRASH_VOLATILITY: MULTIPLIER} if regimes is not None else {})


def matrix_names(regimes: str | None, moves: bool) -> tuple[str, ...]:
    """The correlation matrices that a model needs."""
    return ("calm", *(("crash",) if regimes is not None else ()), *(("volatility",) if moves else ()))


# --- checks ---------------------------------------------------------------------------------------------------------------


def _assets(check: Check, found: Any) -> tuple[str, ...]:
    expected = f'expected 2 to {_MOST_ASSETS} different names such as ["BTC", "ETH"], of letters, digits, - and _'
    if not isinstance(found, list) or not all(isinstance(name, str) and _NAME.fullmatch(name) for name in found):
        check.add("model.assets", f"found {found!r}; {expected}")
        return ()
    if len(set(found)) < len(found) or not 2 <= len(found) <= _MOST_ASSETS:
        check.add("model.assets", f"found {found!r}; {expected}")
    return tuple(found)


def _each(
    check: Check, tables: Mapping[str, Any], assets: tuple[str, ...], jumps: str | None, regimes: str | None
) -> tuple[dict[str, tuple[Parts, dict[str, float]]], dict[str, dict[str, float]]]:
    """Parts, parameters and standard errors of each asset."""
    check.keys("assets", tables, required=assets, allowed=assets)
    own, errors = {}, {}
    for asset in assets:
        if asset not in tables:
            continue
        inner = Check(check.path, f"assets.{asset}.")
        table = inner.table(tables, asset) if isinstance(tables[asset], dict) else None
        if table is None:
            check.add(
                f"assets.{asset}", f"found {tables[asset]!r}; expected a table, written as [assets.{asset}.model]"
            )
            continue
        inner.keys("", table, required=("model", "parameters"), allowed=("model", "parameters", "standard_errors"))
        model, parameters = inner.table(table, "model"), inner.table(table, "parameters")
        parts = check_parts(inner, model) if "model" in table else None
        if parts is not None and (parts.family not in FAMILIES or parts.regimes is not None):
            found = f"found {parts.family!r}" if parts.regimes is None else "found regimes of its own"
            expected = (
                f"expected the family {' or '.join(map(repr, FAMILIES))}, with regimes under [model] for all assets"
            )
            inner.add("model", f"{found}; {expected}")
            parts = None
        if parts is not None:
            ranges = own_ranges(parts, jumps, regimes)
            if "parameters" in table:
                check_parameters(inner, ranges, parameters)
            check_standard_errors(inner, ranges, inner.table(table, "standard_errors"))
            if not inner.problems:
                own[asset] = (parts, _floats(parameters, ranges))
                errors[asset] = _floats(table.get("standard_errors", {}), table.get("standard_errors", {}))
        check.problems += inner.problems
    return own, errors


def _matrices(
    check: Check,
    content: Mapping[str, Any],
    table: str,
    names: tuple[str, ...],
    assets: tuple[str, ...],
    *,
    exact: bool,
) -> dict[str, np.ndarray]:
    """Square tables of numbers, symmetric, in the order of the assets; correlations (`exact`) have ones on the diagonal and lie
    between -1 and 1."""
    given = check.table(content, table)
    check.keys(table, given, required=names if exact else (), allowed=names)
    found = {}
    for name in names:
        if name not in given:
            continue
        value, size = given[name], len(assets)
        shaped = isinstance(value, list) and len(value) == size
        if not shaped or not all(
            isinstance(row, list) and len(row) == size and all(is_kind(x, float) for x in row) for row in value
        ):
            check.add(
                f"{table}.{name}", f"found {str(value)[:60]}; expected {size} rows of {size} numbers, one an asset"
            )
            continue
        matrix = np.array(value, np.float64)
        off = np.argwhere(np.abs(matrix - matrix.T) > _ROUNDING)
        if len(off):
            one, other = off[0]
            found_there = (
                f"found {matrix[one, other]:g} for {assets[one]} and {assets[other]}, {matrix[other, one]:g} for"
            )
            check.add(f"{table}.{name}", f"{found_there} the same two the other way round; make them equal")
        elif exact and (np.abs(np.diag(matrix) - 1) > _ROUNDING).any():
            check.add(f"{table}.{name}", f"found {np.diag(matrix).tolist()} on the diagonal; expected ones")
        elif exact and (np.abs(matrix) > 1 + _ROUNDING).any():
            check.add(f"{table}.{name}", f"found {np.abs(matrix).max():g}; expected numbers from -1 to 1")
        else:
            found[name] = (matrix + matrix.T) / 2
    return found


def _check_together(check: Check, joint: JointModel) -> None:
    """What is wrong with parts that are each right by themselves."""
    before = len(check.problems)
    for name, matrix in joint.correlation.items():
        _check_definite(check, f"correlation.{name}", matrix, "")
    for asset in joint.assets:
        merged = joint.marginal(asset).parameters
        if joint.jumps is not None:
            merged = merged | {"jumps_per_year": merged["jumps_per_year"] + joint.parameters["jumps_per_year"]}
        for name, message in joint_problems(merged):
            check.add(f"assets.{asset}.parameters.{name}", f"with those of all assets: {message}")
    if len(check.problems) == before and "volatility" in joint.correlation:
        for name in ("calm", "crash"):
            if name in joint.correlation:
                because = " once each asset's leverage_correlation is taken out"
                _check_definite(check, f"correlation.{name}", returns_given_volatility(joint, name), because)


def _check_definite(check: Check, key: str, matrix: np.ndarray, because: str) -> None:
    least = float(np.linalg.eigvalsh(matrix)[0])
    if least >= _LEAST_EIGENVALUE and math.isfinite(least):
        return
    # Mixed with the unit matrix every eigenvalue moves towards 1 in proportion.
    most = (1 - _LEAST_EIGENVALUE) / (1 - least)
    shrink = math.floor(1000 * most) / 1000
    found = f"found a matrix that no returns have{because}: its smallest eigenvalue is {least:.3g}"
    check.add(
        key, f"{found}, expected at least {_LEAST_EIGENVALUE:g}; multiply all but the diagonal by {shrink:g} or less"
    )


def returns_given_volatility(joint: JointModel, name: str) -> np.ndarray:
    """Correlation of what volatility's normals leave of the assets' returns: with correlations `c` of returns, `v` of changes of
    log-volatility and leverage `r`, `(c_ij - r_i r_j v_ij) / sqrt((1 - r_i^2) (1 - r_j^2))`."""
    leverage = np.array([joint.own[asset][1].get("leverage_correlation", 0.0) for asset in joint.assets])
    volatility = joint.correlation.get("volatility", np.eye(len(joint.assets)))
    rest = np.sqrt(1 - leverage**2)
    matrix = (joint.correlation[name] - np.outer(leverage, leverage) * volatility) / np.outer(rest, rest)
    return matrix


def _floats(values: Mapping[str, Any], names: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(values[name]) for name in names if name in values and is_kind(values[name], float)}


def _matrix_table(header: str, matrices: Mapping[str, np.ndarray]) -> str:
    lines = [header]
    for name, matrix in matrices.items():
        rows = (f"  [{', '.join(toml_literal(float(value)) for value in row)}]," for row in matrix)
        lines += [f"{name} = [", *rows, "]"]
    return "\n".join(lines)
