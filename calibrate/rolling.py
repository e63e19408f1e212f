"""A policy put through a history from many starts: what became of each, in one compiled program.

All windows are equally long, so that they differ in numbers alone. Every start meets the same draws as a replay of that one
window does, and comes to the same figures. Starts are spread over cores, devices and processes as chunks of paths are.
"""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array

from calibrate.assemble_replay import replay_in
from calibrate.data.candles import Candles
from calibrate.data.history import window_of
from calibrate.data.starts import Starts
from calibrate.market.intrabar import lead_bars
from calibrate.market.replay import Replay
from calibrate.metrics import USER_COST
from calibrate.pieces import Piece, fingerprint, finite, first_paths
from calibrate.policy import Parameters
from calibrate.sampling import PlainSampling
from calibrate.shocks import PathIds, Seed, path_ids, seed_words
from calibrate.simulate import Scenario, outcomes
from calibrate.spread import in_order

FIELDS = ("distance", "bad_debt", "fund_draw", "liquidated", *USER_COST, "initial_margin")


class Rolling(NamedTuple):
    """A history, the starts in it, and the world at any one of them, which is that at all others but for its prices."""

    candles: Candles
    starts: Starts
    scenario: Scenario

    def window(self, start_ms: int) -> Scenario:
        """The world that starts there."""
        model = self.scenario.market.volatility
        assert isinstance(model, Replay)
        history = window_of(
            self.candles, start_ms, start_ms + self.starts.length_ms, lead_bars(self.candles.interval_s), "replay"
        )
        made = replay_in(history, float(model.usual_variance), model.steps_per_bar, self.scenario.dtype)
        return eqx.tree_at(lambda scenario: scenario.market.volatility, self.scenario, made)


def outcomes_by_start(
    rolling: Rolling, parameters: Parameters, *, seed: int, paths: int
) -> Iterator[dict[str, np.ndarray]]:
    """The `FIELDS` of the outcome of paths 0, ..., `paths` - 1 from each whole start, in order of time."""
    begins = rolling.starts.ts[rolling.starts.whole]
    key, dtype = seed_words(seed), rolling.scenario.dtype

    def make(k: int) -> Piece:
        with jax.enable_x64(dtype == np.float64):
            found = _compiled(rolling.window(int(begins[k])), parameters, key, path_ids(np.arange(paths)))
            return finite(first_paths((found, {}, {}), paths))

    def question() -> bytes:
        about = f"{rolling.candles.sha256} {seed} {paths} {rolling.starts.length_ms}"
        told = hashlib.blake2b(about.encode(), digest_size=16)
        fingerprint((rolling.scenario, parameters), told.update)
        return told.digest()

    for piece in in_order(make, len(begins), question, lambda k: int(begins[k]).to_bytes(8, "little")):
        yield piece.values


@eqx.filter_jit
def _compiled(scenario: Scenario, parameters: Parameters, seed: Seed, ids: PathIds) -> dict[str, Array]:
    found = outcomes(scenario, parameters, PlainSampling(), seed, ids)[0]._asdict()
    return {name: found[name] for name in FIELDS}
