"""What a fit writes: a TOML file with a section that a job can take over, and beside it a figure as SVG and PNG."""

import json
import math
from pathlib import Path
from typing import Any

from calibrate.errors import Problem, UserError
from calibrate.fits.result import WorldFit
from calibrate.run_folder import write_text


def write_fit(path: Path, fit: WorldFit, *, command: str) -> None:
    """Write a fit. A reader sees the old file or the whole new one, never a part."""
    try:
        write_text(path, fit_text(fit, command=command))
    except OSError as error:
        raise UserError(
            [Problem(str(path), f"cannot be written ({error.strerror}); choose another --output")]
        ) from None


def fit_text(fit: WorldFit, *, command: str) -> str:
    """The text of a fit's file. The same fit gives the same text."""
    errors = {f.name: f.standard_error for f in fit.figures if f.standard_error is not None}
    rows = [
        {"what": row.what, **{k: v for k, v in row._asdict().items() if k != "what" and v is not None}}
        for row in fit.goodness
    ]
    origin = fit.origin | {"command": command, "errors_from": fit.errors_from, "notes": list(fit.notes)}
    blocks = [
        f"# Fitted by calibrate: {fit.title}. What the numbers mean: docs/fits.md.\n"
        f'# A job takes this over with `fit = "<this file>"` in its [{fit.section}]; keys of its own win.',
        _table(f"[{fit.section}]", fit.table),
        _table("[standard_errors]", {name: float(f"{error:.3g}") for name, error in errors.items()}),
        _table("[fit]", origin),
        *(_table("[[goodness]]", {k: _shortened(v) for k, v in row.items()}) for row in rows),
    ]
    return "\n\n".join(blocks) + "\n"


def _table(header: str, values: dict[str, Any]) -> str:
    return "\n".join([header, *(f"{name} = {_literal(value)}" for name, value in values.items())])


def _literal(value: Any) -> str:
    """A TOML literal. Tables inside a section are written in line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_literal(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        inner = [_literal(entry) for entry in value]
        long = sum(map(len, inner)) > 90
        return "[\n  " + ",\n  ".join(inner) + ",\n]" if long else f"[{', '.join(inner)}]"
    if isinstance(value, str):
        # JSON's escapes of text are TOML's too, but for one control character that JSON leaves alone.
        readable = value.encode("utf-8", "replace").decode("utf-8")
        return json.dumps(readable, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(float(value)) if isinstance(value, float) else str(int(value))


def _shortened(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) and math.isfinite(value) else value
