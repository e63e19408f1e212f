"""How paths are drawn: by the market's own law, or more often from where losses are, with weights that make up for it.

Importance sampling draws each path from a mixture of laws (*components*): the market's own, laws in which prices and volatility
drift, at first slowly and then for a while strongly from some block of steps on, and laws in which large jumps of one direction
come on top of the market's own, for themselves and with a drift; in a market of two regimes, each of these once more with likelier
crashes (`likelier_crashes.py`). A path's weight is the market's density over that of the whole mixture (the balance heuristic of
Veach and Guibas 1995), so a weight never exceeds one over the share of the market's own law, and what the other components overlook
is merely measured as if by fewer plain paths (Hesterberg 1995, Owen and Zhou 2000). Weights are made of the shocks alone, and of
the regimes that come of them: they do not depend on the policy, nor on anything else that derivatives are taken in.

A law of normals shifted by `a` has density exp(a z - a^2 / 2) relative to the market's. Where in a step the market jumps one way
with probability p and large jumps of relative density g(x) are added with probability l, a jump has the density
1 + l (1 - p) g(x) / p, and no jump 1 - l, l of both ways together.
"""

from abc import abstractmethod
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from calibrate.extremes import larger, smaller
from calibrate.likelier_crashes import CrashesSoFar, LikelierCrashes, started, stepped
from calibrate.market.model import Jump, JumpLaw, StepShocks, draw_jump, drawn_kind
from calibrate.market.regimes import RegimeLaw
from calibrate.shocks import PathIds, Seed, Shocks, StartDraws, start_draws
from calibrate.units import Index, PerPath, Scalar


class LargeJumps(NamedTuple):
    """Jumps of one direction that come on top of the market's own where jumps are tilted: their probability in a step, and the
    law of the exponential behind their size: with probability `_ANY_SIZE` `stretch` times a standard one, otherwise
    `least` plus `beyond` times a standard one."""

    probability: Scalar | float
    stretch: Scalar | float
    least: Scalar | float
    beyond: Scalar | float

    def excess(self, uniform: PerPath) -> PerPath:
        """The exponential behind a size, from a uniform."""
        any_size = uniform < _ANY_SIZE
        share = jnp.where(any_size, uniform / _ANY_SIZE, (uniform - _ANY_SIZE) / (1 - _ANY_SIZE))
        unit = -jnp.log(larger(share, 1e-9))
        return smaller(jnp.where(any_size, self.stretch * unit, self.least + self.beyond * unit), _LARGEST)

    def density(self, excess: PerPath) -> PerPath:
        """Of an exponential, divided by the market's own."""
        any_size = _ANY_SIZE / self.stretch * jnp.exp(excess - excess / self.stretch)
        large = (1 - _ANY_SIZE) / self.beyond * jnp.exp(excess - (excess - self.least) / self.beyond)
        return any_size + jnp.where(excess > self.least, large, 0.0)


def _one_of(upward: Bool[Array, " path"], up: LargeJumps, down: LargeJumps) -> LargeJumps:
    """The law of each path's direction."""
    return LargeJumps(*(jnp.where(upward, a, b) for a, b in zip(up, down, strict=True)))


# The share of large jumps that are spread over all sizes.
_ANY_SIZE = 0.2
# The market draws a larger exponential once in 1e17 jumps; what is drawn beyond it counts as this, lest prices leave all bounds.
_LARGEST = 40.0


class Components(NamedTuple):
    """The mixture. Normals are shifted by `before` in the blocks of steps before number `first`, by `burst` in the `length`
    blocks from there on, and not at all afterwards. `up` is 1 where upward jumps are tilted and 0 where they are not, `down` and
    `crashes` likewise for downward ones and regimes (None where those are not tilted at all)."""

    share: Float[Array, " component"]
    start: Float[Array, " component"]
    before_return: Float[Array, " component"]
    burst_return: Float[Array, " component"]
    before_volatility: Float[Array, " component"]
    burst_volatility: Float[Array, " component"]
    first: Int[Array, " component"]
    length: Int[Array, " component"]
    up: Float[Array, " component"]
    down: Float[Array, " component"]
    crashes: Float[Array, " component"] | None = None


