"""How the paths of one asset of a joint model are drawn, so that other assets under the same seed meet the same world.

The numbers of path `i` and step `t` belong to all assets: a uniform that draws the shared jump, and one that moves the regime.
Beside them every asset has two normals and a uniform of its own, its source, and takes a mixture of its own source and those of
the assets before it. At most one jump comes in a step: a shared one goes before one of the asset's own, whose probability is
raised so that both come as often as the market says. Extremes inside a step are drawn from the same uniforms for all assets:
given where two prices begin and end a step, they swing together.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from calibrate.extremes import larger
from calibrate.market.joint import Mixing, mixing_of
from calibrate.market.joint_files import JointModel
from calibrate.market.market import Market
from calibrate.market.model import Jump, JumpLaw, StepShocks, draw_jump
from calibrate.market.regimes import RegimeLaw, Regimes
from calibrate.sampling import Drawn, Sampling, longest_divisor
from calibrate.shocks import PathIds, Seed, Shocks, SourceShocks, StartDraws, source_shocks, start_draws
from calibrate.units import Index, PerPath, Scalar


class AssetDraw(NamedTuple):
    """Which numbers are drawn next, and whether there is a crash: the same chain, by the same uniforms, as the market's own."""

    seed: Seed
    ids: PathIds
    step: Index
    crash: Bool[Array, " path"] | None


class JointSampling(Sampling):
    """By the joint model's law: every path counts alike."""

    mixing: Mixing
    regimes: Regimes | None
    dt: Scalar

    def block_length(self, steps: int) -> int:
        return longest_divisor(steps, 24)

    def start(
        self, seed: Seed, ids: PathIds, dtype: np.dtype, crash_share: Scalar | None = None
    ) -> tuple[StartDraws, AssetDraw]:
        del crash_share
        draws = start_draws(seed, ids, dtype)
        crash = None if self.regimes is None else self.regimes.start(draws)
        first = AssetDraw(seed, ids, jnp.int32(0), crash)
        sources = self._sources(first, dtype, start=True)
        return draws._replace(normal=_mixed(self.mixing.start, [s.normals.imag for s in sources])), first

    def step(
        self, state: AssetDraw, block: Index, shocks: Shocks, law: JumpLaw | None, regime: RegimeLaw | None = None
    ) -> tuple[StepShocks, AssetDraw]:
        del block, regime
        sources = self._sources(state, shocks.jump_uniform.dtype)
        volatility = _mixed(self.mixing.volatility, [s.normals.imag for s in sources])
        jump = (
            None
            if law is None
            else _jump(law, shocks.jump_uniform, _mixed(self.mixing.own, [s.uniform for s in sources]))
        )
        made = StepShocks(self._returned(state, sources), volatility, law, jump, None, shocks.regime_uniform, None)
        return made, state._replace(step=state.step + 1, crash=self._next_crash(state, shocks.regime_uniform))

    def end_of_block(self, state: AssetDraw) -> tuple[AssetDraw, None]:
        return state, None

    def drawn(self, state: AssetDraw, sums: tuple[PerPath, PerPath] | None, block: int) -> Drawn | None:
        del state, sums, block
        return None

    def _sources(self, state: AssetDraw, dtype: np.dtype, *, start: bool = False) -> list[SourceShocks]:
        step, each = state.step.astype(jnp.uint32), range(len(self.mixing.own))
        return [source_shocks(state.seed, state.ids, step, k, dtype, start=start) for k in each]

    def _returned(self, state: AssetDraw, sources: list[SourceShocks]) -> PerPath:
        normals = [s.normals.real for s in sources]
        calm = _mixed(self.mixing.calm, normals)
        return calm if state.crash is None else jnp.where(state.crash, _mixed(self.mixing.crash, normals), calm)

    def _next_crash(self, state: AssetDraw, uniform: PerPath | None) -> Bool[Array, " path"] | None:
        if self.regimes is None or state.crash is None or uniform is None:
            return None
        return self.regimes.step(state.crash, uniform, self.dt)


def joint_sampling(joint: JointModel, asset: str, market: Market, dt: Scalar) -> JointSampling:
    """How the paths of this asset are drawn, whose market by itself is `market`, in steps of `dt` years."""
    return JointSampling(mixing_of(joint, asset, np.dtype(dt.dtype)), market.regimes, dt)


def _mixed(weights: Array, normals: list[PerPath]) -> PerPath:
    total = weights[0] * normals[0]
    for weight, normal in zip(weights[1:], normals[1:], strict=True):
        total = total + weight * normal
    return total


def _jump(law: JumpLaw, uniform: PerPath, own_uniform: PerPath) -> Jump:
    """The jump of a step: one of all assets, if their uniform has one, otherwise perhaps one of this asset's own."""
    if law.shared is None:
        return draw_jump(law, own_uniform)
    shared = draw_jump(law.shared, uniform)
    left = larger(1 - law.shared.probability, jnp.finfo(uniform.dtype).eps)
    own = draw_jump(law.own._replace(probability=law.own.probability / left), own_uniform)
    return Jump(
        shared.occurs | own.occurs,
        jnp.where(shared.occurs, shared.upward, own.upward),
        jnp.where(shared.occurs, shared.excess, own.excess),
        shared.occurs,
    )
