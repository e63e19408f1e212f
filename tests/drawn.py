"""The engine's shocks as plain arrays, one for each thing that they are used for."""

from typing import NamedTuple

import numpy as np

from calibrate.market.market import Market, MarketState
from calibrate.market.model import StepShocks, draw_jump
from calibrate.shocks import Shocks, StartDraws


class Drawn(NamedTuple):
    """Shocks by step and path, in double precision."""

    return_normal: np.ndarray
    volatility_normal: np.ndarray
    jump_uniform: np.ndarray
    low_uniform: np.ndarray
    high_uniform: np.ndarray


def drawn(shocks: Shocks) -> Drawn:
    """Shocks that were drawn for a continuous oracle."""
    return Drawn(*(np.asarray(getattr(shocks, name), np.float64) for name in Drawn._fields))


def shocks_of(market: Market, state: MarketState, returned, volatility, uniform, dt) -> StepShocks:
    """The shocks of a step, drawn by the market's own law."""
    law = market.jump_law(state, dt)
    return StepShocks(returned, volatility, law, None if law is None else draw_jump(law, uniform))


def start_of(market: Market, normal) -> MarketState:
    """The state at the start that a normal draws."""
    return market.start(StartDraws(normal, 0 * normal, 0 * normal, 0 * normal))