class Drawn(NamedTuple):
    """What is remembered of how a path was drawn, and its weight. The sums of normals are by block of steps, those of jumps over
    all steps: how many there were and were to be expected, and the largest exponential, negative if downward. `log_up` is the log
    of the density of its upward jumps under the tilt, relative to the market's, `log_down` that of the others. The last four are
    those of `CrashesSoFar`, where crashes are tilted."""

    start: PerPath
    returns: Float[Array, "block path"]
    volatilities: Float[Array, "block path"]
    log_up: PerPath
    log_down: PerPath
    jumps: PerPath
    jumps_expected: PerPath
    largest_jump: PerPath
    weight: PerPath | None
    log_crashes: PerPath | None = None
    began_in_crash: PerPath | None = None
    crashes: PerPath | None = None
    calm_steps: PerPath | None = None


class Draw(NamedTuple):
    """A path's component while it is simulated, and its sums so far; those of normals over the current block only."""

    own: Components
    start: PerPath
    returns: PerPath
    volatilities: PerPath
    log_up: PerPath
    log_down: PerPath
    jumps: PerPath
    jumps_expected: PerPath
    largest_jump: PerPath
    crashes: CrashesSoFar | None


class Sampling(eqx.Module):
    """A way to draw paths, with whatever it carries along a path: a `Draw`, or nothing for plain sampling."""

    @abstractmethod
    def block_length(self, steps: int) -> int:
        """For how many steps shocks are made at a time; a divisor of the number of steps."""

    @abstractmethod
    def start(
        self, seed: Seed, ids: PathIds, dtype: np.dtype, crash_share: Scalar | None = None
    ) -> tuple[StartDraws, Any]:
        """What draws the market's state at the start; `crash_share` is how likely that is a crash, where there are regimes."""

    @abstractmethod
    def step(
        self, state: Any, block: Index, shocks: Shocks, law: JumpLaw | None, regime: RegimeLaw | None = None
    ) -> tuple[StepShocks, Any]:
        """The shocks of a step, made of those of the generator."""

    @abstractmethod
    def end_of_block(self, state: Any) -> tuple[Any, tuple[PerPath, PerPath] | None]:
        """The sums of normals of the block that ends, which start anew."""

    @abstractmethod
    def drawn(self, state: Any, sums: tuple[PerPath, PerPath] | None, block: int) -> Drawn | None:
        """What is remembered of the paths; `sums` are those of all blocks, of `block` steps each."""


class PlainSampling(Sampling):
    """By the market's own law: every path counts alike."""

    def block_length(self, steps: int) -> int:
        return longest_divisor(steps, 24)

    def start(
        self, seed: Seed, ids: PathIds, dtype: np.dtype, crash_share: Scalar | None = None
    ) -> tuple[StartDraws, Draw | None]:
        del crash_share
        return start_draws(seed, ids, dtype), None

    def step(
        self, state: Draw | None, block: Index, shocks: Shocks, law: JumpLaw | None, regime: RegimeLaw | None = None
    ) -> tuple[StepShocks, Draw | None]:
        del block, regime
        jump = None if law is None else draw_jump(law, shocks.jump_uniform)
        return _step_shocks(shocks, shocks.return_normal, shocks.volatility_normal, law, jump), state

    def end_of_block(self, state: Draw | None) -> tuple[Draw | None, tuple[PerPath, PerPath] | None]:
        return state, None

    def drawn(self, state: Draw | None, sums: tuple[PerPath, PerPath] | None, block: int) -> Drawn | None:
        del state, sums, block
        return None


