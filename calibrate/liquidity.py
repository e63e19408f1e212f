"""How deep the market is, and what liquidations do to its price.

Liquidated positions are sold (longs) or bought back (shorts) in the market. The flow that the book has not yet absorbed
displaces the price, linearly while it is small and with its square root once it is large, the crossover that is observed
(Bucci et al. 2019, arXiv 1811.05230); this keeps the slope finite at zero flow. Depth falls as volatility rises. The flow
decays on a fast and a slow time scale and leaves a permanent part. Because impact acts on the accumulated flow and not on the
volume of one step, it does not depend on the step size.
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from calibrate.compiled import with_slopes
from calibrate.units import PerPath, Scalar

# Depth is quoted as the flow that moves the price by two per cent, as market data vendors do.
_QUOTED_MOVE = 0.02


class Flow(NamedTuple):
    """Net selling by liquidations that the market has not absorbed, by how it fades; share of initial open interest."""

    fast: PerPath
    slow: PerPath
    permanent: PerPath

    @property
    def total(self) -> PerPath:
        return self.fast + self.slow + self.permanent

    @property
    def fading(self) -> PerPath:
        """What still has to be absorbed; the permanent part is the new price."""
        return self.fast + self.slow


class Liquidity(eqx.Module):
    """`depth` is the flow, as a share of initial open interest, that moves the price by 2 % at median volatility; it
    falls with volatility to the power `volatility_exponent`. `crossover` is the share of depth at which impact turns from
    linear to square root. Weights of the three parts of the flow sum to 1; times are in years."""

    depth: Scalar
    volatility_exponent: Scalar
    crossover: Scalar
    fast_weight: Scalar
    slow_weight: Scalar
    fast_time: Scalar
    slow_time: Scalar

    def start(self, like: PerPath) -> Flow:
        zero = jnp.zeros_like(like)
        return Flow(zero, zero, zero)

    def fade(self, flow: Flow, dt: Scalar) -> Flow:
        return Flow(
            flow.fast * jnp.exp(-dt / self.fast_time), flow.slow * jnp.exp(-dt / self.slow_time), flow.permanent
        )

    def add(self, flow: Flow, sold: PerPath) -> Flow:
        permanent_weight = 1 - self.fast_weight - self.slow_weight
        return Flow(
            flow.fast + self.fast_weight * sold,
            flow.slow + self.slow_weight * sold,
            flow.permanent + permanent_weight * sold,
        )

    def depth_now(self, log_volatility: PerPath, depth_scale: Scalar | PerPath) -> PerPath:
        return depth_scale * self.depth * jnp.exp(-self.volatility_exponent * log_volatility)

    def displacement(self, flow: PerPath, depth: PerPath) -> PerPath:
        """By how much the flow lowers the log-price; negative where liquidations buy on balance."""
        return self._steepness() * _impact(flow / depth, self.crossover)

    def flow_that_costs(self, cost: Scalar, depth: PerPath) -> PerPath:
        """The flow whose displacement is `cost` (a fraction of the price, not negative): the inverse of impact."""
        root = cost / self._steepness() + jnp.sqrt(self.crossover)
        return depth * (root**2 - self.crossover)

    def _steepness(self) -> Float[Array, ""]:
        return _QUOTED_MOVE / (jnp.sqrt(1 + self.crossover) - jnp.sqrt(self.crossover))


@with_slopes
def _impact(relative_flow: PerPath, crossover: Scalar) -> PerPath:
    """sign(x) (sqrt(|x| + q) - sqrt(q)) in a form that needs no sign and loses no digits."""
    return relative_flow / (jnp.sqrt(jnp.abs(relative_flow) + crossover) + jnp.sqrt(crossover))
