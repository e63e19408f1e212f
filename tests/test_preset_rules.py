"""What presets make of the engine's rules: values that follow from a market's numbers, rules that a job leaves out, and that every
preset runs.

Every preset is simulated for a dozen steps; those of a venue share a compiled program.
"""

from fractions import Fraction
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import small_job
from own_markets import OWN
from test_presets import JOB

from calibrate import plan
from calibrate.assemble import assemble
from calibrate.job import load_job
from calibrate.oracle import ExactOracle
from calibrate.presets import load_preset, rules_of, shipped_presets
from calibrate.simulate import simulate
from calibrate.toxic import toxic_note

# A rule of the job's [venue] and where the engine has it.
PARTS = {"close": "close", "close_cap": "cap", "incentive": "incentive", "trigger": "trigger", "auction": "auction",
         "backstop": "backstop", "guards": "guards", "size_add_on": "schedule", "open_interest_add_on": "schedule"}  # fmt: skip
# What each venue has beside margin, keepers and fund, from its own documents (docs/venues.md): a rule that goes missing from a
# file is missed here.
RULES = {
    "aave-v3": {"close"},
    "aave-v4": {"close"},
    "binance": {"trigger", "backstop"},
    "bybit": {"trigger", "backstop"},
    "compound-v3": set(),
    "crvusd": set(),
    "derive": {"close", "incentive", "guards", "backstop"},
    "dydx-v4": {"incentive", "backstop"},
    "euler-v2": {"incentive"},
    "gmx-v2": {"trigger", "guards", "open_interest_add_on"},
    "hyperliquid": {"trigger", "backstop"},
    "liquity-v2": set(),
    "maker": {"auction"},
    "morpho-blue": set(),
    "okx": {"trigger", "backstop"},
    "synthetix-v3": {"close_cap", "size_add_on", "trigger", "incentive"},
    "velocity": {"close", "incentive", "guards"},
}
# Those whose auctions are of other lengths have a program of their own, and take longest to compile; they add nothing to ETH-A's.
LONG = ("maker:ETH-B", "maker:LSE-MKR-A")
# Open interest just above the lower cap, where it counts: above the upper one nobody may have leverage, nor could be liquidated.
OPEN_INTEREST = {
    "dydx-v4:long-tail": 5.05e6,
    "dydx-v4:isolated": 0.505e6,
    "dydx-v4:fx": 0.505e6,
    "gmx-v2:FARTCOIN": 5e6,
    "gmx-v2:APE": 10e6,
}
# Long positions without leverage, which nothing brings below their maintenance margin.
NEVER = ("dydx-v4:safety",)


def job(folder: Path, name: str, *overrides: str) -> Any:
    stem = name.partition(":")[0]
    own = [f"venue.native={{{OWN[stem]}}}"] if stem in OWN else []
    # A dozen steps, in a market in which something happens. What Maker sees of it may be two hours old.
    steps = (
        "simulation.step_s=360",
        f"simulation.horizon_days={0.25 if stem == 'maker' else 0.05}",
        "market.volatility=4.0",
        f"book.open_interest_usd={OPEN_INTEREST.get(name, 22e6)}",
    )
    return load_job(small_job.write(folder, JOB), [f"venue.preset={name}", *own, *steps, *overrides])


def values_of(loaded: Any, paths: int = 256) -> dict[str, np.ndarray]:
    made = assemble(loaded)
    fields = ("liquidated_share", "bad_debt", "penalty", "distance", "initial_margin", "fund_draw", "socialised_loss")
    return simulate(made.scenario, made.incumbent, seed=1, paths=paths, fields=fields, chunk=256).values


# --- values that follow ---------------------------------------------------------------------------------------------------


def test_aave_closes_half_of_the_debt_and_all_of_it_below_health_095() -> None:
    """Collateral worth 1, at the trigger and at health 0.95, by Aave's own formulas."""
    close = load_preset("aave-v3:WETH", Path(), "").native.simulated()["close"]
    assert close["fraction"] == pytest.approx(0.5 * 0.83 * 1.05)
    equity_at_095 = 1 - 0.83 / 0.95
    assert close["full_below_health"] == pytest.approx(equity_at_095 / (1 - 0.83))
    # A debt of 2,000 that is halved leaves 1,000.
    assert 0.83 * close["dust_usd"] == pytest.approx(1_000)
    assert load_preset("aave-v3:emode-eth", Path(), "").native.simulated()["close"]["full_below_health"] == 0


