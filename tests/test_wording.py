"""Numbers are rounded where their error says so, and names say what they mean."""

import math

import pytest

from calibrate import wording

MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"


@pytest.mark.parametrize(
    ("share", "error", "expected"),
    [
        (8.1e-4, 4.6e-5, "0.081 % ± 0.005 %"),
        (8.1e-4, 1.24e-5, "0.0810 % ± 0.0012 %"),
        (0.5, math.nan, "50 %"),
        (1e-5, math.nan, "0.001 %"),
        (0.0, 0.0, "0 %"),
        (-0.02, math.nan, f"{MINUS}2 %"),
        (2e-12, math.nan, f"2.0 {TIMES} 10⁻¹⁰ %"),
        (math.nan, 0.1, "n/a"),
        (math.inf, math.nan, "n/a"),
    ],
)
def test_shares_read_as_per_cent(share: float, error: float, expected: str) -> None:
    assert wording.percent(share, error) == expected


@pytest.mark.parametrize(
    ("amount", "error", "expected"),
    [
        (16234.0, 912.0, "$16,200 ± $900"),
        (2e8, math.nan, "$200,000,000"),
        (123_456_789.0, math.nan, "$123,456,789"),
        (3.456, math.nan, "$3.46"),
        (-1500.0, math.nan, f"{MINUS}$1,500"),
    ],
)
def test_dollars_have_thousands_separators(amount: float, error: float, expected: str) -> None:
    assert wording.usd(amount, error) == expected


def test_settings_keep_the_digits_of_a_proposal() -> None:
    assert wording.setting(112.43) == "112.4"
    assert wording.setting(1234.5) == "1,234" or wording.setting(1234.5) == "1,235"
    assert wording.signed(16.9) == "+16.9"
    assert wording.signed(-16.9) == f"{MINUS}16.9"
    assert wording.signed(0.0) == "0"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (1.0, 0.65, f"{MINUS}35 %"),
        (1.0, 1.1, "+10 %"),
        (1.0, 2.5, f"2.5{TIMES} higher"),
        (1.0, 1.0, "unchanged"),
        (0.0, 0.0, "unchanged"),
        (0.0, 1.0, "n/a"),
        (1.0, 0.0012, f"{MINUS}99.88 %"),
        (1.0, 0.0, f"{MINUS}100 %"),
    ],
)
def test_changes_are_relative(old: float, new: float, expected: str) -> None:
    assert wording.relative_change(old, new) == expected


def test_odds_have_two_digits() -> None:
    assert wording.odds(8.1e-4) == "about 1 in 1,200"
    assert wording.odds(0.0) == "n/a"


def test_horizons_are_counted() -> None:
    assert [wording.horizon(days) for days in (1.0, 7.0, 0.25)] == ["1 day", "7 days", "6 hours"]


def test_names_come_with_or_without_the_unit() -> None:
    assert wording.parameter_name("penalty_bps") == wording.parameter_name("penalty") == "Liquidation penalty"
    assert wording.parameter_name("base_margin_bps") == "Base margin"
    assert wording.parameter_name("volatility level") == "Volatility level"
    assert wording.parameter_name("margin_rise_bps_per_hour") == wording.parameter_name("margin_rise")
    units = {"base_margin_bps": "bps", "forecast_memory_hours": "hours", "margin_rise_bps_per_hour": "bps per hour"}
    assert {key: wording.parameter_unit(key) for key in (*units, "x")} == units | {"x": ""}


def test_roles_are_capitalised_and_names_are_not() -> None:
    assert [wording.role(label) for label in ("best found", "plan B", "DAO")] == ["Best found", "plan B", "DAO"]


@pytest.mark.parametrize(
    ("key", "name", "family"),
    [
        ("bad_debt", "Bad debt", "bad_debt"),
        ("bad_debt_es", "Bad debt, mean of the worst part", "bad_debt_es"),
        ("bad_debt_es_99", "Bad debt, mean of the worst 1 %", "bad_debt_es"),
        ("bad_debt_es_99.9", "Bad debt, mean of the worst 0.1 %", "bad_debt_es"),
        ("bad_debt_var_97.5", "Bad debt, 97.5 % quantile", "bad_debt_var"),
        ("liquidations_at_risk_99", "Liquidated, 99 % quantile", "liquidations_at_risk"),
        ("never_heard_of", "Never heard of", "never_heard_of"),
    ],
)
def test_tails_are_named_by_their_level(key: str, name: str, family: str) -> None:
    assert wording.metric_name(key) == name
    assert wording.metric_family(key) == family


def test_lists_read_as_sentences() -> None:
    assert wording.together(["a"]) == "a"
    assert wording.together(["a", "b", "c"]) == "a, b and c"
    assert wording.sentence("every limit is kept") == "Every limit is kept."
