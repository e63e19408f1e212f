"""Events, the oracle's way from sources to reports, guards and mark prices: against accounts followed one by one, by hand, and
against difference quotients."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force_pipe import Occurrence, SourceRule, events_at, median
from statistical import assert_mean
from venues import EVERYTHING_ON, LONGS_AND_SHORTS, Case, _event, assert_followed

from calibrate.events import begins_of, happening
from calibrate.gradient import check_gradients
from calibrate.shocks import path_ids, seed_words
from calibrate.simulate import Outcome, simulate
from calibrate.sources import Noise, Outages, Sources, weighted_mean, weighted_median

BASE = Case(EVERYTHING_ON, LONGS_AND_SHORTS, 300)
SOURCES = (
    SourceRule(3.0, noise=0.003, kept=0.9, goes=0.01, stays=0.8),
    SourceRule(2.0, noise=0.002, kept=0.0, goes=0.05, stays=0.7),
    SourceRule(2.0, noise=0.001, kept=0.5, goes=0.02, stays=0.9),
    SourceRule(1.0, noise=0.01, kept=0.95, goes=0.1, stays=0.9),
)
VARIANTS = {
    "every event, some at random times": {
        "events": (
            Occurrence("keeper_outage", begin=40, steps=60),
            Occurrence("oracle_freeze", steps=50, places=251),
            Occurrence("depth_collapse", size=0.2, begin=90, steps=80),
            Occurrence("gas_spike", size=8.0, steps=100, places=201),
            Occurrence("depeg", size=0.03, steps=60, places=241, recovery=40),
            Occurrence("manipulation", size=-0.02, begin=200, steps=20),
        )
    },
    "sources, their median, an average, a clamp": {
        "oracle": "exact",
        "sources": SOURCES,
        "quorum": 2,
        "twap_steps": 7,
        "clamp": 0.004,
        "events": (Occurrence("manipulation", size=0.3, begin=100, steps=50, source=0),),
    },
    "sources, their mean, an exponential average, a push oracle with a clamp": {
        "sources": SOURCES,
        "by_mean": True,
        "ema_weight": 0.3,
        "clamp": 0.006,
        "oracle_delay_exponent": 0.8,
        "longest_oracle_delay_steps": 6,
        "events": (Occurrence("manipulation", size=-0.05, steps=50, places=251, source=2),),
    },
    "guards that hold liquidations back": {
        "stale_after_steps": 12,
        "widest_gap": 0.008,
        "events": (Occurrence("oracle_freeze", steps=90, places=211),),
    },
    "stale prices replaced by the market's, judged at a mark price": {
        "oracle": "exact",
        "sources": SOURCES[:3],
        "stale_after_steps": 12,
        "stale_falls_back": True,
        "mark": ("oracle-and-basis", "market", "sources"),
        "mark_weight": 0.4,
        "events": (Occurrence("oracle_freeze", begin=30, steps=90),),
    },
    "a continuous oracle, frozen and displaced": {
        "oracle": "continuous",
        "oracle_delay_steps": 0,
        "stale_after_steps": 20,
        "events": (
            Occurrence("oracle_freeze", begin=60, steps=60),
            Occurrence("manipulation", size=0.02, begin=160, steps=20),
            Occurrence("depeg", size=0.03, begin=220, steps=300),
        ),
    },
}
SAME = ("bad_debt", "open_deficit", "insolvent_share", "liquidated", "liquidated_share", "penalty", "slippage", "fund_draw",
        "false_liquidation", "returned", "collateral_closed", "margin_peak_to_trough")  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_accounts_fare_as_those_followed_one_by_one_do(name: str) -> None:
    case = BASE.but(**VARIANTS[name])
    v = simulate(case.scenario(), case.parameters(), seed=3, paths=400, fields=Outcome._fields, chunk=400).values
    worst = np.sort(np.argsort(-v["distance"])[:6])
    on_worst = {field: v[field][worst] for field in SAME}
    accounts = assert_followed(
        case, on_worst, worst, dict(zip(SAME, SAME, strict=True)), accounts=(100, 1000), within=2e-2
    )
    np.testing.assert_array_equal(v["distance"][worst] > 0, accounts["insolvent"])
