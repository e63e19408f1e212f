"""The method of simulated moments (McFadden 1989; Duffie and Singleton 1993), whatever the model.

The targets (`targets.py`) are what losses depend on, above all the tails of one-hour and one-day returns, pooled over the whole
file: calm years and crashes together. The model is simulated with random numbers that are drawn once, so that the misfit is a
smooth function of the parameters, which a weighted least-squares search minimises from several starts. Standard errors are the
sandwich formula with the covariance of the targets.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from calibrate.market.fits.estimate import Estimate, FamilyFit, Task
from calibrate.market.fits.search import Space
from calibrate.market.moments import SECONDS_PER_YEAR, Moments
from calibrate.market.simulated import short_histories_moments
from calibrate.market.targets import BLOCK_DAYS, Targets, rounded
from calibrate.shocks import derived_seed

# A model's moments on random numbers that stay the same, as a function of its parameters.
MomentsOf = Callable[[Mapping[str, float]], Moments]


@dataclass(frozen=True)
class Misfit:
    """Weighted residuals of the targets as a function of the search vector. `excess` is a penalty for what a model file may not
    say, zero within. Prices are expected to stand still."""

    targets: Targets
    space: Space
    moments: MomentsOf
    excess: Callable[[Mapping[str, float]], float] = lambda parameters: 0.0

    def parameters(self, vector: np.ndarray) -> dict[str, float]:
        return {name: float(value) for name, value in self.space.parameters(vector).items()} | {"drift": 0.0}

    def residuals(self, vector: np.ndarray) -> np.ndarray:
        parameters = self.parameters(vector)
        difference = self.moments(parameters).vector() - self.targets.moments.vector()
        return np.append(self.targets.weights * difference, self.excess(parameters))

    def jacobian(self, vector: np.ndarray, step: float = 0.25) -> np.ndarray:
        """Central differences. A simulated quantile is one return, whose own slope is noise: the step is wide enough to
        average over many."""
        columns = []
        for place in range(len(vector)):
            up, down = vector.copy(), vector.copy()
            up[place] = min(vector[place] + step, self.space.high[place])
            down[place] = max(vector[place] - step, self.space.low[place])
            columns.append((self.residuals(up) - self.residuals(down)) / (up[place] - down[place]))
        return np.stack(columns, axis=1)

    def search(self, start: np.ndarray, steps: int) -> tuple[float, np.ndarray]:
        """The misfit and the vector at which at most so many steps end."""
        low, high = self.space.low, self.space.high
        inside = np.clip(start, low + 1e-6, high - 1e-6)
        end = least_squares(
            self.residuals, inside, jac=self.jacobian, bounds=(low, high), max_nfev=steps, ftol=1e-4, xtol=1e-4
        )
        return 2 * float(end.cost), end.x

    def best_first(self, guesses: Sequence[Mapping[str, float]]) -> list[np.ndarray]:
        """Search vectors of places to start from, the best first."""
        starts = []
        for number, guess in enumerate(guesses):
            vector = np.clip(self.space.vector(guess), self.space.low + 0.01, self.space.high - 0.01)
            starts.append((float(np.sum(self.residuals(vector) ** 2)), number, vector))
        return [vector for _, _, vector in sorted(starts, key=lambda start: start[:2])]

    def standard_errors(self, vector: np.ndarray, data_per_simulation: float) -> dict[str, float]:
        """Sandwich formula (Duffie and Singleton 1993): the weights are not the optimal ones, so the covariance of the
        targets stands in the middle. The simulated history adds its own noise in proportion to its length."""
        jacobian = self.jacobian(vector)
        middle = np.zeros((len(jacobian), len(jacobian)))
        weighted = self.targets.weights[:, None] * self.targets.covariance * self.targets.weights
        middle[:-1, :-1] = weighted * (1 + data_per_simulation)
        normal = jacobian.T @ jacobian
        # A parameter that moves no target gets a huge error, not a failure.
        outer = np.linalg.solve(normal + 1e-9 * np.trace(normal) * np.eye(len(vector)), jacobian.T)
        errors = np.sqrt(np.diag(outer @ middle @ outer.T))
        return {name: rounded(error) for name, error in self.space.errors(vector, errors).items()}


def engine_moments(family: FamilyFit, task: Task, years: float, number: int) -> MomentsOf:
    """Moments of a family on histories of the engine; `number` tells one set of random numbers from another."""
    seed = derived_seed(task.seed, "moments", number)

    def moments(parameters: Mapping[str, float]) -> Moments:
        model = family.file_of(Estimate(dict(parameters), {}))
        return short_histories_moments(model, task.windows, seed=seed, years=years)

    return moments


def fit_moments(
    task: Task, misfit_of: Callable[[float, int], Misfit], guesses: Sequence[Mapping[str, float]], *, starts: int
) -> Estimate:
    """Several starts on a short history; from the best of their ends on to the full one, by default sixteen times as long as the
    candles, between 20 and 80 years. `misfit_of` takes the length of a history in years and the number of its random numbers."""
    spans_s = np.diff(task.candles.ts) / 1000
    years = (
        float(spans_s[spans_s <= BLOCK_DAYS * 86_400].sum()) / SECONDS_PER_YEAR
    )  # a longer gap is between windows of data
    length = task.simulated_years or min(max(16 * years, 20.0), 80.0)
    short, searches = misfit_of(length / 3, 2), starts + 1
    ends = []
    for number, start in enumerate(short.best_first(guesses)[:starts], 1):
        cost, vector = short.search(start, steps=8)
        task.tell(f"search {number} of {searches}: misfit {cost:.1f}")
        ends.append((cost, number, vector))
    full = misfit_of(length, 3)
    cost, vector = full.search(min(ends, key=lambda end: end[:2])[2], steps=15)
    task.tell(f"search {searches} of {searches}: misfit {cost:.1f} on {length:.0f} simulated years")
    parameters = {name: rounded(value) for name, value in full.parameters(vector).items()}
    return Estimate(parameters, full.standard_errors(vector, years / length), full.space.notes(vector))


def annual_size(task: Task) -> float:
    """The annual volatility whose normal returns have the data's mean absolute return over the shortest horizon."""
    return float(task.targets.moments.mean_absolute[0] * np.sqrt(np.pi / 2 * SECONDS_PER_YEAR / task.windows.base_s))
