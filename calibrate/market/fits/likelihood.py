"""Maximum likelihood, with standard errors that do not take the model at its word.

The density of each bar's return is a JAX function of the search vector, so that the search has exact slopes. Errors are the
sandwich of the Hessian with the scores of whole blocks of 30 days in the middle (White 1982; Liang and Zeger 1986): real
returns are wild in clusters, and a model without clusters that believed its own likelihood would be sure of far too much. A
simulated market that obeys the model has the usual errors.
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import minimize

from calibrate.market.fits.estimate import Estimate, Task
from calibrate.market.fits.search import Space
from calibrate.market.targets import rounded

Parameters = Mapping[str, Array] | Mapping[str, float]
LogDensity = Callable[[Mapping[str, Array], Float[Array, " bar"]], Float[Array, " bar"]]


def fit_by_likelihood(
    task: Task,
    space: Space,
    log_density: LogDensity,
    starts: Sequence[Mapping[str, float]],
    *,
    fixed: Mapping[str, float],
) -> Estimate:
    """The best of the searches from all `starts`; `fixed` are the parameters that returns cannot tell."""
    with jax.enable_x64(True):
        returns = jnp.asarray(task.returns, jnp.float64)

        def each(vector: Float[Array, " parameter"]) -> Float[Array, " bar"]:
            return log_density(space.parameters(vector, jnp), returns)

        value_and_slope = jax.jit(jax.value_and_grad(lambda vector: -each(vector).mean()))
        found = min((_search(value_and_slope, space, start) for start in starts), key=lambda end: end[0])[1]
        scores = np.asarray(jax.jit(jax.jacfwd(each))(jnp.asarray(found)))
        hessian = np.asarray(jax.jit(jax.jacfwd(jax.grad(lambda vector: -each(vector).sum())))(jnp.asarray(found)))
    parameters = {name: rounded(float(value)) for name, value in space.parameters(found).items()}
    blocks = task.blocks()
    by_block = np.stack([np.bincount(blocks, weights=score, minlength=blocks[-1] + 1) for score in scores.T], axis=1)
    errors = space.errors(found, np.sqrt(np.diag(sandwich(hessian, by_block))))
    return Estimate(
        parameters | dict(fixed), {name: rounded(error) for name, error in errors.items()}, space.notes(found)
    )


def _search(
    value_and_slope: Callable[[np.ndarray], tuple[Array, Array]], space: Space, start: Mapping[str, float]
) -> tuple[float, np.ndarray]:
    def misfit(vector: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = value_and_slope(vector)
        return float(value), np.asarray(slope, np.float64)

    inside = np.clip(space.vector(start), space.low + 1e-6, space.high - 1e-6)
    bounds = list(zip(space.low, space.high, strict=True))
    options = {"ftol": 1e-14, "gtol": 1e-8, "maxiter": 300}
    end = minimize(misfit, inside, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return float(end.fun), end.x


def sandwich(hessian: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Covariance of a search vector, from the scores of whole blocks, one row a block. Blocks are few, so what they make up for
    the mean score that they were fitted to is given back."""
    number = len(scores)
    # A parameter that moves no density gets a huge error, not a failure.
    bread = np.linalg.pinv(hessian, hermitian=True, rcond=1e-14)
    return number / (number - 1) * bread @ (scores.T @ scores) @ bread
