"""Jump sizes that are exponential on either side (Kou 2002): many small ones, and large ones oftener than a normal law has them.

Sizes are exact for every step; what a step costs is told where jumps arrive (`arrival.py`, `hawkes.py`).
"""

import jax.numpy as jnp

from calibrate.market.model import Jump, Sizes
from calibrate.units import PerPath, Scalar


class KouSizes(Sizes):
    """Mean sizes are absolute log-returns."""

    up_probability: Scalar
    up_mean: Scalar
    down_mean: Scalar

    def upward(self) -> Scalar:
        return self.up_probability

    def size(self, jump: Jump) -> PerPath:
        return jnp.where(jump.upward, self.up_mean, -self.down_mean) * jump.excess

    def mean_relative(self, scale: Scalar) -> Scalar:
        up, down = scale * self.up_mean, scale * self.down_mean
        return self.up_probability * up / (1 - up) - (1 - self.up_probability) * down / (1 + down)

    def mean_square(self) -> Scalar:
        return 2 * (self.up_probability * self.up_mean**2 + (1 - self.up_probability) * self.down_mean**2)