def test_aave_v4_closes_up_to_its_target() -> None:
    """What the engine's rule (docs/rules.md, 9) leaves has the venue's target health, whatever the penalty."""
    own = {
        "asset": "X",
        "collateral_factor_bps": 8_000,
        "max_liquidation_bonus_bps": 10_500,
        "target_health_bps": 10_500,
    }
    native = load_preset("aave-v4", Path(), "", own).native
    target = native.simulated()["close"]["target_health"]
    margin, penalty, equity = 0.2, 0.04, 0.17
    closed = (target * margin - equity) / (target * margin - penalty)
    equity_left = (equity - closed * penalty) / (1 - closed)
    assert 0.8 / (1 - equity_left) == pytest.approx(1.05)
    # A target of 1 is met by closing nothing; all is closed then, as without the rule.
    assert native.but(target_health_bps=10_000).simulated() == {}


def test_eulers_discount_goes_by_the_health_of_lending(tmp_path: Path) -> None:
    """What it comes to at a health is in test_bonus.py. An account that pays nothing when its liquidation begins has enough left,
    however large the largest discount is."""
    euler = job(tmp_path, "euler-v2", "venue.native.liquidation_ltv_bps=9000")
    bonus = assemble(euler).scenario.venue.incentive.bonus
    assert bonus.lending
    assert (bonus.to_health, bonus.highest) == (None, None)
    assert [float(number) for number in (bonus.from_health, bonus.rise_per_health, bonus.lowest_part)] == [
        1.0,
        1.0,
        0.0,
    ]
    assert toxic_note(euler.job) == []
    assert (
        len(toxic_note(job(tmp_path, "euler-v2", "venue.native.liquidation_ltv_bps=9000", "venue.incentive=false").job))
        == 1
    )
    assert euler.preset.native.but(max_liquidation_discount_bps=0).simulated() == {}


def test_dydx_limits_closes_by_the_widest_fillable_price_and_opening_by_open_interest() -> None:
    native = load_preset("dydx-v4:small-cap", Path(), "").native
    rules = native.simulated()
    bankrupt = native.fillable_price(100_000, Fraction(5_000), Fraction(0))
    assert 1e-4 * rules["incentive"]["limit_bps"] == pytest.approx(float(1 - bankrupt / 100_000))
    assert rules["open_interest_add_on"] == {"lower_usd": 20e6, "upper_usd": 50e6}
    assert "open_interest_add_on" not in load_preset("dydx-v4:large-cap", Path(), "").native.simulated()


