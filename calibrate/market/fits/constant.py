"""Constant volatility: the mean squared return over the shortest horizon, around a drift of zero. There is no state to follow."""

import numpy as np

from calibrate.market.fits.estimate import Estimate, FamilyFit, Task
from calibrate.market.moments import data_rows
from calibrate.market.targets import block_indices, rounded
from calibrate.units import SECONDS_PER_YEAR


def fit_constant(task: Task) -> Estimate:
    windows = task.windows
    squares = data_rows(task.candles, windows).returns[0] ** 2

    def annual(index: np.ndarray | slice) -> float:
        return float(np.sqrt(np.nanmean(squares[index]) * SECONDS_PER_YEAR / windows.base_s))

    rng = np.random.default_rng([task.seed, 1])
    draws = [annual(index) for index in block_indices(len(squares), task.candles, windows, rng)]
    parameters = {"volatility": rounded(annual(slice(None))), "drift": 0.0}
    return Estimate(parameters, {"volatility": rounded(float(np.std(draws, ddof=1)))})


CONSTANT = FamilyFit({"family": "constant"}, fit_constant, None, "moment of second order")
