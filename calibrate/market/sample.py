"""Candles of a market that never was: made up by a market model, for trying the tools out before real data are at hand.

The model moves in steps of a minute, and bars are the opens, highs, lows and closes of those. Volume is made up too: it
grows with how far the price moved, as traded volume does.
"""

from collections.abc import Mapping

import numpy as np

from calibrate.market.moments import Numbers, simulate

STEP_S = 60.0
FIRST_PRICE = 2000.0
FIRST_MS = 1_704_067_200_000  # 2024-01-01
VOLUME_PER_BAR = 1000.0
VOLUME_SPREAD = 0.35  # standard deviation of log-volume around what the move explains
DECIMALS = 2


def made_up_candles(
    parameters: Mapping[str, float], *, bars: int, minutes_per_bar: int, seed: int
) -> dict[str, np.ndarray]:
    """Candles of a model's parameters: ts (Unix milliseconds), prices rounded to cents from 2,000 on, volume in units of the
    base asset. The same seed gives the same candles, to the rounding of another computer."""
    rng = np.random.default_rng([seed, 6])
    returns = simulate(parameters, Numbers.draw(rng, bars * minutes_per_bar), STEP_S).astype(np.float64)
    path = FIRST_PRICE * np.exp(np.concatenate([[0.0], np.cumsum(returns)]))
    opened, after = path[:-1:minutes_per_bar], path[1:].reshape(bars, minutes_per_bar)
    highest, lowest = np.maximum(opened, after.max(axis=1)), np.minimum(opened, after.min(axis=1))
    prices = {"open": opened, "high": highest, "low": lowest, "close": after[:, -1]}
    moved = np.abs(returns).reshape(bars, minutes_per_bar).sum(axis=1)
    noise = np.exp(VOLUME_SPREAD * rng.standard_normal(bars) - VOLUME_SPREAD**2 / 2)
    return {
        "ts": FIRST_MS + 60_000 * minutes_per_bar * np.arange(bars),
        **{name: np.round(values, DECIMALS) for name, values in prices.items()},
        "volume": np.round(VOLUME_PER_BAR * moved / moved.mean() * noise, 3),
    }
