"""How paths were drawn, what limits cost and what assumptions force, read as sentences that claim no more than is known."""

import io
import math
from typing import Any

import made_up_run
import pytest
from rich.console import Console

from calibrate import wording
from calibrate.evidence_words import (
    by_kind_and_size,
    doubling_at_length,
    doubling_briefly,
    drawn_at_length,
    drawn_briefly,
    forced_at_length,
    forced_change,
    found_again,
    limit_prices,
    rests_on,
)
from calibrate.terminal import evidence_lines, sensitivity_table

TIMES, MINUS = wording.TIMES, wording.MINUS
RECOMMENDED = made_up_run.recommended()
CERTIFICATE = RECOMMENDED["certificate"]
PROBABILITY, TAIL = CERTIFICATE["constraints"]
DOUBLED = RECOMMENDED["limits_doubled"]
OLDER = made_up_run.older(RECOMMENDED)


def certificate(**changes: Any) -> dict[str, Any]:
    return CERTIFICATE | changes


def test_the_terminal_says_how_paths_were_drawn_and_what_doubling_buys() -> None:
    assert evidence_lines(RECOMMENDED) == [
        "evidence: 400,000 weighted paths, each worth 29 plain ones; 1,840 effective",
        f"tolerating twice as much on all limits would raise leverage by 2.1, from 21.3{TIMES} to 23.4{TIMES}",
    ]
    assert all(len(line) <= 90 for line in evidence_lines(RECOMMENDED))


def test_where_nothing_is_known_nothing_is_said() -> None:
    assert evidence_lines(OLDER) == []
    assert evidence_lines({"certificate": None, "limits_doubled": None}) == []
    assert drawn_at_length(OLDER["certificate"]) == []
    assert drawn_briefly(certificate(sampling="plain")) == ""
    assert [forced_change(entry) for entry in OLDER["sensitivities"]] == [""] * 5
    assert forced_at_length(OLDER["sensitivities"][0]) == ""


def test_plain_paths_need_one_sentence() -> None:
    assert drawn_at_length(OLDER["certificate"] | {"sampling": "plain"}) == [
        "Paths were drawn by the market's own law, and all count alike (plain sampling)."
    ]


def test_weighted_paths_are_explained_with_what_they_cannot_rule_out() -> None:
    method, caveat = drawn_at_length(certificate(paths=300_000))
    assert "(importance sampling)" in method
    assert "tells as much about the limits as 29 that are drawn plainly" in method
    # 3 / (0.2 * 300,000)
    assert "only seen by the 20 % of paths that follow the market's own law, about 60,000" in caveat
    assert "below about 0.005 % (3 over their number)" in caveat
    assert "The tolerance of 0.1 % is above it, 20 times as high." in caveat


def test_a_tolerance_that_plain_paths_cannot_see_is_said_to_be_one() -> None:
    strict = certificate(paths=300_000, constraints=[PROBABILITY | {"limit": 1e-5}])
    assert drawn_at_length(strict)[1].endswith("The tolerance of 0.001 % is such a chance.")
    assert "tolerance" not in drawn_at_length(certificate(constraints=[TAIL]))[1].lower()


def test_an_unknown_gain_is_left_out() -> None:
    for gain in (None, math.nan, math.inf):
        assert drawn_briefly(certificate(gain=gain)) == "evidence: 400,000 weighted paths; 1,840 effective"
        assert "tells as much" not in drawn_at_length(certificate(gain=gain))[0]


def test_every_estimate_says_what_it_rests_on() -> None:
    first, second = rests_on(CERTIFICATE)
    assert first == (
        "Insolvency probability: the estimate rests on as much as 3,120 equally heavy paths with such losses; the heaviest one "
        "makes up 1.2 % of it. Two halves of the paths differ by 1.0 standard errors, and the mean weight is 0.3 standard "
        "errors from one, which is what it has to be."
    )
    assert "1,840 equally heavy" in second
    unseen = PROBABILITY | {"diagnosis": made_up_run.diagnosis(0.0, 1.0)}
    assert list(rests_on(certificate(constraints=[unseen]))) == [
        "Insolvency probability: no path with such a loss was drawn."
    ]
    assert list(rests_on(OLDER["certificate"])) == []


