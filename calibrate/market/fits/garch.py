"""GARCH(1,1) and GJR with Student-t innovations by maximum likelihood, which the library `arch` searches.

Hourly variance remembers for so long that its own long-run level hardly shows in the likelihood: left free, the fit's weights
add up to 1 and there is none. Therefore the level is that of the data (variance targeting, Engle and Mezrich 1996), and the
sum is at most what a model file may say. Errors are Bollerslev and Wooldridge's (1992), taking the level as given; the error of the
level comes from blocks of the data. Returns on either side of a gap count as neighbours.
"""

import warnings
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from calibrate.data.candles import Candles, window_returns
from calibrate.errors import UserError
from calibrate.market.fits.constant import fit_constant
from calibrate.market.fits.estimate import Estimate, FamilyFit, Known, Task
from calibrate.market.schema import MOST_PERSISTENT
from calibrate.market.targets import rounded
from calibrate.units import SECONDS_PER_YEAR

if TYPE_CHECKING:
    from arch.univariate.base import ARCHModelResult

NAMES = {"alpha[1]": "garch_alpha", "gamma[1]": "garch_gamma", "beta[1]": "garch_beta", "nu": "degrees_of_freedom"}


def fit_garch(task: Task) -> Estimate:
    return _estimate(task, asymmetric=False)


def fit_gjr(task: Task) -> Estimate:
    return _estimate(task, asymmetric=True)


def _estimate(task: Task, *, asymmetric: bool) -> Estimate:
    level = fit_constant(task)
    found = _search(task.returns, asymmetric)
    # The search's own scale and length of bars; a model file's parameters have neither.
    parameters = {ours: float(found.params[name]) for name, ours in NAMES.items() if name in found.params}
    errors = {ours: rounded(float(found.std_err[name])) for name, ours in NAMES.items() if name in found.params}
    notes = _notes(parameters)
    parameters = {name: rounded(_within(name, value)) for name, value in parameters.items()}
    parameters["garch_beta"] = _stationary_beta(parameters)
    fixed = {"bar_s": task.candles.interval_s, "drift": 0.0}
    return Estimate(level.parameters | parameters | fixed, level.standard_errors | errors, notes)


def _search(returns: np.ndarray, asymmetric: bool) -> "ARCHModelResult":
    from arch.univariate import StudentsT, ZeroMean

    scaled = returns / np.sqrt(np.mean(returns**2))
    volatility = _targeted()(o=int(asymmetric))
    model = ZeroMean(scaled, volatility=volatility, distribution=StudentsT(), rescale=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a search that ends badly the flag below tells
        found = model.fit(disp="off", cov_type="robust", options={"maxiter": 500})
    if found.convergence_flag:
        raise UserError(f"the GARCH fit found no maximum ({found.optimization_result.message}); use a longer file")
    return found


@cache
def _targeted() -> Any:
    """GARCH of returns of mean square 1, whose long-run variance is 1 too; made when it is wanted, as `arch` loads slowly."""
    from arch.univariate import GARCH

    class TargetedGarch(GARCH):
        """One parameter less: the base of variance follows from the others."""

        def __init__(self, o: int):
            super().__init__(p=1, o=o, q=1)
            self._num_params -= 1

        def parameter_names(self) -> list[str]:
            return super().parameter_names()[1:]

        def bounds(self, resids: Any) -> list[tuple[float, float]]:
            return [(0.0, 1.0)] * self._num_params

        def constraints(self) -> tuple[np.ndarray, np.ndarray]:
            matrix, least = super().constraints()
            least[-1] = -MOST_PERSISTENT
            return matrix[1:, 1:], least[1:]

        def starting_values(self, resids: Any) -> np.ndarray:
            return np.array([0.06, *[0.02] * self.o, 0.92])

        def compute_variance(
            self, parameters: np.ndarray, resids: Any, sigma2: Any, backcast: Any, var_bounds: Any
        ) -> np.ndarray:
            weights = np.array([1.0, *[0.5] * self.o, 1.0])
            base = max(1 - float(weights @ parameters), 1e-12)
            return super().compute_variance(np.append(base, parameters), resids, sigma2, backcast, var_bounds)

    return TargetedGarch


def _notes(parameters: Mapping[str, float]) -> tuple[str, ...]:
    notes = []
    if _persistence(parameters) > MOST_PERSISTENT - 1e-5:
        notes.append(
            f"variance remembers as long as it may (persistence {MOST_PERSISTENT:g}): standard errors of garch_alpha, "
            "garch_gamma and garch_beta mean little"
        )
    if parameters.get("garch_gamma", 1.0) < 1e-6:
        notes.append("garch_gamma ended at 0: falls raise variance no more than rises")
    return tuple(notes)


def _persistence(parameters: Mapping[str, float]) -> float:
    return parameters["garch_alpha"] + parameters["garch_beta"] + parameters.get("garch_gamma", 0.0) / 2


def _within(name: str, value: float) -> float:
    """The search may step over an edge by rounding."""
    return max(value, 0.0) if name != "degrees_of_freedom" else min(value, 1000.0)


def _stationary_beta(parameters: Mapping[str, float]) -> float:
    """Beta, without what rounding to six digits has added above the largest persistence."""
    return rounded(parameters["garch_beta"] - max(0.0, _persistence(parameters) - MOST_PERSISTENT + 1e-6))


# --- the state --------------------------------------------------------------------------------------------------------


def follow_garch(estimate: Estimate, candles: Candles) -> Known:
    """The recursion itself: variance at the close of a bar is known for sure. It starts at its long-run mean and stands still
    over a gap."""
    variance = variances(estimate.parameters, candles)
    level = np.log(variance) / 2
    return Known(level, np.zeros_like(level))


def variances(parameters: Mapping[str, float], candles: Candles) -> np.ndarray:
    """For each bar the variance of the next one, relative to the long-run mean."""
    alpha, beta, gamma = (parameters.get(f"garch_{name}", 0.0) for name in ("alpha", "beta", "gamma"))
    base = 1 - _persistence(parameters)
    scale = parameters["volatility"] ** 2 * candles.interval_s / SECONDS_PER_YEAR
    returns = window_returns(candles, 1)
    squares = np.where(np.isfinite(returns), returns**2 / scale, -1.0)
    feedback = np.where(returns < 0, alpha + gamma, alpha) * squares
    now, found = 1.0, [1.0]
    for square, added in zip(squares.tolist(), feedback.tolist(), strict=True):
        if square >= 0:
            now = base + added + beta * now
        found.append(now)
    return np.array(found)


GARCH = FamilyFit({"family": "garch"}, fit_garch, follow_garch, "maximum likelihood (arch)")
GJR_GARCH = FamilyFit({"family": "gjr-garch"}, fit_gjr, follow_garch, "maximum likelihood (arch)")
