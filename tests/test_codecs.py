"""Every venue's own numbers: golden vectors, round trips of all legal sets, and rounding that never goes to the risky side.

The golden vectors are worked out from the venues' sources (contracts and documentation named in `calibrate/venues/`).
"""

from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from calibrate.errors import UserError
from calibrate.export.aave import KEEP_CURRENT, Reserve, Spoke
from calibrate.export.binance import BracketTable
from calibrate.export.bybit import RiskLimits
from calibrate.export.codecs import CODECS
from calibrate.export.compound import CollateralAsset
from calibrate.export.curve import Controller
from calibrate.export.derive import PerpRequirements
from calibrate.export.dydx import LiquidityTier
from calibrate.export.euler import VaultCollateral
from calibrate.export.gmx import MarketFactors
from calibrate.export.hyperliquid import MarginTable
from calibrate.export.liquity import Branch
from calibrate.export.maker import CollateralType
from calibrate.export.morpho import Market
from calibrate.export.native import Basis, Native
from calibrate.export.okx import PositionTiers
from calibrate.export.synthetix import PerpsMarket
from calibrate.export.velocity import PerpMarket
from calibrate.presets import load_preset, shipped_presets

BASIS = Basis("title", "summary", 150e6)
# A busy machine is no reason to fail.
FAST = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
# Single precision, in which policies are simulated.
SAME = 1e-6


def preset(name: str, **own: Any) -> Any:
    return load_preset(name, Path(), "", own).native


# --- golden vectors -------------------------------------------------------------------------------------------------------


def test_dydx_initial_margin_rises_with_open_interest_and_maintenance_does_not() -> None:
    tier = preset("dydx-v4:small-cap")
    assert tier.effective_initial_margin_ppm(35_000_000 * 10**6) == 550_000
    assert tier.effective_initial_margin_ppm(20_000_000 * 10**6) == 100_000
    assert tier.effective_initial_margin_ppm(50_000_000 * 10**6) == 1_000_000
    assert tier.policy()["base_margin_bps"] == 500  # 50,000 ppm


def test_dydx_fillable_price_follows_health() -> None:
    tier = preset("dydx-v4:large-cap")  # 2 % x 0.6: 1,200 USD on 100,000
    maintenance = Fraction(1_200)
    assert tier.bankruptcy_rating(maintenance, Fraction(1_000)) == Fraction(1, 6)
    assert tier.fillable_price(100_000, maintenance, Fraction(1_000)) == 99_700
    assert tier.fillable_price(100_000, maintenance, Fraction(0)) == 98_200
    assert tier.block_slice(100_000) == 10_000


@pytest.mark.parametrize(
    ("name", "notional", "expected"), [("BTC", 200_000_000, 3_125_000), ("DOGE", 30_000_000, 2_000_000)]
)
def test_hyperliquid_maintenance_of_a_tiered_position(name: str, notional: int, expected: int) -> None:
    assert preset(f"hyperliquid:{name}").maintenance(notional) == expected


@pytest.mark.parametrize(
    ("name", "tier_1"), [("BTC", 1_875_000), ("ETH", Fraction(4_000_000, 3)), ("SOL", 1_750_000), ("ARB", 150_000)]
)
def test_hyperliquid_deductions(name: str, tier_1: Fraction) -> None:
    table = preset(f"hyperliquid:{name}")
    bound = table.tiers[1].lower_bound
    rate = Fraction(1, 2 * table.tiers[1].max_leverage)
    assert bound * rate - table.maintenance(bound) == tier_1


@pytest.mark.parametrize(
    ("ratio", "expected"), [(500, [500, 500, 716]), (300, [300, 340, 556])], ids=["initial", "maintenance"]
)
def test_drift_ratio_grows_with_the_root_of_size(ratio: int, expected: list[int]) -> None:
    market = velocity(margin_ratio_initial=500, margin_ratio_maintenance=300, imf_factor=1_000)
    assert [market.ratio_of_size(ratio, size) for size in (10, 100, 1_000)] == expected


def test_gmx_price_impact() -> None:
    assert float(preset("gmx-v2:BTC").price_impact(0, 10_000_000)) == pytest.approx(9_000, rel=1e-12)


