"""A law as a function of a standard normal: its quantiles, tabulated.

Where a law has no formula that can be drawn from along the path (a gamma, a Student-t's mixing variable, the long-run law of a
recursion), a normal's rank is looked up in its quantile function. So the same two normals drive every model, in the centre and
in the tails, and a shift of them is a shift of what is drawn. Values between knots are linear, which is off by
`step**2 / 8` of the second derivative: `1.4e-5` of it.
"""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float
from scipy.special import ndtr

from calibrate.units import PerPath

# Single-precision normals reach 6.7; shifted ones may lie further out and count as the end of the table.
_REACH, _KNOTS = 8.0, 1537


class Curve(eqx.Module):
    """Values at even steps of a standard normal. It carries no derivative in what the table was made of."""

    values: Float[Array, " knot"]

    def __call__(self, normal: PerPath) -> PerPath:
        place = (normal + _REACH) * ((_KNOTS - 1) / (2 * _REACH))
        return map_coordinates(self.values, [place], order=1, mode="nearest")


def curve_of_quantiles(quantile: Callable[[np.ndarray, np.ndarray], np.ndarray], dtype: np.dtype) -> Curve:
    """The curve of a law that is given by its quantile function, which is asked with probabilities and their complements, so
    that neither tail is lost to rounding."""
    normal = np.linspace(-_REACH, _REACH, _KNOTS)
    return Curve(jnp.asarray(quantile(ndtr(normal), ndtr(-normal)), dtype))


def curve_of_samples(samples: np.ndarray, dtype: np.dtype) -> Curve:
    """The curve of the law of samples; beyond their extremes it is flat."""
    return curve_of_quantiles(lambda below, above: np.quantile(samples, below), dtype)
