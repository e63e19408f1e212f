"""The way from one parameter set to another: every state on it is legal, and no step is larger than the venue allows."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from calibrate.export.aave import Reserve
from calibrate.export.native import Basis
from calibrate.export.steps import NoLegalWay, in_legal_order, in_steps
from calibrate.export.velocity import PerpMarket
from calibrate.presets import load_preset

FAST = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
STEWARD = {"ltv_bps": 50, "liquidation_threshold_bps": 50, "liquidation_bonus_bps": 50}


def reserve(ltv: int, threshold: int, bonus: int) -> Reserve:
    return Reserve(
        asset="WETH",
        ltv_bps=ltv,
        liquidation_threshold_bps=threshold,
        liquidation_bonus_bps=bonus,
        liquidation_protocol_fee_bps=1_000,
    )


@st.composite
def reserves(draw: st.DrawFn) -> Reserve:
    threshold = draw(st.integers(2_000, 9_700))
    return reserve(draw(st.integers(0, threshold)), threshold, draw(st.integers(10_001, 10**8 // threshold)))


@st.composite
def markets(draw: st.DrawFn) -> PerpMarket:
    maintenance = draw(st.integers(125, 4_000))
    initial = draw(st.integers(maintenance + 1, 10_000))
    high = {}
    if draw(st.booleans()):
        low = draw(st.integers(50, maintenance - 1))
        assume(low + 1 < initial)
        high = {
            "high_leverage_margin_ratio_initial": draw(st.integers(low + 1, initial - 1)),
            "high_leverage_margin_ratio_maintenance": low,
        }
    return PerpMarket(
        market_index=0,
        margin_ratio_initial=initial,
        margin_ratio_maintenance=maintenance,
        imf_factor=draw(st.integers(0, 10_000)),
        liquidator_fee=draw(st.integers(0, 100 * maintenance - 1)),
        if_liquidation_fee=draw(st.integers(0, 100_000)),
        **high,
    )


@FAST
@given(before=markets(), after=markets())
def test_instructions_come_in_an_order_whose_every_state_is_legal(before: PerpMarket, after: PerpMarket) -> None:
    values: dict[str, Any] = before.model_dump()
    for entry in after.proposal(before, Basis("", "", 1.0))["instructions.json"]:
        values |= entry["args"]
        PerpMarket.model_validate(values)  # what the venue checks after each instruction
    assert PerpMarket.model_validate(values) == after


def test_a_higher_fee_waits_for_the_margin_that_has_to_exceed_it() -> None:
    before = load_preset("velocity", Path(), "", velocity(500, 300, 25_000)).native
    after = before.but(margin_ratio_maintenance=450, liquidator_fee=40_000)
    ratios, fees = ("margin_ratio_initial", "margin_ratio_maintenance"), ("liquidator_fee", "if_liquidation_fee")
    assert [step.fields for step in in_legal_order(before, after)] == [ratios, fees]
    assert [step.fields for step in in_legal_order(after, before)] == [fees, ratios]
    with pytest.raises(ValidationError):
        before.but(liquidator_fee=40_000)


def velocity(initial: int, maintenance: int, fee: int) -> dict[str, Any]:
    ratios = {"margin_ratio_initial": initial, "margin_ratio_maintenance": maintenance}
    return ratios | {"market_index": 0, "liquidator_fee": fee, "if_liquidation_fee": 0}


@FAST
@given(before=reserves(), after=reserves())
def test_steps_are_legal_no_larger_than_allowed_and_lead_to_the_target(before: Reserve, after: Reserve) -> None:
    states = in_steps(before, after, STEWARD)
    assert (states or [before])[-1] == after
    for one, other in pairwise([before, *states]):
        for field, largest in STEWARD.items():
            assert abs(getattr(other, field) - getattr(one, field)) <= largest
    # Legal states are all that can be made; none is made for nothing.
    assert len(set(states)) == len(states)


@FAST
@given(before=reserves(), threshold=st.integers(2_000, 9_700))
def test_steps_are_as_few_as_the_limit_allows_where_no_rule_is_in_the_way(before: Reserve, threshold: int) -> None:
    assume(before.ltv_bps <= threshold <= 10**8 // before.liquidation_bonus_bps)
    after = before.but(liquidation_threshold_bps=threshold)
    distance = abs(threshold - before.liquidation_threshold_bps)
    states = in_steps(before, after, STEWARD)
    assert len(states) == -(-distance // 50)
    moves = [abs(b.liquidation_threshold_bps - a.liquidation_threshold_bps) for a, b in pairwise([before, *states])]
    assert not moves or max(moves) - min(moves) <= 1


def test_sixteen_steps_of_half_a_percent_point() -> None:
    states = in_steps(reserve(8_000, 8_300, 10_500), reserve(7_200, 7_500, 10_500), STEWARD)
    assert len(states) == 16
    assert [(s.ltv_bps, s.liquidation_threshold_bps) for s in states[:2]] == [(7_950, 8_250), (7_900, 8_200)]


def test_without_limits_it_is_one_step() -> None:
    before, after = reserve(8_000, 8_300, 10_500), reserve(7_200, 7_500, 11_000)
    assert in_steps(before, after, {}) == [after]
    assert in_steps(before, before, STEWARD) == []


def test_where_no_order_is_legal_it_says_so() -> None:
    before = load_preset("gmx-v2:BTC", Path(), "").native

    class Stuck(type(before)):  # type: ignore[misc]
        """A market whose two factors must stay equal, though each is set by itself."""

        def rules(self):  # type: ignore[no-untyped-def]
            yield from super().rules()
            equal = self.min_collateral_factor_e30 == self.min_collateral_factor_for_liquidation_e30
            yield type(next(super().rules()))(equal, "equal")

    stuck = Stuck.model_validate(before.model_dump())
    both = {"min_collateral_factor_e30": 10**28, "min_collateral_factor_for_liquidation_e30": 10**28}
    with pytest.raises(NoLegalWay, match="no order of the transactions"):
        in_legal_order(stuck, stuck.but(**both))