def test_makers_auction_has_the_price_of_the_contracts() -> None:
    native = load_preset("maker:ETH-A", Path(), "").native
    auction = native.simulated()["auction"]
    price = (1 + 1e-4 * auction["start_bps"]) * (1 - 1e-4 * auction["fall_bps"]) ** (900 // auction["fall_s"])
    assert 100 * price == pytest.approx(float(native.auction_price(Fraction(100), 900)))
    # The debt of that much collateral at the trigger, with its penalty, is the hole.
    assert auction["most_usd"] / 1.45 * 1.13 == pytest.approx(40e6)


def test_synthetix_margin_and_capacity_are_those_of_the_contracts() -> None:
    native = load_preset("synthetix-v3:BTC", Path(), "").native
    rules = native.simulated()
    assert rules["close_cap"]["most_usd"] / 100_000 == pytest.approx(281.8, abs=0.05)
    # Maintenance of 125 BTC by the engine's add-on: scalar x (1.54 x 125 / 12,500 + 0.02).
    add_on = 1e-4 * rules["size_add_on"]["add_on_bps"] * 125 * 100_000 / rules["size_add_on"]["at_usd"]
    assert 1e-4 * native.policy()["base_margin_bps"] + add_on == pytest.approx(0.28 * (1.54 * 125 / 12_500 + 0.02))


def test_derive_offers_what_leaves_the_buffer() -> None:
    """After the offered part is taken at the start price the rest meets its requirement, and 15 % of it."""
    native = load_preset("derive:BTC", Path(), "").native
    value, requirement = Fraction(2, 100), Fraction(5, 100)
    part = native.on_offer(value)
    left = value * (1 - part) + part * value * Fraction(95, 100)
    assert left == (1 - part) * requirement * Fraction(115, 100)


def test_curves_bands_are_those_of_its_documents() -> None:
    through = load_preset("crvusd", Path(), "", {"market": "X", "a": 100, "bands": 10, "loan_discount_bps": 900,
                                                 "liquidation_discount_bps": 600}).native  # fmt: skip
    assert dict(through.worked())["a loan's bands reach down over"] == "9.5618 %"
    # An integral in place of the sum: bands are narrow.
    depth = 10 * -np.log(0.99)
    assert float(through.kept_through_bands()) == pytest.approx((1 - np.exp(-depth)) / depth, rel=1e-4)


def test_gmx_judges_by_the_worse_of_two_prices_where_they_differ(tmp_path: Path) -> None:
    """BTC's and ETH's whole spread is taken off; other markets keep it."""
    bitcoin, ape = (assemble(job(tmp_path, f"gmx-v2:{market}")).scenario for market in ("BTC", "APE"))
    assert isinstance(bitcoin.oracle, ExactOracle)
    assert ape.oracle.band.half_width == pytest.approx(5e-4)
    assert ape.venue.trigger.band_end == "worse"


def test_gmx_asks_for_open_interest_times_its_multiplier(tmp_path: Path) -> None:
    """20 million in all, 10 million a side, at 5.56e-9: more than the 1 % that FARTCOIN's opening factor is."""
    loaded = job(tmp_path, "gmx-v2:FARTCOIN", "book.open_interest_usd=20e6")
    made = assemble(loaded)
    margin = made.scenario.venue.margin.maintenance(made.incumbent.policy, jnp.zeros(1))
    np.testing.assert_allclose(made.scenario.venue.initial(made.incumbent.policy, margin), 0.0556, rtol=1e-5)


def test_velocitys_margin_is_that_of_the_contracts_by_size() -> None:
    """500 bps and an IMF factor of 1,000 make 716 bps of 1,000 units."""
    values = dict(
        market_index=0, margin_ratio_initial=600, margin_ratio_maintenance=500, liquidator_fee=0, if_liquidation_fee=0
    )
    native = load_preset("velocity", Path(), "", values | {"imf_factor": 1_000, "reference_price_usd": 250.0}).native
    rule = native.simulated()["size_add_on"]
    for units in (10, 100, 1_000):
        added = rule["add_on_bps"] * (units * 250 / rule["at_usd"]) ** rule["exponent"]
        assert max(500, rule["floor_part"] * 500 + added) == pytest.approx(native.ratio_of_size(500, units), abs=1)
    assert native.ratio_of_size(500, 1_000) == 716


def test_velocity_stops_at_half_of_its_five_minute_average(tmp_path: Path) -> None:
    """New prices have a weight of their age over five minutes, which is that of an exponential average as steps become short."""
    guards = assemble(job(tmp_path, "velocity", "simulation.step_s=1")).scenario.venue.guards
    assert guards.own_average.widest == pytest.approx(0.5)
    assert guards.own_average.weight == pytest.approx(1 / 300, rel=2e-3)


# --- in a job -------------------------------------------------------------------------------------------------------------


def test_values_of_the_jobs_own_move_the_rules(tmp_path: Path) -> None:
    loaded = job(tmp_path, "maker:ETH-A", "venue.native={hole_usd=20_000_000}")
    assert loaded.job.venue.auction.most_usd == pytest.approx(20e6 * 1.45 / 1.13)


def test_a_rule_of_the_jobs_own_goes_first_and_false_leaves_it_out(tmp_path: Path) -> None:
    mine = ("venue.keepers=unlimited", "venue.incentive=false", "venue.backstop={vault_usd=1e6}")
    venue = job(tmp_path, "dydx-v4:small-cap", *mine).job.venue
    assert venue.incentive is None
    assert (venue.backstop.vault_usd, venue.backstop.auto_deleveraging) == (1e6, False)
    assert venue.open_interest_add_on is not None


def test_the_limit_of_dydx_holds_closes_back(tmp_path: Path) -> None:
    """In a market so thin that closes move it by more than the limit, fewer are done than without it."""
    thin = ("liquidity.depth_usd=3e5",)
    free = ("venue.keepers=unlimited", "venue.incentive=false")
    held, loose = (values_of(job(tmp_path, "dydx-v4:large-cap", *thin, *more)) for more in ((), free))
    assert held["liquidated_share"].mean() < 0.9 * loose["liquidated_share"].mean()


# --- every preset ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", shipped_presets())
def test_every_preset_passes_check_and_its_rules_reach_the_engine(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that `calibrate check` does but measuring this machine."""
    monkeypatch.setattr(plan, "_speed", lambda problem: (1e6, 3.0))
    loaded = job(tmp_path, name)
    assert plan.plan(loaded)["lines"][0] == f"{loaded.path}: no problems"
    venue = assemble(loaded).scenario.venue
    named = {key for key, value in rules_of(loaded.preset).items() if isinstance(value, dict)}
    assert all(getattr(venue, PARTS[key]) is not None for key in named)
    # Only some of dYdX's markets have caps.
    assert named - ({"open_interest_add_on"} if name.startswith("dydx") else set()) == RULES[name.partition(":")[0]]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in shipped_presets()]
)
def test_every_preset_runs(name: str, tmp_path: Path) -> None:
    values = values_of(job(tmp_path, name))
    assert all(np.isfinite(value).all() for value in values.values())
    assert (values["liquidated_share"].max() > 0) == (name not in NEVER)
    assert (values["bad_debt"] >= 0).all()
    assert (values["initial_margin"] > 0).all()
    # Nobody pays more than has been lost.
    paid = values["fund_draw"] + values["socialised_loss"]
    assert (paid <= values["bad_debt"] * (1 + 1e-4) + 1e-7).all()
