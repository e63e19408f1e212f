"""Returns of all assets of a joint model on the same paths, without a venue: as the engine simulates them."""

import jax.numpy as jnp
import numpy as np

from calibrate.joint_sampling import joint_sampling
from calibrate.market.joint import market_of_asset
from calibrate.market.joint_files import JointModel
from calibrate.market.simulated import SINGLE, closes_of
from calibrate.shocks import path_ids, seed_words
from calibrate.units import SECONDS_PER_YEAR


def joint_closes(
    joint: JointModel, *, paths: int, bars: int, bar_s: float, steps: int, seed: int, first_path: int = 0
) -> np.ndarray:
    """Log-prices of each asset at the close of each bar relative to the start, from the long-run law: asset by bar by path. A bar
    is made of so many steps."""
    step_s = bar_s / steps
    dt = jnp.asarray(step_s / SECONDS_PER_YEAR, SINGLE)
    words, ids = seed_words(seed), path_ids(np.arange(first_path, first_path + paths))
    markets = [(asset, market_of_asset(joint, asset, None, step_s, SINGLE)) for asset in joint.assets]
    samplings = [joint_sampling(joint, asset, market, dt) for asset, market in markets]
    each = zip(markets, samplings, strict=True)
    return np.stack([np.asarray(closes_of(market, drawn, words, ids, dt, bars, steps)) for (_, market), drawn in each])