@pytest.mark.parametrize(
    ("lltv", "expected"),
    [("38.5", 1.15), ("62.5", 1.1268), ("77", 1.0741), ("86", 1.0438), ("91.5", 1.0262), ("98", 1.0060)],
)
def test_morpho_incentive_factor(lltv: str, expected: float) -> None:
    assert round(float(preset(f"morpho-blue:{lltv}").incentive_factor()), 4) == expected


def test_maker_auction_price() -> None:
    vault = preset("maker:ETH-A")
    assert round(float(vault.auction_price(Fraction(100), 900)), 3) == 99.482
    assert vault.seconds_to_cusp() == 7_200  # the 80th cut is the first below: 79 of them last 7,110 s


def test_aave_v4_repays_up_to_the_target() -> None:
    spoke = Spoke(asset="WETH", collateral_factor_bps=8_000, max_liquidation_bonus_bps=10_500, target_health_bps=10_500)
    assert round(float(spoke.repaid_to_target(Fraction(100), Fraction(95, 100))), 2) == 47.62


def test_binance_cumulative_amounts() -> None:
    btc, vet = preset("binance:BTC"), preset("binance:VET")
    expected = [0, 50, 950, 11_450, 131_450, 481_450, 2_981_450, 14_481_450, 26_481_450, 41_481_450]
    assert btc.cumulative_amounts() == [*expected, 121_481_450, 421_481_450]
    assert vet.cumulative_amounts() == [0, 20, 395, 5_395, 25_395, 50_395, 675_395, 2_175_395]
    assert btc.policy()["initial_ratio"] == 2


# --- all legal sets -------------------------------------------------------------------------------------------------------


def velocity(**own: Any) -> PerpMarket:
    values = {"market_index": 0, "liquidator_fee": 10_000, "if_liquidation_fee": 10_000}
    return PerpMarket.model_validate({"margin_ratio_initial": 500, "margin_ratio_maintenance": 300} | values | own)


