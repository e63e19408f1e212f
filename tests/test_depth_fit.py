"""What a fit finds in quotes: the depth of made markets within its own errors, and that of recorded ones; and bad quotes."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from made_world import made_quotes
from statistical import assert_close

from calibrate.data.quotes import FEWEST_QUOTES, read_quotes
from calibrate.errors import UserError
from calibrate.fits.depth import cost, fit_depth
from calibrate.fits.result import WorldFit
from calibrate.liquidity import Liquidity


def known(fit: WorldFit, name: str) -> tuple[float, float]:
    figure = fit.figure(name)
    assert figure.standard_error is not None
    return figure.value, figure.standard_error


def test_the_cost_is_that_of_the_engine() -> None:
    """Half of what is sold displaces the price that a close pays (docs/rules.md, section 7)."""
    market = Liquidity(*(jnp.float32(x) for x in (25.0, 1.0, 0.3, 0.5, 0.3, 1.0, 1.0)))
    sizes = np.array([0.1, 1.0, 10.0, 100.0])
    expected = market.displacement(jnp.float32(sizes / 2), jnp.float32(25.0))
    np.testing.assert_allclose(cost(sizes, 25.0, 0.3, 0.0), expected, rtol=2e-5)
    assert cost(np.array([50.0]), 25.0, 0.3, 0.0) == pytest.approx(0.02)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_made_market_is_recovered_within_its_errors(seed: int) -> None:
    """Five standard errors; sees a depth off by 15 %, a crossover off by 60 % and a half spread off by 2 bps."""
    fit = fit_depth(made_quotes(seed, depth=20e6, crossover=0.2, half_spread=3e-4))
    assert_close(*known(fit, "depth_usd"), 20e6, resolution=3e6)
    assert_close(*known(fit, "crossover"), 0.2, resolution=0.12)
    assert_close(*known(fit, "half_spread_bps"), 3.0, resolution=2.0)
    assert fit.table["depth_usd"] == pytest.approx(known(fit, "depth_usd")[0], rel=1e-2)


def test_errors_are_those_of_batches_and_not_of_quotes() -> None:
    """What a batch shares does not average out over its quotes: four in five of them could be left out."""
    many = made_quotes(4, depth=20e6, crossover=0.2, half_spread=3e-4)
    alone = many._replace(batch=np.arange(len(many.size_usd)))
    assert known(fit_depth(many), "half_spread_bps")[1] > 1.5 * known(fit_depth(alone), "half_spread_bps")[1]


def test_a_straight_line_has_no_crossover() -> None:
    fit = fit_depth(made_quotes(5, depth=100e6, crossover=900.0, half_spread=3e-4))
    assert fit.figure("crossover").standard_error is None
    assert any("proportion to size" in note for note in fit.notes)
    assert_close(*known(fit, "depth_usd"), 100e6, resolution=15e6)


def test_quotes_that_hardly_move_the_price_are_refused() -> None:
    with pytest.raises(UserError, match="the large ones move the price"):
        fit_depth(made_quotes(6, depth=1e12, crossover=0.2, half_spread=3e-4))


def test_large_impacts_are_left_out_and_counted() -> None:
    quotes = made_quotes(7, depth=5e6, crossover=5.0, half_spread=3e-4)
    beyond = int((quotes.impact > 0.05).sum())
    assert beyond > 10
    fit = fit_depth(quotes, largest_impact=0.05)
    assert f"{beyond} quotes with an impact above 0.05 are left out" in fit.notes


def test_weth_to_usdc_is_what_the_quotes_say(market_data: Path) -> None:
    """Read off the quotes: 21,500 WETH cost 1.8 %, 40,700 cost 3.5 %, at about 2,000 USD; within a tenth."""
    fit = fit_depth(read_quotes(market_data / "depth" / "quotes.csv.gz", pair="WETH/USDC"))
    depth, error = known(fit, "depth_usd")
    assert 22e6 < depth < 24.5e6
    assert error < 0.05 * depth
    values = (depth, fit.figure("crossover").value, fit.figure("half_spread_bps").value * 1e-4)
    np.testing.assert_allclose(cost(2000 * np.array([21_500, 40_700]), *values), [0.018, 0.035], rtol=0.1)
    assert any("square root is beyond these quotes" in note for note in fit.notes)


# --- reading --------------------------------------------------------------------------------------------------------------


def frame(**columns: object) -> pd.DataFrame:
    number = 2 * FEWEST_QUOTES
    made = {
        "timestamp": [1_700_000_000 + 60 * i + 3600 * (i // 20) for i in range(number)],
        "src_sym": ["WETH"] * number,
        "dst_sym": ["USDC"] * number,
        "in_units": [float(i + 1) for i in range(number)],
        "unit_price": [2000.0] * number,
        "price_impact": [1e-4 * i for i in range(number)],
    }
    return pd.DataFrame({name: values for name, values in (made | columns).items() if values is not None}, dtype=object)


def written(folder: Path, table: pd.DataFrame, **how: object) -> Path:
    table.to_csv(folder / "quotes.csv", index=False, **how)  # type: ignore[call-overload]
    return folder / "quotes.csv"


def problems_of(path: Path, **options: object) -> list[str]:
    with pytest.raises(UserError) as raised:
        read_quotes(path, **options)  # type: ignore[arg-type]
    return [str(problem).removeprefix(f"{path}: ") for problem in raised.value.problems]


def test_sizes_are_in_dollars_at_the_price_before_the_impact(tmp_path: Path) -> None:
    quotes = read_quotes(written(tmp_path, frame(unit_price=[2000 * (1 - 1e-4 * i) for i in range(60)])))
    np.testing.assert_allclose(quotes.size_usd, 2000.0 * np.arange(1, 61))
    assert quotes.pair == "WETH/USDC"
    assert np.bincount(quotes.batch).tolist() == [20, 20, 20]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_sizes_in_dollars_need_no_price_and_no_pair(separator: str, tmp_path: Path) -> None:
    plain = frame(src_sym=None, dst_sym=None, unit_price=None, timestamp=None).rename(columns={"in_units": "size_usd"})
    quotes = read_quotes(written(tmp_path, plain, sep=separator))
    np.testing.assert_array_equal(quotes.size_usd, np.arange(1.0, 61))
    assert quotes.window is None


def test_what_is_sold_may_be_dollars(tmp_path: Path) -> None:
    quotes = read_quotes(written(tmp_path, frame(src_sym=["USDC"] * 60, dst_sym=["WETH"] * 60)))
    np.testing.assert_array_equal(quotes.size_usd, np.arange(1.0, 61))


def test_several_pairs_ask_for_one(tmp_path: Path) -> None:
    path = written(tmp_path, frame(dst_sym=["USDC"] * 40 + ["DAI"] * 20))
    assert problems_of(path) == [
        "found 2 pairs; choose one with --pair (what is sold comes first): WETH/USDC, WETH/DAI"
    ]
    assert problems_of(path, pair="DAI/WETH")[0].startswith("found no quotes of 'DAI/WETH'; choose one with --pair")
    assert len(read_quotes(path, pair="WETH/USDC").size_usd) == 40


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("price_impact", -0.1, "price_impact, row 4: found -0.1; expected an impact of at least 0, as a fraction"),
        ("price_impact", 35, "price_impact, row 4: found 35; expected a fraction below 1 (is it in per cent?)"),
        ("price_impact", "", "price_impact, row 4: found nothing; expected an impact of at least 0"),
        ("in_units", 0, "in_units, row 4: found 0; expected a size above 0"),
        ("unit_price", -1, "unit_price, row 4: found -1; expected a price above 0"),
        ("timestamp", "x", "timestamp, row 4: found x; expected a time between 2000 and 2100"),
    ],
)
def test_a_wrong_quote_is_told_with_its_row(column: str, value: object, expected: str, tmp_path: Path) -> None:
    values = list(frame()[column])
    values[3] = value
    found = problems_of(written(tmp_path, frame(**{column: values})))
    assert found[0].startswith(expected)


def test_sizes_of_unknown_worth_ask_for_a_price(tmp_path: Path) -> None:
    path = written(tmp_path, frame(dst_sym=["WBTC"] * 60))
    assert problems_of(path) == ["sizes of WETH/WBTC are not in USD; give the price of a unit sold with --usd-price"]
    assert read_quotes(path, usd_price=1500.0).size_usd[0] == 1500.0


def test_missing_columns_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "quotes.csv"
    path.write_text("a,b\n1,2\n")
    found = problems_of(path)
    assert "expected the impact of each quote" in found[0]
    assert "expected the size of each quote" in found[1]
