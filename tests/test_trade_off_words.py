"""Where a policy stands, and what the curve is worth, read as sentences that say what is known and no more."""

from typing import Any

import made_up_run
import pytest
from made_up_run import estimate

from calibrate import wording
from calibrate.trade_off_words import (
    hypervolume_at_length,
    hypervolume_briefly,
    standing_at_length,
    standing_briefly,
)

TIMES = wording.TIMES
ABOVE, CLOSE = made_up_run.trade_off()["standings"]


def standing(**changes: Any) -> dict[str, Any]:
    return ABOVE | {"label": "wide", "dominated": False} | changes


def test_the_terminal_says_it_in_a_line() -> None:
    assert standing_briefly(ABOVE) == (
        "incumbent against the frontier: at its insolvency probability a leverage higher by 7.50 ± 0.10 "
        "(users pay 0.025 % ± 0.002 %, not 0.0340 % ± 0.0010 %), at its leverage a probability 22.0 ± 1.4 times lower"
    )


def test_the_report_says_it_in_sentences() -> None:
    assert standing_at_length("The policy in force today", ABOVE) == (
        f"The policy in force today offers a leverage of 18.20{TIMES} ± 0.02{TIMES} "
        "at an insolvency probability of 0.460 % ± 0.011 %. "
        f"At that probability the frontier offers a leverage higher by 7.50 ± 0.10, and users who are liquidated pay "
        "0.025 % ± 0.002 % of open interest instead of 0.0340 % ± 0.0010 %. "
        "At that leverage the frontier's probability is 22.0 ± 1.4 times lower. "
        "A point of the frontier beats it on both counts, by more than the error bars."
    )
    assert "beats" not in standing_at_length("wide", standing())


@pytest.mark.parametrize("say", [standing_briefly, lambda entry: standing_at_length("x", entry)])
def test_a_policy_ahead_of_the_curve_is_said_to_be(say: Any) -> None:
    said = say(standing(more_leverage=estimate(-2.0, 0.1), times_safer=estimate(0.5, 0.05)))
    assert "a leverage lower by 2.00 ± 0.10" in said
    assert "2.0 ± 0.2 times higher" in said  # a relative error of a tenth, either way round
    assert "within the error" not in said


@pytest.mark.parametrize("say", [standing_briefly, lambda entry: standing_at_length("x", entry)])
def test_what_the_error_hides_is_said_to_be_hidden(say: Any) -> None:
    said = say(CLOSE)
    assert "a leverage lower by 0.08 ± 0.12 (within the error)" in said
    assert "1.04 ± 0.07 times higher (within the error)" in said
    assert "within the error" not in say(ABOVE)


@pytest.mark.parametrize("gap", ["more_leverage", "times_safer"])
def test_beyond_the_sweep_nothing_is_claimed(gap: str) -> None:
    for said in (standing_briefly(standing(**{gap: None})), standing_at_length("x", standing(**{gap: None}))):
        assert said.count("beyond the sweep") == 1
        assert ("leverage higher" in said) == (gap != "more_leverage")
        assert ("times lower" in said) == (gap != "times_safer")


def test_what_is_beyond_the_sweep_altogether_is_said_to_be_so_once() -> None:
    far = standing(more_leverage=None, user_cost_there=None, times_safer=None)
    assert standing_briefly(far) == "wide against the frontier: beyond the sweep"
    assert standing_at_length("wide", far).endswith("from the frontier cannot be told: beyond the sweep.")


def test_a_policy_that_never_failed_cannot_be_compared() -> None:
    never = standing(
        insolvency_probability={"value": 0.0, "standard_error": 5e-6, "interval": [0.0, 1.8e-5]},
        more_leverage=None,
        times_safer=None,
    )
    assert standing_briefly(never) == "wide against the frontier: no insolvency seen, so there is nothing to compare"
    said = standing_at_length("wide", never)
    assert "on none of the simulated paths (below 0.0018 %)" in said
    assert "cannot be told" in said


def test_the_area_is_given_with_its_error_and_its_corner() -> None:
    hypervolume = made_up_run.trade_off()["hypervolume"]
    for said in (hypervolume_briefly(hypervolume), hypervolume_at_length(hypervolume)):
        assert "61.3 ± 1.1" in said
        assert f"a leverage of 1{TIMES} and a probability of 10 %" in said
        assert "arger" in said


def test_a_sweep_without_a_certified_point_has_no_area() -> None:
    warning = "no point of the sweep was certified"
    hypervolume = made_up_run.trade_off()["hypervolume"] | {"value": 0.0, "standard_error": 0.0, "warning": warning}
    assert f"hypervolume: 0, since {warning}" in hypervolume_briefly(hypervolume)
