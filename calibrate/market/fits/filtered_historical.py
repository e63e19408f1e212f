"""Filtered historical simulation: GJR's forecasts of volatility, and the returns themselves divided by them.

The recursion is the one that `garch.py` fits with Student-t innovations. Residuals are centred and scaled to mean square 1, so
that the recursion keeps its long-run level. What dependence is left in their size says how long blocks must be (Politis and White
2004, for the stationary bootstrap; found by `arch`).
"""

import numpy as np

from calibrate.data.candles import window_returns
from calibrate.market.fits.estimate import Estimate, FamilyFit, Task
from calibrate.market.fits.garch import fit_gjr, follow_garch, variances
from calibrate.market.schema import VOLATILITIES
from calibrate.market.targets import rounded


def fit_filtered_historical(task: Task) -> Estimate:
    gjr = fit_gjr(task)
    residuals = _residuals(gjr, task)
    parameters = gjr.parameters | {"block_bars": _block_bars(residuals)}
    kept = (*VOLATILITIES["filtered-historical"], "drift")
    errors = {name: error for name, error in gjr.standard_errors.items() if name in kept}
    return Estimate({name: parameters[name] for name in kept}, errors, gjr.notes, residuals)


def _residuals(gjr: Estimate, task: Task) -> np.ndarray:
    """To six digits, as they are written."""
    returns = window_returns(task.candles, 1)
    forecast = np.sqrt(variances(gjr.parameters, task.candles)[:-1])
    known = np.isfinite(returns)
    residuals = returns[known] / forecast[known]
    residuals = (residuals - residuals.mean()) / residuals.std()
    return np.array([rounded(value) for value in residuals.tolist()])


def _block_bars(residuals: np.ndarray) -> float:
    from arch.bootstrap import optimal_block_length

    return rounded(max(1.0, float(optimal_block_length(np.abs(residuals))["stationary"].iloc[0])), 3)


FILTERED_HISTORICAL = FamilyFit(
    {"family": "filtered-historical"}, fit_filtered_historical, follow_garch, "GJR by maximum likelihood (arch)"
)
