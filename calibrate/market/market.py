"""A market: the parts of a model joined, and one step of all of them.

The log-return of a step is the drift less what the parts themselves let the price grow by on average (the diffusion's Ito
term, the expected jump), plus the diffusion's surprise and the jump.
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool

from calibrate.extremes import smaller
from calibrate.market.model import Arrival, Jump, JumpLaw, Sizes, State, StepShocks, Volatility, joined_law
from calibrate.market.regimes import CALM, Multipliers, RegimeLaw, Regimes
from calibrate.shocks import Needs, StartDraws
from calibrate.units import PerPath, Scalar


class MarketState(NamedTuple):
    """Log-price relative to the start, what the parts carry, and whether there is a crash (None in a market of one regime)."""

    log_price: PerPath
    volatility: State
    arrival: State
    crash: Bool[Array, " path"] | None


class MarketMove(NamedTuple):
    """What a step did: the volatility (annual) and its log-level that ruled in it, and its jump in the log-price; what the regime
    makes of depth, and whether it is a crash, in which the oracle is late."""

    volatility: PerPath
    log_volatility: PerPath
    jump: PerPath
    depth_multiplier: PerPath | float
    crash: Bool[Array, " path"] | None


class Jumps(eqx.Module):
    """A jump part: when jumps come, and how large they are."""

    arrival: Arrival
    sizes: Sizes


class Market(eqx.Module):
    """A market model. Prices are expected to grow at `drift`, annual. Every step takes a `scale` that multiplies diffusive
    volatility and jump sizes alike: the level of all risk, 1 by default. `moves` multiplies them too: how far this price moves
    where the parts describe another one (None: as far). `shared` are jumps that come to all assets of a joint model at once, in
    the size that they have here; whoever has them has `jumps` too, if only at a rate of zero."""

    volatility: Volatility
    drift: Scalar
    jumps: Jumps | None = None
    regimes: Regimes | None = None
    moves: Scalar | None = None
    shared: Jumps | None = None

    @property
    def needs(self) -> Needs:
        return self.volatility.needs._replace(regime_uniform=self.regimes is not None)

    def start(self, draws: StartDraws) -> MarketState:
        zero = jnp.zeros_like(draws.normal)
        crash = None if self.regimes is None else self.regimes.start(draws)
        return MarketState(zero, self.volatility.start(draws), self._arrival_at_start(zero), crash)

    def usual(self, like: PerPath) -> MarketState:
        """Calm, and all else at its usual level."""
        zero = jnp.zeros_like(like)
        crash = None if self.regimes is None else zero > 0
        return MarketState(zero, self.volatility.usual(like), self._arrival_at_start(zero), crash)

    def jump_law(self, state: MarketState, dt: Scalar, rate_scale: Scalar | float = 1.0) -> JumpLaw | None:
        """The law of jumps in a step from this state; None for a model without jumps. `rate_scale` multiplies their rate."""
        if self.jumps is None:
            return None
        level, rate_scale = self.volatility.log_level(state.volatility), rate_scale * self._regime(state).jumps
        probability = smaller(rate_scale * self.jumps.arrival.expected(state.arrival, level, dt), 1.0)
        own = JumpLaw(probability, self.jumps.sizes.upward())
        if self.shared is None:
            return own
        of_all = smaller(rate_scale * self.shared.arrival.expected((), level, dt), 1.0)
        return joined_law(own, JumpLaw(of_all, self.shared.sizes.upward()))

    def regime_law(self, state: MarketState, dt: Scalar) -> RegimeLaw | None:
        """The law of the regime a step from this state; None for a market of one."""
        return None if self.regimes is None or state.crash is None else self.regimes.law(state.crash, dt)

    def step(self, state: MarketState, shocks: StepShocks, dt: Scalar, scale: Scalar) -> tuple[MarketState, MarketMove]:
        """The state one step of `dt` years later, and what happened in it."""
        scale = scale if self.moves is None else scale * self.moves
        level, regime = self.volatility.log_level(state.volatility), self._regime(state)
        volatility, diffusion = self.volatility.step(
            state.volatility, shocks, self.drift, dt, scale * regime.volatility
        )
        if self.jumps is None:
            arrival, jump = state.arrival, jnp.zeros_like(diffusion.noise)
            log_return = diffusion.mean + diffusion.noise
        else:
            assert shocks.law is not None
            assert shocks.jump is not None
            occurs, of_all = shocks.jump.occurs, shocks.jump.shared
            jump = scale * jnp.where(occurs, self._size(self.jumps, shocks.jump), 0.0)
            arrival = self.jumps.arrival.step(state.arrival, occurs if of_all is None else occurs & ~of_all, dt)
            log_return = diffusion.mean - self._compensator(self.jumps, shocks.law, scale) + diffusion.noise + jump
        move = MarketMove(diffusion.volatility, level, jump, regime.depth, state.crash)
        after = MarketState(state.log_price + log_return, volatility, arrival, self._next_regime(state, shocks, dt))
        return after, move

    def variance_rate(self, state: MarketState, scale: Scalar) -> PerPath:
        """Expected annual variance of log-returns, diffusion and jumps, from this state."""
        scale = scale if self.moves is None else scale * self.moves
        regime = self._regime(state)
        rate = regime.volatility**2 * self.volatility.variance_rate(state.volatility)
        if self.jumps is not None:
            arrivals = self.jumps.arrival.rate(state.arrival, self.volatility.log_level(state.volatility))
            rate = rate + regime.jumps * arrivals * self.jumps.sizes.mean_square()
            if self.shared is not None:
                of_all = self.shared.arrival.rate((), self.volatility.log_level(state.volatility))
                rate = rate + regime.jumps * of_all * self.shared.sizes.mean_square()
        return scale**2 * rate

    def _size(self, own: Jumps, jump: Jump) -> PerPath:
        """The log-return of jumps where they occur, at scale 1."""
        size = own.sizes.size(jump)
        if self.shared is None or jump.shared is None:
            return size
        return jnp.where(jump.shared, self.shared.sizes.size(jump), size)

    def _compensator(self, own: Jumps, law: JumpLaw, scale: Scalar) -> PerPath:
        """What jumps let the price grow by on average in a step."""
        if self.shared is None or law.shared is None:
            return law.probability * own.sizes.mean_relative(scale)
        of_all = law.shared.probability
        relative = self.shared.sizes.mean_relative(scale)
        return (law.probability - of_all) * own.sizes.mean_relative(scale) + of_all * relative

    def _regime(self, state: MarketState) -> Multipliers:
        return CALM if self.regimes is None or state.crash is None else self.regimes.multipliers(state.crash)

    def _next_regime(self, state: MarketState, shocks: StepShocks, dt: Scalar) -> Bool[Array, " path"] | None:
        if self.regimes is None or state.crash is None or shocks.regime_uniform is None:
            return None
        return self.regimes.step(state.crash, shocks.regime_uniform, dt)

    def _arrival_at_start(self, zero: PerPath) -> State:
        return () if self.jumps is None else self.jumps.arrival.start(zero)


def jumped(state: MarketState, move: MarketMove, by: PerPath) -> tuple[MarketState, MarketMove]:
    """The same step with a jump more at its end, which comes from outside the model."""
    return state._replace(log_price=state.log_price + by), move._replace(jump=move.jump + by)