class ImportanceSampling(Sampling):
    """From a mixture of components, the first of which is the market's own law."""

    components: Components
    up: LargeJumps
    down: LargeJumps
    crashes: LikelierCrashes | None = None

    def plain(self) -> "ImportanceSampling":
        """The same mixture with nothing in it but the market's own law."""
        share = jnp.zeros_like(self.components.share).at[0].set(1.0)
        return ImportanceSampling(self.components._replace(share=share), self.up, self.down, self.crashes)

    def block_length(self, steps: int) -> int:
        return block_of(steps)

    def start(
        self, seed: Seed, ids: PathIds, dtype: np.dtype, crash_share: Scalar | None = None
    ) -> tuple[StartDraws, Draw | None]:
        draws = start_draws(seed, ids, dtype)
        steps = jnp.cumsum(self.components.share)
        number = jnp.sum(draws.law_uniform >= steps[:-1, None], axis=0)
        own = jax.tree.map(lambda column: column[number], self.components)
        zero = jnp.zeros_like(draws.normal)
        start = draws.normal + own.start
        draw = Draw(own, start, zero, zero, zero, zero, zero, zero, zero, None)
        if self.crashes is None or own.crashes is None or crash_share is None:
            return draws._replace(normal=start), draw
        regime_uniform, crashes = started(self.crashes, own.crashes, crash_share, draws.regime_uniform)
        return draws._replace(normal=start, regime_uniform=regime_uniform), draw._replace(crashes=crashes)

    def step(
        self, state: Draw | None, block: Index, shocks: Shocks, law: JumpLaw | None, regime: RegimeLaw | None = None
    ) -> tuple[StepShocks, Draw | None]:
        assert state is not None
        own = state.own
        before, burst = block < own.first, block < own.first + own.length

        def shift(at_first: PerPath, then: PerPath) -> PerPath:
            return jnp.where(before, at_first, jnp.where(burst, then, 0.0))

        returned = shocks.return_normal + shift(own.before_return, own.burst_return)
        volatility = shocks.volatility_normal + shift(own.before_volatility, own.burst_volatility)
        state = state._replace(returns=state.returns + returned, volatilities=state.volatilities + volatility)
        shocks, state = self._regime(shocks, state, regime)
        if law is None:
            return _step_shocks(shocks, returned, volatility, None, None), state
        jump = self._jump(law, shocks.jump_uniform, own)
        largest = jnp.where(jump.occurs & (jump.excess > jnp.abs(state.largest_jump)), jump.excess, 0.0)
        signed = jnp.where(jump.upward, largest, -largest)
        log_density = jnp.where(jump.occurs, self._log_density(law, jump), 0.0)
        return _step_shocks(shocks, returned, volatility, law, jump), state._replace(
            log_up=state.log_up + jnp.where(jump.upward, log_density, 0.0),
            log_down=state.log_down + jnp.where(jump.upward, 0.0, log_density),
            jumps=state.jumps + jump.occurs,
            jumps_expected=state.jumps_expected + law.probability,
            largest_jump=jnp.where(largest > 0, signed, state.largest_jump),
        )

    def _regime(self, shocks: Shocks, state: Draw, regime: RegimeLaw | None) -> tuple[Shocks, Draw]:
        if self.crashes is None or state.own.crashes is None or state.crashes is None or regime is None:
            return shocks, state
        assert shocks.regime_uniform is not None
        uniform, crashes = stepped(self.crashes, state.own.crashes, regime, shocks.regime_uniform, state.crashes)
        return shocks._replace(regime_uniform=uniform), state._replace(crashes=crashes)

    def _jump(self, law: JumpLaw, uniform: PerPath, own: Components) -> Jump:
        room = 1 - law.probability
        up, down = own.up * self.up.probability * room, own.down * self.down.probability * room
        is_up, is_large = uniform < up, uniform < up + down
        usual = draw_jump(law, jnp.where(is_large, law.probability, uniform - up - down))
        share = jnp.where(is_up, uniform / larger(up, 1e-12), (uniform - up) / larger(down, 1e-12))
        shared, share = drawn_kind(law, is_up, share)
        return Jump(
            occurs=is_large | usual.occurs,
            upward=jnp.where(is_large, is_up, usual.upward),
            excess=jnp.where(is_large, _one_of(is_up, self.up, self.down).excess(share), usual.excess),
            shared=None if shared is None or usual.shared is None else jnp.where(is_large, shared, usual.shared),
        )

    def _log_density(self, law: JumpLaw, jump: Jump) -> PerPath:
        """The log density of a step's jump where those of its direction are tilted, relative to the market's."""
        own_way = law.probability * jnp.where(jump.upward, law.upward, 1 - law.upward)
        large = _one_of(jump.upward, self.up, self.down)
        ratio = large.probability * (1 - law.probability) / larger(own_way, 1e-12) * large.density(jump.excess)
        return jnp.log1p(ratio)

    def end_of_block(self, state: Draw | None) -> tuple[Draw | None, tuple[PerPath, PerPath] | None]:
        assert state is not None
        zero = jnp.zeros_like(state.returns)
        return state._replace(returns=zero, volatilities=zero), (state.returns, state.volatilities)

    def drawn(self, state: Draw | None, sums: tuple[PerPath, PerPath] | None, block: int) -> Drawn | None:
        assert state is not None
        assert sums is not None
        jumps = (state.log_up, state.log_down, state.jumps, state.jumps_expected, state.largest_jump)
        crashes = {} if state.crashes is None else state.crashes._asdict()
        drawn = Drawn(state.start, *sums, *jumps, weight=None, **crashes)
        return drawn._replace(weight=jnp.exp(-jax.nn.logsumexp(log_densities(self, drawn, block), axis=0)))


