"""What a fit finds in tables of accounts: the parts of made books within its own errors, and recorded ones; and bad tables."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_job
from made_world import PARTS, made_book
from statistical import assert_close

from calibrate.assemble import assemble
from calibrate.book import accounts_below
from calibrate.data.borrowers import Holdings, read_borrowers, read_holdings
from calibrate.errors import UserError
from calibrate.fits.book import fit_book
from calibrate.fits.result import WorldFit
from calibrate.job import load_job


def known(fit: WorldFit, name: str) -> tuple[float, float]:
    figure = fit.figure(name)
    assert figure.standard_error is not None
    return figure.value, figure.standard_error


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_made_book_is_recovered_within_its_errors(seed: int) -> None:
    """Five standard errors; sees weights off by 0.3, medians off by a half and spreads off by a third."""
    fit = fit_book(made_book(seed))
    for k, (weight, median, spread) in enumerate(PARTS, 1):
        assert_close(*known(fit, f"long_weight_{k}"), weight, resolution=0.3)
        assert_close(*known(fit, f"long_median_excess_{k}"), median, resolution=0.5 * median)
        assert_close(*known(fit, f"long_spread_{k}"), spread, resolution=0.33)
    assert len(fit.table["cohorts"][0]["mixture"]) == 2, "the criterion finds that there are two"


@pytest.fixture(scope="module")
def both() -> tuple[Holdings, WorldFit]:
    made = made_book(4, sides=(1, -1))
    return made, fit_book(made, parts=2)


def test_both_sides_become_cohorts(both: tuple[Holdings, WorldFit]) -> None:
    made, fit = both
    long, short = fit.table["cohorts"]
    assert (long["side"], short["side"]) == ("long", "short")
    assert long["share"] == pytest.approx(made.notional_usd[made.side == 1].sum() / made.notional_usd.sum(), rel=1e-5)
    assert long["share"] + short["share"] == pytest.approx(1, abs=1e-5)


def test_goodness_counts_what_a_move_liquidates(both: tuple[Holdings, WorldFit]) -> None:
    """A long with `c` of maintenance `m` is liquidated by a fall of `x` where `c - x < m (1 - x)`; a short by a rise where
    `c - x < m (1 + x)`."""
    made, fit = both
    rows = {row.what: row for row in fit.goodness}
    for sign, side in ((1, "long"), (-1, "short")):
        held = made.side == sign
        own = made.collateral[held] - 0.1 < made.maintenance[held] * (1 - sign * 0.1)
        share = made.notional_usd[held][own].sum() / made.notional_usd[held].sum()
        row = rows[f"{side}, liquidated by 10 % (%)"]
        assert row.data == pytest.approx(100 * share)
        assert row.model == pytest.approx(100 * share, abs=3)
        assert rows[f"{side}, Kolmogorov-Smirnov distance"].model < 0.05


def test_accounts_below_their_requirement_are_left_out_and_counted() -> None:
    made = made_book(6)
    gone = made._replace(collateral=np.where(np.arange(4000) < 7, 0.5 * made.maintenance, made.collateral))
    assert any(note.startswith("7 accounts with") for note in fit_book(gone, parts=1).notes)


def test_too_few_accounts_point_to_the_table_itself() -> None:
    with pytest.raises(
        UserError, match=r"holds 20 long accounts above their requirement; expected at least 30.*book.positions"
    ):
        fit_book(made_book(7, 20))


def test_an_excess_over_maintenance_is_laid_out_over_maintenance(tmp_path: Path) -> None:
    """The median account of a book over maintenance has half of the collateral that it has over an initial requirement twice as
    high."""
    texts = {
        name: small_job.TEXT.replace("share = 1.0\n", f'share = 1.0\nrequirement = "{name}"\n').replace(
            "penalty_bps = 100", "penalty_bps = 100\ninitial_ratio = 2.0"
        )
        for name in ("initial", "maintenance")
    }
    knots = {}
    for name, text in texts.items():
        path = tmp_path / f"{name}.toml"
        path.write_text(text)
        book = assemble(load_job(path)).scenario.book
        knots[name] = np.asarray(book.density.knots)
        assert accounts_below(book.density, book.density.knots[:, -1:]).share == pytest.approx(1)
    np.testing.assert_allclose(2 * knots["maintenance"], knots["initial"], rtol=1e-5)


def test_borrowers_of_steth_are_fitted(market_data: Path) -> None:
    """Of collateral worth a fall of 10 %, 25.6 % of that on Aave v3 in June 2023 is liquidated, 41.8 % by 20 %; 28 accounts of one
    size would tell as much, so a fit that is off by 10 % of notional is within what chance explains (1.36 / sqrt(28) is 0.26)."""
    fit = fit_book(read_borrowers(market_data / "accounts" / "v3_positions.csv"))
    assert fit.table["open_interest_usd"] == pytest.approx(652.1e6, rel=1e-3)
    rows = {row.what: row for row in fit.goodness}
    assert rows["long, liquidated by 10 % (%)"].data == pytest.approx(25.6, abs=0.1)
    assert rows["long, liquidated by 20 % (%)"].data == pytest.approx(41.8, abs=0.1)
    assert rows["long, Kolmogorov-Smirnov distance"].model < 0.15
    assert fit.figure("long_accounts_of_one_size").value == pytest.approx(28.1, abs=0.1)


# --- reading --------------------------------------------------------------------------------------------------------------

HEADER = "user,collateral,debt,threshold,healthf\n"
GOOD = "a,100,50,8000,1.6\nb,200,150,8000,1.0667\nc,10,0,8000,99\n"


def problems_of(folder: Path, content: str) -> list[str]:
    path = folder / "borrowers.csv"
    path.write_text(content)
    with pytest.raises(UserError) as raised:
        read_borrowers(path)
    return [str(problem).removeprefix(f"{path}: ") for problem in raised.value.problems]


@pytest.mark.parametrize(
    "content",
    [
        HEADER + GOOD,
        HEADER.upper() + GOOD,
        (HEADER + GOOD).replace("8000", "0.8"),
        (HEADER + GOOD).replace(",", ";").replace(".", ","),
    ],
    ids=["bps", "capitals", "fractions", "semicolons and commas"],
)
def test_a_borrower_is_a_long(content: str, tmp_path: Path) -> None:
    path = tmp_path / "borrowers.csv"
    path.write_text(content)
    holdings = read_borrowers(path, unit_usd=3.0)
    assert holdings.side.tolist() == [1, 1]
    assert holdings.notional_usd.tolist() == [300, 600]
    np.testing.assert_allclose(holdings.collateral, [0.5, 0.25])
    np.testing.assert_allclose(holdings.maintenance, 0.2)
    assert holdings.notes == ("1 rows without debt are left out",)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("d,-5,1,8000,1\n", "collateral, row 4: found -5; expected an amount above 0"),
        ("d,0,1,8000,1\n", "collateral, row 4: found 0; expected an amount above 0"),
        ("d,5,-1,8000,1\n", "debt, row 4: found -1; expected an amount of at least 0"),
        ("d,5,nan,8000,1\n", "debt, row 4: found nan; expected an amount of at least 0"),
        ("d,5,1,,1\n", "threshold, row 4: found nothing; expected a threshold above 0, in bps or as a fraction"),
        (
            "d,5,1,20000,1\n",
            "threshold, row 4: found 20000; expected a threshold below 1, or below 10,000 bps throughout",
        ),
        ("a,5,1,8000,4\n", "user, row 4: found a; expected each borrower once"),
        (
            "d,5000,1,8000,4\n",
            "healthf, row 4: found 4 where collateral x threshold / debt is 4000; expected the two to agree",
        ),
    ],
)
def test_a_wrong_row_is_told(row: str, expected: str, tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, HEADER + GOOD + row)
    assert problem.startswith(expected)


def test_missing_columns_of_borrowers_are_told_at_once(tmp_path: Path) -> None:
    found = problems_of(tmp_path, "a,colateral\n1,2\n")
    assert len(found) == 3
    assert found[0].endswith("did you mean colateral to be called collateral?")


def test_positions_are_held_against_one_requirement(tmp_path: Path) -> None:
    path = tmp_path / "positions.csv"
    pd.DataFrame({"side": ["long", "short"], "notional_usd": [100, 200], "collateral_usd": [10, 10]}).to_csv(
        path, index=False
    )
    holdings = read_holdings(path, maintenance_bps=250)
    assert holdings.side.tolist() == [1, -1]
    assert holdings.collateral.tolist() == [0.1, 0.05]
    assert holdings.maintenance.tolist() == [0.025, 0.025]
    assert len(holdings.sha256) == 64