@pytest.mark.parametrize(
    ("after", "more", "said"),
    [
        (13.069, 1.412, f"raise leverage by 1.4, from 11.7{TIMES} to 13.1{TIMES}"),
        (9.0, -0.5, f"lower leverage by 0.5, from 9.5{TIMES} to 9.0{TIMES}"),
        (9.0, 0.0, f"leave the leverage at 9.0{TIMES}"),
    ],
)
def test_doubling_buys_leverage_costs_it_or_neither(after: float, more: float, said: str) -> None:
    doubled = {"max_leverage": after, "more_leverage": more}
    assert doubling_briefly(doubled) == f"tolerating twice as much on all limits would {said}"
    assert doubling_at_length(doubled, 1) == f"Tolerating twice as much would {said}."
    assert doubling_at_length(doubled, 2) == f"Tolerating twice as much on all limits at once would {said}."


def test_an_unknown_doubling_is_left_out() -> None:
    assert doubling_briefly({"max_leverage": math.nan, "more_leverage": math.nan}) == doubling_at_length(None, 1) == ""


def test_limits_are_sorted_by_their_price() -> None:
    dear = TAIL | {"shadow_price": 0.25}
    assert limit_prices([PROBABILITY, dear, TAIL, TAIL | {"shadow_price": math.nan}]) == [
        "Bad debt, mean of the worst 1 %, limit 0.5 %: binds. If it alone were 10 % higher, what the search minimises would fall "
        "by about 2.5 %.",
        "Insolvency probability, limit 0.1 %: binds. If it alone were 10 % higher, what the search minimises would fall "
        "by about 1 %.",
        "Bad debt, mean of the worst 1 %, limit 0.5 %: does not bind.",
    ]


def test_drivers_are_sorted_by_kind_then_by_what_they_force() -> None:
    def assumption(name: str, percent: float, elasticity: float = 1.0) -> dict[str, Any]:
        entry = made_up_run.sensitivity(name, "assumption", elasticity, 0.1)
        return entry | {"a_tenth_more_forces": {"margin_percent": percent, "standard_error": 0.1}}

    policy = made_up_run.sensitivity("p", "policy", 50.0, 0.1)
    entries = [policy, assumption("a", -2.0), assumption("?", math.nan, math.nan), assumption("b", 3.0)]
    assert [entry["parameter"] for entry in sorted(entries, key=by_kind_and_size)] == ["b", "a", "?", "p"]


def test_what_is_forced_has_a_sign_and_an_error() -> None:
    up, down = RECOMMENDED["sensitivities"][:2]
    assert (forced_change(up), forced_change(down)) == ("+14.2 % ± 0.8 %", f"{MINUS}3.8 % ± 0.4 %")
    assert forced_at_length(down) == "the margin would have to be 3.8 % ± 0.4 % lower"


@pytest.mark.parametrize("width", [80, 100])
def test_the_table_of_drivers_fits_a_screen(width: int) -> None:
    longest = made_up_run.sensitivity("keeper delay (from none to one step)", "assumption", 0.00717, 0.0056)
    multiplier = made_up_run.sensitivity("volatility_multiplier", "policy", -1.31, 0.16)
    drivers = [*RECOMMENDED["sensitivities"], longest, multiplier]
    shown = io.StringIO()
    Console(file=shown, width=width, markup=False).print(sensitivity_table({"sensitivities": drivers}))
    text = shown.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert "+14.2 ± 0.8" in text
    assert "-3.8 ± 0.4" in text
    assert "volatility_multiplier" in text
    assert text.index("market depth") < text.index("penalty_bps")


def test_older_drivers_have_no_column_of_what_they_force() -> None:
    assert len(sensitivity_table(RECOMMENDED).columns) == len(sensitivity_table(OLDER).columns) + 1


def test_what_solving_again_finds_is_said_and_where_it_differs() -> None:
    entry = made_up_run.sensitivity("volatility level", "assumption", 7.1, 0.4)
    again = {"margin_percent": 6.94, "standard_error": 0.21, "agrees": True}
    assert found_again(entry) == ""
    assert found_again(entry | {"found_again": again}) == "solved again: +6.9 % ± 0.2 %"
    differs = entry | {"found_again": again | {"agrees": False}}
    assert forced_at_length(differs).endswith("higher (solved again: +6.9 % ± 0.2 %, which differs)")
