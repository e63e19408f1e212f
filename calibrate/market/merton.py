"""Jump sizes that are normal (Merton 1976).

"Upward" is above the mean, which comes half of the time. The distance from it is half-normal, and here the monotone function of
an exponential that has this law: `P(|z| > x) = exp(-excess)`. So large jumps are drawn and weighted as those of any other law.
Sizes are exact for every step; what a step costs is told where jumps arrive (`arrival.py`, `hawkes.py`).
"""

import jax.numpy as jnp
from jax.scipy.special import ndtri

from calibrate.market.model import Jump, Sizes
from calibrate.units import PerPath, Scalar


class MertonSizes(Sizes):
    """Mean and standard deviation of a jump's log-return."""

    mean: Scalar
    sd: Scalar

    def upward(self) -> Scalar:
        return jnp.full_like(self.mean, 0.5)

    def size(self, jump: Jump) -> PerPath:
        distance = -ndtri(jnp.exp(-jump.excess) / 2)
        return self.mean + self.sd * jnp.where(jump.upward, distance, -distance)

    def mean_relative(self, scale: Scalar) -> Scalar:
        return jnp.expm1(scale * self.mean + (scale * self.sd) ** 2 / 2)

    def mean_square(self) -> Scalar:
        return self.mean**2 + self.sd**2
