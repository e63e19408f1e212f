"""The history of a filtered historical simulation: past returns over the volatility that was forecast for them, as a CSV file with
one column, `residual`, in the order of time."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from calibrate.errors import Problem, UserError

FEWEST = 250
# Residuals of a forecast that fits have mean square 1 and hardly a mean.
ROOT_MEAN_SQUARE, LARGEST_MEAN = (0.8, 1.25), 0.1


def read_residuals(path: Path) -> tuple[np.ndarray, str]:
    """The residuals in a file, and the hash of its bytes."""
    try:
        content = path.read_bytes()
        table = pd.read_csv(path, dtype=str, encoding="utf-8")
    except OSError as error:
        found = error.strerror or type(error).__name__
        raise UserError([Problem(str(path), f"cannot read the file ({found}); check the name in the model")]) from error
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError([Problem(str(path), f"not readable as CSV: {error}; expected a column `residual`")]) from error
    if "residual" not in table:
        raise UserError([Problem(str(path), f"found columns {list(table)}; expected a column `residual`")])
    values = pd.to_numeric(table["residual"], errors="coerce").to_numpy(np.float64)
    problem = _problem(values, table["residual"])
    if problem is not None:
        raise UserError([Problem(str(path), problem)])
    return values, hashlib.sha256(content).hexdigest()


def residuals_text(residuals: np.ndarray) -> str:
    """The text of a file of residuals."""
    return "\n".join(["residual", *map(repr, residuals.tolist())]) + "\n"


def _problem(values: np.ndarray, text: pd.Series) -> str | None:
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        return f"line {bad[0] + 2}: found {text.iloc[bad[0]]!r}; expected a number"
    if len(values) < FEWEST:
        return f"found {len(values)} residuals; expected at least {FEWEST}"
    mean, size = float(values.mean()), float(np.sqrt((values**2).mean()))
    low, high = ROOT_MEAN_SQUARE
    if abs(mean) > LARGEST_MEAN or not low <= size <= high:
        expected = f"a mean within {LARGEST_MEAN:g} of 0 and a root mean square between {low:g} and {high:g}"
        return f"found mean {mean:.3g} and root mean square {size:.3g}; expected {expected}: divide returns by their forecasts"
    return None
