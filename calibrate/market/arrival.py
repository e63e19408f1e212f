"""Jumps that come independently of each other: at a constant rate, or at one that moves with volatility.

The step takes the rate at its start and has one jump at most, with the probability that keeps their number right on average: the
variance of that number is short by the probability of a jump in a step. A rate that moves with volatility is out, besides, by how
far volatility moves in a step, which averages out over its long-run law. From twice the usual volatility, the shipped model of ETH
expects 2.0, 0.5 and 0.08 % too many jumps in a day at steps of 24, 6 and 1 hours (in closed form); at a minute, 0.001 %.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool

from calibrate.market.model import Arrival
from calibrate.units import PerPath, Scalar


class ConstantArrival(Arrival):
    """`jumps_per_year`, whatever volatility does. Nothing is carried."""

    jumps_per_year: Scalar

    def start(self, like: PerPath) -> tuple[()]:
        del like
        return ()

    def rate(self, state: tuple[()], log_level: PerPath) -> PerPath:
        del state
        return self.jumps_per_year + jnp.zeros_like(log_level)

    def expected(self, state: tuple[()], log_level: PerPath, dt: Scalar) -> PerPath:
        return self.rate(state, log_level) * dt

    def step(self, state: tuple[()], occurs: Bool[Array, " path"], dt: Scalar) -> tuple[()]:
        del occurs, dt
        return state


class VolatilityLinkedArrival(Arrival):
    """`jumps_per_year` at usual volatility; the rate moves with the power `exponent` of volatility. Nothing is carried."""

    jumps_per_year: Scalar
    exponent: Scalar

    def start(self, like: PerPath) -> tuple[()]:
        del like
        return ()

    def rate(self, state: tuple[()], log_level: PerPath) -> PerPath:
        del state
        return self.jumps_per_year * jnp.exp(self.exponent * log_level)

    def expected(self, state: tuple[()], log_level: PerPath, dt: Scalar) -> PerPath:
        return self.rate(state, log_level) * dt

    def step(self, state: tuple[()], occurs: Bool[Array, " path"], dt: Scalar) -> tuple[()]:
        del occurs, dt
        return state
