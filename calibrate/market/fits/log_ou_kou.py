"""Log-OU volatility with Kou jumps by simulated moments (McFadden 1989; Duffie and Singleton 1993).

The targets (`targets.py`) are what losses depend on, above all the tails of one-hour and one-day returns, pooled over the whole
file: calm years and crashes together. The model is simulated with random numbers that are drawn once, so that the misfit is a
smooth function of the parameters, which a weighted least-squares search minimises from several starts. Standard errors are the
sandwich formula with the covariance of the targets.
"""

from collections.abc import Mapping

import numpy as np
from scipy.optimize import least_squares

from calibrate.data.candles import Candles, window_returns
from calibrate.market.fits.estimate import Estimate, FamilyFit, Known, Task
from calibrate.market.fits.search import Space, Span
from calibrate.market.moments import (
    JUMPS_PER_STEP,
    SECONDS_PER_YEAR,
    STEP_S,
    Histories,
    Numbers,
    Windows,
    log_volatility,
    simulate,
)
from calibrate.market.schema import MOST_JUMPS_PER_WILD_MINUTE, jumps_per_wild_minute
from calibrate.market.targets import Targets, rounded

SPACE = Space(
    {
        "volatility": Span(0.01, 6.0),
        "log_volatility_sd": Span(0.05, 1.5),
        "reversion_half_life_days": Span(0.1, 180.0),
        "leverage_correlation": Span(-0.95, 0.95, "plain"),
        "jumps_per_year": Span(1.0, 20_000.0),
        "jump_volatility_exponent": Span(0.0, 3.0, "plain"),
        "jump_up_probability": Span(0.05, 0.95, "logit"),
        "jump_up_mean": Span(5e-4, 0.25),
        "jump_down_mean": Span(5e-4, 0.25),
    }
)
LOW, HIGH = SPACE.low, SPACE.high
FILTER_YEARS = 20.0


class _Misfit:
    """Weighted residuals of the targets as a function of the search vector, on random numbers drawn once."""

    def __init__(self, targets: Targets, windows: Windows, years: float, rng: np.random.Generator):
        self.targets = targets
        self.windows = windows
        self.histories = Histories(windows, years, rng)

    def residuals(self, vector: np.ndarray) -> np.ndarray:
        parameters = _parameters(vector)
        difference = self.histories.moments(parameters).vector() - self.targets.moments.vector()
        return np.append(self.targets.weights * difference, _jump_rate_excess(parameters))

    def jacobian(self, vector: np.ndarray, step: float = 0.25) -> np.ndarray:
        """Central differences. A simulated quantile is one return, whose own slope is noise: the step is wide enough to
        average over many."""
        columns = []
        for place in range(len(vector)):
            up, down = vector.copy(), vector.copy()
            up[place] = min(vector[place] + step, HIGH[place])
            down[place] = max(vector[place] - step, LOW[place])
            columns.append((self.residuals(up) - self.residuals(down)) / (up[place] - down[place]))
        return np.stack(columns, axis=1)

    def search(self, start: np.ndarray, steps: int) -> tuple[float, np.ndarray]:
        """The misfit and the vector at which at most so many steps end."""
        inside = np.clip(start, LOW + 1e-6, HIGH - 1e-6)
        bounds = (LOW, HIGH)
        end = least_squares(
            self.residuals, inside, jac=self.jacobian, bounds=bounds, max_nfev=steps, ftol=1e-4, xtol=1e-4
        )
        return 2 * float(end.cost), end.x


def _jump_rate_excess(parameters: Mapping[str, float]) -> float:
    """A penalty where wild minutes see jumps more often than half of what a model file may say."""
    return 10 * max(0.0, float(np.log(jumps_per_wild_minute(parameters) / (MOST_JUMPS_PER_WILD_MINUTE / 2))))


def _starts(misfit: _Misfit) -> list[np.ndarray]:
    """Places to start from, the best first: calm or wild, quick or slow, few large jumps or many small ones, each with
    volatility at the level that gives about the right mean absolute return."""
    size = float(misfit.targets.moments.mean_absolute[0])
    annual = size * np.sqrt(np.pi / 2 * SECONDS_PER_YEAR / misfit.windows.base_s)
    starts: list[tuple[float, int, np.ndarray]] = []
    for sd in (0.5, 0.9):
        for half_life in (1.5, 10.0):
            for jumps, jump_size, exponent in ((40.0, 3.0, 1.0), (400.0, 2.0, 1.0), (400.0, 1.5, 2.0)):
                guess = {
                    "volatility": annual * np.exp(-(sd**2) / 2),
                    "log_volatility_sd": sd,
                    "reversion_half_life_days": half_life,
                    "leverage_correlation": -0.2,
                    "jumps_per_year": jumps,
                    "jump_volatility_exponent": exponent,
                    "jump_up_probability": 0.5,
                    "jump_up_mean": jump_size * size,
                    "jump_down_mean": jump_size * size,
                }
                vector = np.clip(SPACE.vector(guess), LOW + 0.01, HIGH - 0.01)
                starts.append((float(np.sum(misfit.residuals(vector) ** 2)), len(starts), vector))
    return [vector for _, _, vector in sorted(starts, key=lambda start: start[:2])]