def legal(kind: type[Native], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Sets of the kind that keep its rules."""

    def made(values: dict[str, Any]) -> Native:
        try:
            return kind.model_validate(values)
        except ValidationError:
            assume(False)
            raise

    return st.fixed_dictionaries(fields).map(made)


def falling(most: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(1, most), min_size=1, max_size=3).map(lambda values: sorted(values, reverse=True))


def bps(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high)


TABLES = st.builds(
    lambda leverages, tier: MarginTable(
        coin="X",
        tier=tier % len(leverages),
        tiers=[{"lower_bound": 1_000_000 * i, "max_leverage": v} for i, v in enumerate(leverages)],
    ),
    falling(50),
    st.integers(0, 2),
)


def brackets(
    leverages: list[int], shares: list[int], bracket: int, kind: type[BracketTable] = BracketTable, **own: Any
) -> BracketTable:
    rates = sorted(max(9_999 * s // (100 * v), 1) for v, s in zip(leverages, shares, strict=False))
    return kind(
        **own,
        symbol="X",
        liquidation_fee_ppm=12_500,
        bracket=bracket % len(rates) + 1,
        brackets=[
            {"initial_leverage": v, "notional_cap": 1_000 * (i + 1), "maint_margin_ratio_bps": m}
            for i, (v, m) in enumerate(zip(leverages, rates, strict=False))
        ],
    )


def e30(most: Fraction) -> st.SearchStrategy[int]:
    return st.integers(1, int(most * 10**30))


CONSTANT = st.just
BRACKETS = (falling(125), st.lists(st.integers(1, 99), min_size=3, max_size=3), st.integers(0, 2))
LEGAL: dict[str, st.SearchStrategy[Any]] = {
    "aave-v3": legal(
        Reserve,
        asset=CONSTANT("X"),
        ltv_bps=bps(0, 9_000),
        liquidation_threshold_bps=bps(1_000, 9_500),
        liquidation_bonus_bps=bps(10_001, 12_000),
        liquidation_protocol_fee_bps=bps(0, 9_999),
    ),
    "aave-v4": legal(
        Spoke,
        asset=CONSTANT("X"),
        collateral_factor_bps=bps(1_000, 9_500),
        max_liquidation_bonus_bps=bps(10_000, 12_000),
        target_health_bps=CONSTANT(10_500),
    ),
    "binance": st.builds(brackets, *BRACKETS),
    "bybit": st.builds(partial(brackets, kind=RiskLimits), *BRACKETS),
    "compound-v3": legal(
        CollateralAsset,
        asset=CONSTANT("X"),
        comet=CONSTANT("C"),
        borrow_collateral_factor_bps=bps(0, 9_000),
        liquidate_collateral_factor_bps=bps(1_000, 9_500),
        liquidation_factor_bps=bps(5_000, 10_000),
        store_front_price_factor_bps=bps(0, 10_000),
    ),
    "crvusd": legal(
        Controller,
        market=CONSTANT("X"),
        a=st.integers(100, 10_000),
        bands=st.integers(4, 10),
        loan_discount_bps=bps(200, 5_000),
        liquidation_discount_bps=bps(100, 4_000),
    ),
    "derive": legal(
        PerpRequirements,
        market=CONSTANT("X"),
        mm_perp_req_e18=st.integers(10**15, 10**18 - 1),
        im_perp_req_e18=st.integers(10**15, 10**18 - 1),
        start_bps=CONSTANT(9_500),
        fast_end_bps=bps(0, 9_500),
        buffer_bps=CONSTANT(1_500),
    ),
    "dydx-v4": legal(
        LiquidityTier,
        id=CONSTANT(1),
        name=CONSTANT("X"),
        initial_margin_ppm=st.integers(1, 1_000_000),
        maintenance_fraction_ppm=st.integers(10_000, 1_000_000),
        impact_notional=st.integers(1, 2**64 - 1),
        max_liquidation_fee_ppm=st.integers(1, 1_000_000),
        min_position_notional_liquidated=CONSTANT(10**9),
        max_position_portion_liquidated_ppm=CONSTANT(100_000),
        max_notional_liquidated=CONSTANT(10**11),
        max_quantums_insurance_lost=CONSTANT(10**12),
        bankruptcy_adjustment_ppm=CONSTANT(1_000_000),
        spread_to_maintenance_margin_ratio_ppm=CONSTANT(1_000_000),
    ),
    "euler-v2": legal(
        VaultCollateral,
        collateral=CONSTANT("X"),
        borrow_ltv_bps=bps(0, 9_500),
        liquidation_ltv_bps=bps(100, 9_800),
        max_liquidation_discount_bps=bps(0, 9_999),
        ramp_duration_s=st.integers(0, 2**32 - 1),
    ),
    "gmx-v2": legal(
        MarketFactors,
        market=CONSTANT("X"),
        min_collateral_factor_e30=e30(Fraction(5, 100)),
        min_collateral_factor_for_liquidation_e30=e30(Fraction(1, 100)),
        liquidation_fee_factor_e30=e30(Fraction(1, 100)),
        fee_receiver_factor_e30=e30(Fraction(1)),
        negative_impact_factor_e30=CONSTANT(10**21),
        impact_exponent=CONSTANT(2.0),
    ),
    "hyperliquid": TABLES,
    "liquity-v2": legal(
        Branch,
        branch=CONSTANT("X"),
        mcr_bps=bps(10_100, 19_999),
        ccr_bps=CONSTANT(15_000),
        scr_bps=CONSTANT(11_000),
        bcr_bps=CONSTANT(1_000),
        stability_pool_penalty_bps=bps(500, 2_000),
        redistribution_penalty_bps=bps(500, 2_000),
    ),
    "maker": legal(
        CollateralType,
        ilk=CONSTANT("X"),
        mat_bps=bps(10_001, 100_000),
        chop_bps=bps(0, 5_000),
        hole_usd=CONSTANT(40_000_000),
        global_hole_usd=CONSTANT(150_000_000),
        dust_usd=CONSTANT(7_500),
        buf_bps=CONSTANT(11_000),
        tail_s=CONSTANT(7_200),
        cusp_bps=CONSTANT(4_500),
        chip_bps=CONSTANT(10),
        tip_usd=CONSTANT(250),
        step_s=CONSTANT(90),
        cut_bps=CONSTANT(9_900),
    ),
    "morpho-blue": st.sampled_from(["38.5", "62.5", "77", "86", "91.5", "94.5", "96.5", "98"]).map(
        lambda lltv: preset(f"morpho-blue:{lltv}")
    ),
    "okx": st.builds(partial(brackets, kind=PositionTiers, contract_usd=10), *BRACKETS),
    "synthetix-v3": legal(
        PerpsMarket,
        market=CONSTANT("X"),
        skew_scale=CONSTANT(12_500),
        reference_price_usd=CONSTANT(1e5),
        initial_margin_ratio_bps=bps(0, 20_000),
        minimum_initial_margin_ratio_ppm=st.integers(10_000, 900_000),
        maintenance_margin_scalar_ppm=st.integers(10_000, 999_999),
        flag_reward_ratio_ppm=st.integers(0, 100),
        maker_fee_ppm=CONSTANT(1),
        taker_fee_ppm=CONSTANT(500),
        limit_multiplier_bps=CONSTANT(15_000),
        window_s=CONSTANT(30),
    ),
    "velocity": legal(
        PerpMarket,
        market_index=CONSTANT(0),
        margin_ratio_initial=st.integers(300, 10_000),
        margin_ratio_maintenance=st.integers(125, 9_000),
        imf_factor=st.integers(0, 1_000_000),
        liquidator_fee=st.integers(0, 12_000),
        if_liquidation_fee=st.integers(0, 500_000),
    ),
}
# A policy to move to: maintenance (bps), initial over maintenance, penalty (bps), keepers' share.
POLICIES: dict[str, tuple[float, float]] = {
    "aave-v3": (600, 6_000),
    "aave-v4": (600, 6_000),
    "binance": (100, 3_000),
    "bybit": (100, 3_000),
    "compound-v3": (600, 6_000),
    "crvusd": (700, 1_900),
    "derive": (20, 4_000),
    "dydx-v4": (5, 2_000),
    "euler-v2": (200, 6_000),
    "gmx-v2": (5, 100),
    "hyperliquid": (100, 5_000),
    "liquity-v2": (100, 4_900),
    "maker": (100, 8_000),
    "morpho-blue": (200, 6_150),
    "okx": (100, 3_000),
    "synthetix-v3": (20, 2_000),
    "velocity": (125, 2_000),
}


def test_every_venue_is_tried() -> None:
    assert set(LEGAL) == set(POLICIES) == set(CODECS)


@pytest.mark.parametrize("name", CODECS)
def test_every_legal_set_comes_back_from_its_policy(name: str) -> None:
    @FAST
    @given(native=LEGAL[name])
    def check(native: Native) -> None:
        policy = native.policy()
        assert native.moved_to(policy) == native
        # Also where it has been through single precision.
        assert native.moved_to({key: float(np.float32(value)) for key, value in policy.items()}) == native

    check()


@pytest.mark.parametrize("name", CODECS)
def test_rounding_never_asks_for_less_margin_nor_for_much_more(name: str) -> None:
    low, high = POLICIES[name]

    @FAST
    @given(
        native=LEGAL[name],
        margin=st.floats(low, high),
        ratio=st.floats(1.1, 2.5),
        penalty=st.floats(5, 90),
        keepers=st.floats(0.1, 1),
    )
    def check(native: Native, margin: float, ratio: float, penalty: float, keepers: float) -> None:
        own = native.policy()
        wanted = {"base_margin_bps": margin, "initial_ratio": ratio, "penalty_bps": penalty, "keeper_share": keepers}
        asked = own | {key: value for key, value in wanted.items() if key in native.free}
        assume(asked["base_margin_bps"] * asked["initial_ratio"] <= 9_900)
        written = native.moved_to(asked)
        got = written.policy()
        initial_asked, initial_got = (p["base_margin_bps"] * p["initial_ratio"] for p in (asked, got))
        assert got["base_margin_bps"] >= margin * (1 - SAME)
        assert initial_got >= initial_asked * (1 - SAME)
        # The next set on the other side asks for no more than was asked for.
        other = native.moved_to(asked, safely=False).policy()
        assert other["base_margin_bps"] <= margin * (1 + SAME)
        if name not in ("hyperliquid", "morpho-blue"):
            assert got["base_margin_bps"] - margin <= max(2.0, SAME * margin)
        if "penalty_bps" in native.free and penalty < margin / 2:
            assert got["penalty_bps"] >= asked["penalty_bps"] * (1 - 1e-4) - 1e-9
        # What is written is written for good.
        assert written.moved_to(got) == written

    check()


@FAST
@given(margin=st.floats(100, 5_000))
def test_hyperliquid_takes_the_highest_leverage_that_is_careful_enough(margin: float) -> None:
    leverage = preset("hyperliquid:BTC").moved_to({"base_margin_bps": margin}).tiers[0].max_leverage
    assert 5_000 / leverage >= margin * (1 - SAME)
    assert 5_000 / (leverage + 1) < margin * (1 + SAME)


@FAST
@given(margin=st.floats(200, 6_150))
def test_morpho_takes_the_next_lower_loan_to_value_of_the_list(margin: float) -> None:
    market = preset("morpho-blue:86")
    lltv = market.moved_to({"base_margin_bps": margin, "initial_ratio": 1.0, "penalty_bps": 1.0}).lltv_bps
    higher = [other for other in market.enabled_lltv_bps if other > lltv]
    assert 10_000 - lltv >= margin * (1 - SAME)
    assert all(10_000 - other < margin * (1 + SAME) for other in higher)


@pytest.mark.parametrize(
    "name", [name for name in shipped_presets() if name not in ("aave-v4", "crvusd", "euler-v2", "velocity")]
)
def test_a_preset_is_legal_and_stays_what_it_is(name: str) -> None:
    native = preset(name)
    assert native.moved_to(native.policy()) == native
    assert {"base_margin_bps", "initial_ratio", "penalty_bps", "keeper_share"} <= set(native.policy())
    assert not set(native.free) & set(native.not_free)
    assert set(native.free) | set(native.not_free) == set(native.policy())
    assert native.worked()


# --- what the venue demands -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "own", "says"),
    [
        ("hyperliquid:BTC", {"tiers": [{"lower_bound": 5, "max_leverage": 9}]}, "the first lowerBound is 0"),
        ("hyperliquid:BTC", {"tier": 2}, "`tier` is one of the table's"),
        ("dydx-v4:large-cap", {"initial_margin_ppm": 0}, "0 < initial_margin_ppm"),
        ("dydx-v4:safety", {"maintenance_fraction_ppm": 900_000}, "fillable price can be negative"),
        ("dydx-v4:small-cap", {"open_interest_upper_cap": 0}, "open_interest_lower_cap <= "),
        ("gmx-v2:BTC", {"min_collateral_factor_e30": 10**27}, "FOR_LIQUIDATION <= MIN_COLLATERAL_FACTOR"),
        ("gmx-v2:BTC", {"liquidation_fee_factor_e30": 2 * 10**28}, "LIQUIDATION_FEE_FACTOR <= 1 %"),
        ("aave-v3:WETH", {"ltv_bps": 8_400}, "LTV <= liquidation threshold"),
        ("aave-v3:WETH", {"liquidation_bonus_bps": 12_100}, "liquidation bonus <= 100 %"),
        ("compound-v3:WETH", {"borrow_collateral_factor_bps": 8_950}, "borrowCollateralFactor < liquidate"),
        ("compound-v3:WETH", {"liquidation_factor_bps": 8_950}, "every absorption leaves bad debt"),
        ("morpho-blue:86", {"lltv_bps": 8_000}, "LLTV is one that is enabled: 38.5 %"),
        ("maker:ETH-A", {"hole_usd": 200_000_000}, "hole <= Hole"),
        ("maker:ETH-A", {"dust_usd": 39_000_000}, "dust x chop <= hole"),
        ("binance:BTC", {"bracket": 13}, "`bracket` is one of the table's"),
        ("derive:BTC", {"im_perp_req_e18": 10**16}, "mmPerpReq <= imPerpReq"),
        ("synthetix-v3:BTC", {"maintenance_margin_scalar_ppm": 10**6}, "0 < maintenanceMarginScalar < 1"),
        ("synthetix-v3:BTC", {"flag_reward_ratio_ppm": 6_000}, "no more than what is seized"),
        ("liquity-v2:WETH", {"mcr_bps": 20_000}, "100 % < MCR < 200 %"),
        ("liquity-v2:WETH", {"stability_pool_penalty_bps": 1_100}, "Stability Pool's penalty <= redistribution's"),
    ],
)
def test_a_set_that_breaks_a_rule_quotes_it(name: str, own: dict[str, Any], says: str) -> None:
    with pytest.raises(Exception, match="breaks the venue's rule") as error:
        preset(name, **own)
    assert says in str(error.value)


def test_all_broken_rules_are_told_at_once() -> None:
    with pytest.raises(ValidationError) as error:
        velocity(margin_ratio_maintenance=100, margin_ratio_initial=90, liquidator_fee=999_999)
    for says in ("125 <= maintenance < initial", "maintenance x 100 > liquidator_fee", "liquidator_fee + if"):
        assert says in str(error.value)


# --- what is written ------------------------------------------------------------------------------------------------------


def test_a_dydx_proposal_holds_the_whole_struct_with_long_integers_as_strings() -> None:
    before = preset("dydx-v4:long-tail")
    after = before.moved_to(before.policy() | {"base_margin_bps": 1_200.0})
    written = after.proposal(before, BASIS)["proposal.json"]
    (message,) = written["messages"]
    assert message["@type"] == "/dydxprotocol.perpetuals.MsgSetLiquidityTier"
    assert message["liquidity_tier"] == {
        "id": 2,
        "name": "Long-Tail",
        "initial_margin_ppm": 240_000,
        "maintenance_fraction_ppm": 500_000,
        "impact_notional": "2500000000",
        "open_interest_lower_cap": "5000000000000",
        "open_interest_upper_cap": "10000000000000",
    }
    dearer = before.moved_to(before.policy() | {"penalty_bps": 200.0})
    tier, liquidations = dearer.proposal(before, BASIS)["proposal.json"]["messages"]
    config = liquidations["liquidations_config"]
    assert config["max_liquidation_fee_ppm"] == 20_000
    assert config["subaccount_block_limits"] == {
        "max_notional_liquidated": "100000000000",
        "max_quantums_insurance_lost": "1000000000000",
    }
    read = LiquidityTier.model_validate(
        before.model_dump()
        | {key: int(value) if str(value).isdigit() else value for key, value in tier["liquidity_tier"].items()}
        | {"max_liquidation_fee_ppm": config["max_liquidation_fee_ppm"]}
    )
    assert read == dearer


def test_a_hyperliquid_table_merges_equal_tiers_and_a_deployer_gets_an_action() -> None:
    before = preset("hyperliquid:ETH", dex="abc")
    careful = before.moved_to({"base_margin_bps": 500.0})
    assert [tier.max_leverage for tier in careful.tiers] == [10, 10]
    files = careful.proposal(before, BASIS)
    assert files["margin_table.json"]["marginTiers"] == [{"lowerBound": "0.0", "maxLeverage": 10}]
    assert files["perp_deploy.json"] == {"type": "perpDeploy", "setMarginTableIds": [["abc:ETH", 10]]}
    tiered = before.moved_to({"base_margin_bps": 250.0}).proposal(before, BASIS)["perp_deploy.json"]
    assert tiered["insertMarginTable"]["marginTable"]["marginTiers"] == [
        {"lowerBound": 0, "maxLeverage": 20},
        {"lowerBound": 100_000_000, "maxLeverage": 15},
    ]


def test_an_aave_update_keeps_what_stays_and_writes_the_bonus_without_its_hundred_per_cent() -> None:
    before = preset("aave-v3:WETH")
    after = before.but(liquidation_threshold_bps=8_200, liquidation_bonus_bps=10_600)
    files = after.proposal(before, BASIS)
    assert list(files) == ["config_engine.json"]
    update = files["config_engine.json"]["CollateralUpdate"]
    kept = str(2**256 - 1 - 42)
    assert str(KEEP_CURRENT) == kept
    assert update == {"asset": "WETH", "ltv": kept, "liqThreshold": "8200", "liqBonus": "600", "liqProtocolFee": kept}
    emode = preset("aave-v3:emode-eth")
    changed = emode.but(ltv_bps=9_300).proposal(emode, BASIS)["config_engine.json"]["EModeCategoryUpdate"]
    assert changed == {
        "eModeCategory": 1,
        "ltv": "9300",
        "liqThreshold": kept,
        "liqBonus": kept,
        "label": "KEEP_CURRENT_STRING",
        "isolated": kept,
    }


def test_an_aave_protocol_fee_is_a_file_of_its_own_since_risk_stewards_refuse_it() -> None:
    before = preset("aave-v3:WETH")
    kept = str(KEEP_CURRENT)
    fee = {"asset": "WETH", "ltv": kept, "liqThreshold": kept, "liqBonus": kept, "liqProtocolFee": "1500"}
    alone = before.but(liquidation_protocol_fee_bps=1_500).proposal(before, BASIS)
    assert alone == {"config_engine_fee.json": {"CollateralUpdate": fee}}
    both = before.but(liquidation_protocol_fee_bps=1_500, ltv_bps=7_950).proposal(before, BASIS)
    assert both["config_engine_fee.json"] == alone["config_engine_fee.json"]
    assert both["config_engine.json"]["CollateralUpdate"]["liqProtocolFee"] == kept


def test_an_e_mode_has_no_fee_of_its_own_to_free() -> None:
    assert preset("aave-v3:emode-eth").free == ("base_margin_bps", "initial_ratio", "penalty_bps")
    assert "keeper_share" in preset("aave-v3:WETH").free


def test_compound_calls_are_stored_fractions_and_end_with_the_deployment() -> None:
    before = preset("compound-v3:WETH")
    after = before.but(borrow_collateral_factor_bps=8_000, liquidate_collateral_factor_bps=8_700)
    actions = after.proposal(before, BASIS)["actions.json"]
    assert [action["signature"].partition("(")[0] for action in actions] == [
        "updateAssetBorrowCollateralFactor",
        "updateAssetLiquidateCollateralFactor",
        "deployAndUpgradeTo",
    ]
    assert actions[1]["args"] == ["cUSDCv3", "WETH", "870000000000000000"]


@pytest.mark.parametrize(
    ("ratio", "first"), [(2.0, "MIN_COLLATERAL_FACTOR"), (1.0, "MIN_COLLATERAL_FACTOR_FOR_LIQUIDATION")]
)
def test_gmx_keys_are_set_so_that_opening_never_asks_for_less_than_staying(ratio: float, first: str) -> None:
    one = preset("gmx-v2:BTC")
    other = one.moved_to(one.policy() | {"base_margin_bps": 80.0, "initial_ratio": 2.0})
    before, after = (one, other) if ratio == 2.0 else (other, one)
    calls = after.proposal(before, BASIS)["calls.json"]
    assert calls[0]["baseKey"] == first
    assert {call["baseKey"]: call["value"] for call in calls}["MIN_COLLATERAL_FACTOR"] == str(
        16 * 10**27 if ratio == 2.0 else 5 * 10**27
    )


def test_morpho_moves_vault_caps_to_the_market_that_is_chosen() -> None:
    before, after = preset("morpho-blue:86"), preset("morpho-blue:77")
    files = after.proposal(before, BASIS)
    assert files["market.json"]["marketParams"]["lltv"] == "770000000000000000"
    new, accepted, old = files["vault_caps.json"]
    assert accepted == {"call": "acceptCap", "marketParams": new["marketParams"]}
    assert new["newSupplyCap"] == str(int(150e6 * 0.77 * 10**6))
    assert old["newSupplyCap"] == "0"
    assert old["marketParams"]["lltv"] == "860000000000000000"


def test_a_morpho_cap_is_in_the_loan_tokens_own_units() -> None:
    market = preset("morpho-blue:94.5", loan_token="WETH", loan_token_decimals=18, loan_token_usd=2_500.0)
    cap = market.proposal(market, BASIS)["vault_caps.json"][0]["newSupplyCap"]
    assert cap == str(56_700 * 10**18)  # 94.5 % of 150,000,000 USD at 2,500 USD


@pytest.mark.parametrize(("liquidation", "ramp"), [(8_000, 604_800), (8_800, 0)], ids=["lowered", "raised"])
def test_an_euler_ramp_is_for_lowering_alone(liquidation: int, ramp: int) -> None:
    values = {"borrow_ltv_bps": 7_500, "max_liquidation_discount_bps": 1_500, "ramp_duration_s": 604_800}
    before = VaultCollateral(collateral="0xC", liquidation_ltv_bps=8_500, **values)
    after = before.but(liquidation_ltv_bps=liquidation)
    (call,) = after.proposal(before, BASIS)["vault_calls.json"]
    assert call["args"] == ["0xC", 7_500, liquidation, ramp]


def test_maker_files_rays_and_wads() -> None:
    before = preset("maker:ETH-A")
    after = before.but(mat_bps=15_000, chop_bps=1_200)
    files = after.proposal(before, BASIS)
    mat, chop, chost = files["spell_files.json"]
    assert (mat["value"], chop["value"]) == (str(15 * 10**26), str(112 * 10**16))
    # The clipper keeps dust x chop: filing a chop without this leaves it as it was.
    assert chost == {"call": "upchost()", "contract": "MCD_CLIP_ETH_A"}
    alone = before.but(mat_bps=15_000).proposal(before, BASIS)["spell_files.json"]
    assert [entry.get("what") for entry in alone] == ["mat"]
    assert files["spell_test_config.json"]["ETH-A"]["chop"] == 1_200


def test_a_binance_table_is_continuous() -> None:
    before = preset("binance:BTC", bracket=5)
    after = before.moved_to(before.policy() | {"base_margin_bps": 301.2})
    rows = after.proposal(before, BASIS)["leverage_brackets.json"][0]["brackets"]
    assert rows[4]["maintMarginRatio"] == 0.0302
    # Brackets that would ask for less than the one before are lifted, the others stay.
    assert [row["maintMarginRatio"] for row in rows[3:7]] == [0.01, 0.0302, 0.0302, 0.05]
    for lower, upper in pairwise(rows):
        at = upper["notionalFloor"]
        there = [at * row["maintMarginRatio"] - row["cum"] for row in (lower, upper)]
        assert there[0] == pytest.approx(there[1], rel=1e-12)


TWO_TIERS = (
    {"initial_leverage": 100, "notional_cap": 1_000_500, "maint_margin_ratio_bps": 40},
    {"initial_leverage": 50, "notional_cap": 2_000_000, "maint_margin_ratio_bps": 65},
)


def test_okx_tiers_take_nothing_off_and_are_told_so() -> None:
    tiers = preset("okx:BTC", brackets=TWO_TIERS)
    rows = tiers.proposal(tiers, BASIS)["position_tiers.json"]
    assert [(row["minSz"], row["maxSz"]) for row in rows] == [("0", "1000"), ("1000", "2000")]
    assert [value for _, value in tiers.worked()] == ["0.4 %", "0.65 %"]


def test_okx_tiers_of_less_than_a_contract_are_refused() -> None:
    with pytest.raises(UserError, match=r"every tier holds at least one contract \(found bounds of \[0, 1, 1\]\)"):
        preset("okx:BTC", brackets=TWO_TIERS, contract_usd=1_000_400)


def test_what_a_table_of_one_bracket_shows_lies_within_it() -> None:
    assert dict(preset("bybit:BTC").worked())["maintenance of a position of 2,000,000 USD"] == "10,000"


def test_derive_writes_millionths() -> None:
    before = preset("derive:ETH")
    after = before.moved_to(before.policy() | {"base_margin_bps": 333.3, "initial_ratio": 1.5})
    assert (after.mm_perp_req_e18, after.im_perp_req_e18) == (33_330 * 10**12, 49_995 * 10**12)


def test_a_liquity_branch_is_written_whole() -> None:
    branch = preset("liquity-v2:WETH")
    assert branch.proposal(branch, BASIS)["branch.json"] == {
        "branch": "WETH",
        "MCR": str(11 * 10**17),
        "CCR": str(15 * 10**17),
        "SCR": str(11 * 10**17),
        "BCR": str(10**17),
        "LIQUIDATION_PENALTY_SP": str(5 * 10**16),
        "LIQUIDATION_PENALTY_REDISTRIBUTION": str(10**17),
    }


def test_a_market_of_morpho_is_one_of_the_contract() -> None:
    with pytest.raises(ValidationError, match="LLTV is one that is enabled"):
        Market.model_validate(preset("morpho-blue:86").model_dump() | {"lltv_bps": 8_601})
