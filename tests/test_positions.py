"""A table of real positions is read strictly, and the book laid out from it has the table's own quantiles."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import small_job

from calibrate.assemble import assemble
from calibrate.book import accounts_below, lay_out, level_holding
from calibrate.data.positions import Positions, read_positions
from calibrate.errors import UserError
from calibrate.job import load_job

HEADER = "side,notional_usd,collateral_usd\n"
GOOD = pd.DataFrame(
    {
        "side": ["long", "short", "long"],
        "notional_usd": [100_000.0, 50_000.0, 25_000.0],
        "collateral_usd": [10_000.0, 2_500.0, 5_000.0],
    }
)


def write(folder: Path, content: str | bytes | pd.DataFrame, name: str = "positions.csv") -> Path:
    path = folder / name
    if isinstance(content, pd.DataFrame):
        content.to_parquet(path) if path.suffix != ".csv" else content.to_csv(path, index=False)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def problems_of(path: Path) -> list[str]:
    with pytest.raises(UserError) as raised:
        read_positions(path)
    return [str(problem).removeprefix(f"{path}: ") for problem in raised.value.problems]


def many(number: int = 3000) -> pd.DataFrame:
    """Positions of very different sizes, the large ones with less collateral."""
    draw = np.random.default_rng(11)
    notional = np.exp(draw.normal(9, 2, number))
    ratio = 0.02 + 0.2 * np.exp(draw.normal(0, 1, number)) / (1 + notional / 20_000) ** 0.3
    side = np.where(draw.uniform(size=number) < 0.6, "long", "short")
    return pd.DataFrame({"side": side, "notional_usd": notional, "collateral_usd": notional * ratio})


# --- what is read ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["positions.csv", "positions.parquet", "positions.pq", "POSITIONS.PARQUET"])
def test_csv_and_parquet_hold_the_same_positions(name: str, tmp_path: Path) -> None:
    positions = read_positions(write(tmp_path, GOOD, name))
    assert positions.side.tolist() == [1, -1, 1]
    assert positions.notional_usd.tolist() == [100_000.0, 50_000.0, 25_000.0]
    assert positions.collateral_usd.tolist() == [10_000.0, 2_500.0, 5_000.0]
    assert positions.open_interest_usd == 175_000.0


@pytest.mark.parametrize(
    "content",
    [
        "Side, NOTIONAL_USD ,collateral_usd\n LONG ,1,2\nShort,3,4\n",
        "\ufeffside,notional_usd,collateral_usd\r\nlong,1,2\r\nshort,3,4\r\n",
        "account,collateral_usd,side,notional_usd\na,2,long,1\nb,4,short,3\n",
        "side,notional_usd,collateral_usd\nlong,1,2\n\nshort,3,4\n,,\n",
        "# exported\nside;notional_usd;collateral_usd\nlong;1,0;2,0\nshort;3,0;4,0\n",
    ],
    ids=["spaces and capitals", "byte order mark", "other columns", "empty rows", "another dialect"],
)
def test_harmless_differences_are_accepted(content: str, tmp_path: Path) -> None:
    positions = read_positions(write(tmp_path, content))
    assert positions.side.tolist() == [1, -1]
    assert positions.notional_usd.tolist() == [1, 3]
    assert positions.collateral_usd.tolist() == [2, 4]


def test_categories_integers_and_decimals_are_accepted(tmp_path: Path) -> None:
    table = GOOD.astype({"side": "category", "notional_usd": "Int64", "collateral_usd": "float32"})
    positions = read_positions(write(tmp_path, table, "positions.parquet"))
    assert positions.side.tolist() == [1, -1, 1]
    assert positions.notional_usd.dtype == positions.collateral_usd.dtype == np.float64


# --- what is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("long,100,10\nshort,50,-5\n", "collateral_usd, row 2: found -5; expected a number above 0"),
        ("long,100,0\n", "collateral_usd, row 1: found 0; expected a number above 0"),
        ("long,-100,10\n", "notional_usd, row 1: found -100; expected a number above 0"),
        ("long,inf,10\n", "notional_usd, row 1: found inf; expected a number above 0"),
        ("long,100,10\nlong,nan,10\n", "notional_usd, row 2: found nan; expected a number above 0"),
        ("long,100,\n", "collateral_usd, row 1: found nothing; expected a number above 0"),
        ("long,100,10\nbuy,100,10\n", 'side, row 2: found buy; expected "long" or "short"'),
        (",100,10\n", 'side, row 1: found nothing; expected "long" or "short"'),
        ("1,100,10\n", 'side, row 1: found 1; expected "long" or "short"'),
        ("long,1,-1\nlong,1,1\nlong,1,-2\n", "collateral_usd, row 1: found -1 (the first of 2 such rows); expected a"),
        ("long,100,10\n\n\nlong,100,-10\n", "collateral_usd, row 4: found -10; expected a number above 0"),
    ],
)
def test_a_wrong_value_is_told_with_its_row(rows: str, expected: str, tmp_path: Path) -> None:
    (problem,) = problems_of(write(tmp_path, HEADER + rows))
    assert problem.startswith(expected)


def test_all_wrong_columns_are_told_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + "long,100,-10\nup,nan,5\nshort,50,5\n,-3,1\nlong,abc,-1\n")
    assert problems_of(path) == [
        'side, row 2: found up (the first of 2 such rows); expected "long" or "short"; mend or remove these rows',
        "notional_usd, row 2: found nan (the first of 3 such rows); expected a number above 0; mend or remove these rows",
        "collateral_usd, row 1: found -10 (the first of 2 such rows); expected a number above 0; mend or remove these rows",
    ]


@pytest.mark.parametrize("kind", ["float64", "Float64", "float64[pyarrow]"])
def test_a_missing_number_is_refused_whatever_the_column_is_made_of(kind: str, tmp_path: Path) -> None:
    table = GOOD.assign(notional_usd=pd.Series([1.0, None, 2.0], dtype=kind))
    (problem,) = problems_of(write(tmp_path, table, "positions.parquet"))
    assert problem.startswith("notional_usd, row 2: found nothing; expected a number above 0")


def test_a_missing_side_is_refused_where_sides_are_categories(tmp_path: Path) -> None:
    table = GOOD.assign(side=pd.Categorical(["long", None, "short"]))
    (problem,) = problems_of(write(tmp_path, table, "positions.parquet"))
    assert problem.startswith('side, row 2: found nothing; expected "long" or "short"')


SIDE = 'expected the side ("long" or "short"), in a column called side'
NOTIONAL = "expected the notional in USD, in a column called notional_usd"
COLLATERAL = "expected the collateral in USD, in a column called collateral_usd"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("side,notional_usd\nlong,3\n", [f"columns: found side, notional_usd; {COLLATERAL}"]),
        ("a,b\nlong,3\n", [f"columns: found a, b; {said}" for said in (SIDE, NOTIONAL, COLLATERAL)]),
        (
            "side,notional,collateral_usd\nlong,3,1\n",
            [
                f"columns: found side, notional, collateral_usd; {NOTIONAL}"
                "; did you mean notional to be called notional_usd?"
            ],
        ),
        (
            "side,notional_usd,collateral_usd,Side\nlong,1,1,short\n",
            ["columns: found Side more than once; expected each once"],
        ),
    ],
)
def test_columns_that_lack_are_told_at_once(content: str, expected: list[str], tmp_path: Path) -> None:
    assert problems_of(write(tmp_path, content)) == expected


@pytest.mark.parametrize(
    ("content", "name", "expected"),
    [
        (HEADER, "positions.csv", "found a header but no rows; expected one entry a row"),
        (GOOD.head(0), "positions.parquet", "found a header but no rows; expected one entry a row"),
        ("", "positions.csv", "found an empty file; expected a table of positions"),
        (b"\xff\xfe\x00\x01", "positions.csv", "not a table ("),
        (
            HEADER + "long,1,1\nlong,1,1,1\n",
            "positions.csv",
            "not a table (found 4 fields in row 2, 3 in the first line",
        ),
        (HEADER + "long,1,1,1\n", "positions.csv", "not a table (found 4 fields in row 1, 3 in the first line"),
        (HEADER + 'long,"1,000",10\n', "positions.csv", "not a table (found numbers such as 1,000, in which the comma"),
        ("long,1,1\nshort,1,1\n", "positions.csv", "columns: found "),
        ("no parquet", "positions.parquet", "not a table (found a single column); expected a table of positions"),
    ],
)
def test_what_is_no_table_of_positions_is_a_users_error(
    content: str | bytes | pd.DataFrame, name: str, expected: str, tmp_path: Path
) -> None:
    (problem,) = problems_of(write(tmp_path, content, name))
    assert problem.startswith(expected)


@pytest.mark.parametrize("name", ["nowhere.csv", "nowhere.parquet", ""])
def test_a_table_that_cannot_be_read_is_a_users_error(name: str, tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path / name)
    assert problem.startswith("cannot read the file (")


# --- the book that comes of it --------------------------------------------------------------------------------------------


def test_each_side_is_a_cohort_of_its_weight() -> None:
    long, short = Positions(np.array([1, -1, 1]), np.array([10.0, 20.0, 30.0]), np.array([1.0, 2.0, 3.0])).cohorts()
    assert (long.side, long.weight, short.side, short.weight) == (1, 40.0, -1, 20.0)


def test_quantiles_are_those_of_the_table_weighted_by_notional(tmp_path: Path) -> None:
    table = many()
    shares = np.linspace(0, 1, 201)
    for cohort, side in zip(read_positions(write(tmp_path, table)).cohorts(), ("long", "short"), strict=True):
        held = table[table["side"] == side].assign(ratio=lambda t: t["collateral_usd"] / t["notional_usd"])
        held = held.sort_values("ratio")
        reached = held["notional_usd"].cumsum().to_numpy() / held["notional_usd"].sum()
        # The quantile lies between the position at which the share is reached and its neighbours.
        at = np.searchsorted(reached, shares).clip(0, len(held) - 1)
        ratio = held["ratio"].to_numpy()
        found = cohort.quantile(shares)
        assert (found >= ratio[np.maximum(at - 1, 0)] - 1e-12).all()
        assert (found <= ratio[np.minimum(at + 1, len(held) - 1)] + 1e-12).all()
        assert (np.diff(found) >= 0).all()
        assert found[0] == ratio[0]
        assert found[-1] == ratio[-1]


def test_weights_are_notional_and_not_the_number_of_positions() -> None:
    # One position of 90 at 5 %, ninety of 1 at 50 %: by notional the median lies between them, by number it is 50 %.
    notional = np.array([90.0] + [1.0] * 10)
    collateral = np.array([4.5] + [0.5] * 10)
    (cohort,) = Positions(np.ones(11, int), notional, collateral).cohorts()
    assert cohort.quantile(np.array([0.45])) == pytest.approx(0.05)
    assert cohort.quantile(np.array([0.96])) == pytest.approx(0.5)


@pytest.mark.parametrize(("segments", "accuracy"), [(12, 0.2), (32, 0.05)])
def test_the_book_holds_the_tables_quantiles_and_collateral(segments: int, accuracy: float, tmp_path: Path) -> None:
    table = many()
    positions = read_positions(write(tmp_path, table, "positions.parquet"))
    with jax.enable_x64(True):
        book = lay_out(
            positions.cohorts(), reference_margin=0.05, responds=False, segments=segments, dtype=np.dtype(np.float64)
        )
        np.testing.assert_array_equal(book.side, [1, -1])
        long = table.loc[table["side"] == "long", "notional_usd"].sum() / table["notional_usd"].sum()
        np.testing.assert_allclose(book.weight, [long, 1 - long], rtol=1e-12)
        for row, cohort in enumerate(positions.cohorts()):
            shares = np.asarray(book.density.shares[row])
            levels = level_holding(book.density, jnp.asarray(np.broadcast_to(shares, (2, len(shares)))))[row]
            # At the knots the book is the table, but for the sliver of width that every segment is given.
            np.testing.assert_allclose(levels, cohort.quantile(shares), rtol=0, atol=1e-6 * (segments + 1))
            below = accounts_below(book.density, book.density.knots[:, -1:])
            assert float(below.share[row, 0]) == pytest.approx(1, abs=1e-12)
        # The riskiest tenth, where liquidation happens, is a few large positions here: the book comes closer with its knots.
        for row, side in enumerate(("long", "short")):
            held = table[table["side"] == side].assign(ratio=lambda t: t["collateral_usd"] / t["notional_usd"])
            held = held.sort_values("ratio")
            weight = held["notional_usd"] / held["notional_usd"].sum()
            riskiest = weight.cumsum() <= 0.1
            level = jnp.full((2, 1), float(held.loc[riskiest, "ratio"].iloc[-1]))
            below = accounts_below(book.density, level)
            np.testing.assert_allclose(below.share[row, 0], weight[riskiest].sum(), rtol=accuracy)
            np.testing.assert_allclose(
                below.collateral[row, 0], (weight * held["ratio"])[riskiest].sum(), rtol=accuracy
            )


def test_a_table_of_longs_alone_makes_a_book_of_one_cohort(tmp_path: Path) -> None:
    table = many()
    table = table[table["side"] == "long"]
    write(tmp_path, table)
    start, end = small_job.TEXT.index("[book]"), small_job.TEXT.index("[venue]")
    text = small_job.TEXT[:start] + '[book]\npositions = "positions.csv"\nresolution = 8\n\n' + small_job.TEXT[end:]
    assembled = assemble(load_job(small_job.write(tmp_path, text)))
    book = assembled.scenario.book
    assert assembled.open_interest_usd == pytest.approx(table["notional_usd"].sum())
    assert book.side.tolist() == [1]
    assert book.weight.tolist() == [1]
    assert book.density.knots.shape == (1, 9)
    np.testing.assert_allclose(
        assembled.scenario.liquidity.depth, 25e6 / table["notional_usd"].sum(), rtol=1e-6
    )  # depth is a share of the table's open interest


def test_a_single_position_makes_a_book() -> None:
    (cohort,) = Positions(np.array([-1]), np.array([1000.0]), np.array([100.0])).cohorts()
    book = lay_out([cohort], reference_margin=0.05, responds=False, segments=12, dtype=np.dtype(np.float32))
    assert (np.diff(np.asarray(book.density.knots)) > 0).all()
    np.testing.assert_allclose(book.density.knots, 0.1, atol=2e-5)