def fit_log_ou_kou(task: Task) -> Estimate:
    """Several starts on a short history; from the best of their ends on to the full one, by default sixteen times as long as the
    candles, between 20 and 80 years."""
    targets, windows, candles = task.targets, task.windows, task.candles
    years = float(candles.ts[-1] - candles.ts[0]) / 1000 / SECONDS_PER_YEAR
    length = task.simulated_years or min(max(16 * years, 20.0), 80.0)
    short = _Misfit(targets, windows, length / 3, np.random.default_rng([task.seed, 2]))
    ends = []
    for number, start in enumerate(_starts(short)[:3], 1):
        cost, vector = short.search(start, steps=8)
        task.tell(f"search {number} of 4: misfit {cost:.1f}")
        ends.append((cost, number, vector))
    full = _Misfit(targets, windows, length, np.random.default_rng([task.seed, 3]))
    cost, vector = full.search(min(ends, key=lambda end: end[:2])[2], steps=15)
    task.tell(f"search 4 of 4: misfit {cost:.1f} on {length:.0f} simulated years")
    parameters = {name: rounded(value) for name, value in _parameters(vector).items()}
    return Estimate(parameters, _standard_errors(full, vector, years / length), SPACE.notes(vector))


def _parameters(vector: np.ndarray) -> dict[str, float]:
    return {name: float(value) for name, value in SPACE.parameters(vector).items()} | {"drift": 0.0}


def _standard_errors(misfit: _Misfit, vector: np.ndarray, data_per_simulation: float) -> dict[str, float]:
    """Sandwich formula (Duffie and Singleton 1993): the weights are not the optimal ones, so the covariance of the
    targets stands in the middle. The simulated history adds its own noise in proportion to its length."""
    targets = misfit.targets
    jacobian = misfit.jacobian(vector)
    middle = np.zeros((len(jacobian), len(jacobian)))
    weighted = targets.weights[:, None] * targets.covariance * targets.weights
    middle[:-1, :-1] = weighted * (1 + data_per_simulation)
    normal = jacobian.T @ jacobian
    # A parameter that moves no target gets a huge error, not a failure.
    outer = np.linalg.solve(normal + 1e-9 * np.trace(normal) * np.eye(len(vector)), jacobian.T)
    errors = np.sqrt(np.diag(outer @ middle @ outer.T))
    return {name: rounded(error) for name, error in SPACE.errors(vector, errors).items()}


# --- the state --------------------------------------------------------------------------------------------------------


def follow_log_ou(estimate: Estimate, candles: Candles) -> Known:
    """Kalman's filter on the logarithm of squared returns (Harvey, Ruiz and Shephard 1994), which is log-volatility plus noise. How
    much of either, jumps included, is measured on a simulated history of the model. It makes nothing of the sign of returns."""
    parameters = estimate.parameters
    slope, level, noise = _observation(parameters, candles.interval_s)
    returns = np.concatenate([[np.nan], window_returns(candles, 1)])
    observed = (_log_square(returns) - level) / slope
    speed = np.log(2) / (parameters["reversion_half_life_days"] * 86_400)
    kept = float(np.exp(-speed * candles.interval_s))
    stationary = parameters["log_volatility_sd"] ** 2
    added, doubt = stationary * (1 - kept**2), (noise / slope) ** 2
    mean, variance = 0.0, stationary
    means, variances = [], []
    for value, seen in zip(observed.tolist(), np.isfinite(observed).tolist(), strict=True):
        if seen:
            gain = variance / (variance + doubt)
            mean, variance = mean + gain * (value - mean), (1 - gain) * variance
        mean, variance = kept * mean, kept**2 * variance + added
        means.append(mean)
        variances.append(variance)
    return Known(np.array(means), np.sqrt(variances))


def _observation(parameters: Mapping[str, float], interval_s: float) -> tuple[float, float, float]:
    """Slope, level and noise of the logarithm of a bar's squared return as a line in log-volatility at the bar's start."""
    steps = int(np.ceil(interval_s / STEP_S))
    bars = round(FILTER_YEARS * SECONDS_PER_YEAR / interval_s)
    numbers = Numbers.draw(np.random.default_rng(5), bars * steps, JUMPS_PER_STEP)
    returns = simulate(parameters, numbers, interval_s / steps).reshape(bars, steps).sum(axis=1, dtype=np.float64)
    state = log_volatility(parameters, numbers, interval_s / steps / SECONDS_PER_YEAR)[::steps]
    squares = _log_square(returns)
    slope, level = np.polyfit(state, squares, 1)
    return float(slope), float(level), float(np.std(squares - slope * state - level))


def _log_square(returns: np.ndarray) -> np.ndarray:
    """Prices move in ticks: what is below a basis point counts as one, as its logarithm would tell of the tick alone."""
    return np.log(np.maximum(returns**2, 1e-8))


LOG_OU_KOU = FamilyFit({"family": "log-ou-kou"}, fit_log_ou_kou, follow_log_ou, "simulated moments")