def _step_shocks(
    shocks: Shocks, returned: PerPath, volatility: PerPath, law: JumpLaw | None, jump: Jump | None
) -> StepShocks:
    """The shocks of a step; those that no law tilts are passed on as they are."""
    others = (shocks.third_normal, shocks.regime_uniform, shocks.block_uniform)
    return StepShocks(returned, volatility, law, jump, *others)


def log_densities(sampling: ImportanceSampling, drawn: Drawn, block: int) -> Float[Array, "component path"]:
    """Log of each component's share times the density of a path under it, relative to the market's law; `block` is the number
    of steps in a block."""
    c = sampling.components
    sums = [
        jnp.concatenate([jnp.zeros_like(by_block[:1]), jnp.cumsum(by_block, axis=0)])
        for by_block in (drawn.returns, drawn.volatilities)
    ]
    blocks = len(drawn.returns)
    end = jnp.minimum(c.first + c.length, blocks)
    up, down = c.up[:, None], c.down[:, None]
    result = jnp.log(c.share)[:, None] + _shifted(c.start[:, None], drawn.start, 1)
    without_jump = block * blocks - drawn.jumps
    result += up * drawn.log_up + down * drawn.log_down
    result += without_jump * jnp.log1p(-up * sampling.up.probability - down * sampling.down.probability)
    if c.crashes is not None and drawn.log_crashes is not None:
        result += c.crashes[:, None] * drawn.log_crashes
    for total, before, burst in zip(
        sums, (c.before_return, c.before_volatility), (c.burst_return, c.burst_volatility), strict=True
    ):
        result += _shifted(before[:, None], total[c.first], block * c.first[:, None])
        result += _shifted(burst[:, None], total[end] - total[c.first], block * (end - c.first)[:, None])
    return result


def _shifted(shift: Float[Array, "component one"], total: Float[Array, "..."], count: Array | int) -> Array:
    """Log density of `count` normals with the given total under a shift, relative to none."""
    return shift * total - count * shift**2 / 2


def block_of(steps: int) -> int:
    """Steps in a block where paths are weighted: two dozen blocks at least, where there are as many steps, since bursts are told
    apart by the block that they start in."""
    return longest_divisor(steps, max(1, min(24, steps // 24)))


def longest_divisor(number: int, most: int) -> int:
    return max(length for length in range(1, most + 1) if number % length == 0)
