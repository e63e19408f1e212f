"""A job takes over the sections that fits have written, keys of its own win, and a wrong file is told with its place."""

from pathlib import Path

import numpy as np
import pytest
import small_job
from made_world import made_book, made_log, made_quotes

from calibrate.assemble import assemble
from calibrate.errors import UserError
from calibrate.fits.book import fit_book
from calibrate.fits.depth import fit_depth
from calibrate.fits.feed import Feed
from calibrate.fits.feed_fit import fit_oracle
from calibrate.fits.files import fit_text, write_fit
from calibrate.job import LoadedJob, load_job
from calibrate.oracle import PushOracle
from calibrate.pipeline import other_inputs
from calibrate.units import SECONDS_PER_YEAR

FEED = """\
[oracle]
kind = "push"
deviation_bps = 50
heartbeat_s = 7200
heartbeat_restarts = false

[fit]
source = "log.csv"
"""
BOOK = """\
[book]
open_interest_usd = 1e6
cohorts = [{ side = "short", share = 1, mixture = [{ weight = 1, median_excess = 1, spread = 1 }] }]
"""


def job(folder: Path, oracle: str, more: str = "", **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text)
    return small_job.write(folder, small_job.TEXT.replace('kind = "exact"', oracle) + more)


def problems_of(path: Path, *overrides: str) -> list[str]:
    return [str(problem) for problem in small_job.problems_of(path, *overrides)]


@pytest.fixture(scope="module")
def fitted_job(tmp_path_factory: pytest.TempPathFactory) -> LoadedJob:
    """A job all of whose world was fitted, as the fits wrote it."""
    folder = tmp_path_factory.mktemp("fitted")
    feed = Feed(deviation=0.005, heartbeat_s=3600.0, restarts=False, block_s=12.0, look_s=30.0)
    rounds, _ = made_log(feed, days=80, seed=1, delay_s=60.0, exponent=1.0)
    write_fit(folder / "feed.toml", fit_oracle(rounds), command="calibrate fit-oracle")
    quotes = made_quotes(1, depth=20e6, crossover=0.2, half_spread=3e-4)
    write_fit(folder / "depth.toml", fit_depth(quotes), command="calibrate fit-depth")
    write_fit(folder / "book.toml", fit_book(made_book(1, 1000, sides=(1, -1))), command="calibrate fit-book")
    text = small_job.TEXT.replace('kind = "exact"', 'fit = "feed.toml"').replace(
        "depth_usd = 25e6", 'fit = "depth.toml"'
    )
    before, _, rest = text.partition("[book]")
    after = rest[rest.index("[venue]") :]
    return load_job(small_job.write(folder, f'{before}[book]\nfit = "book.toml"\nresolution = 8\n\n{after}'))


def test_a_job_takes_over_what_fits_have_written(fitted_job: LoadedJob) -> None:
    read = fitted_job.job
    assert read.oracle.kind == "push"
    assert read.oracle.deviation_bps == pytest.approx(50, abs=0.5)
    assert read.oracle.heartbeat_restarts is False
    assert read.oracle.delay_volatility_exponent is not None
    assert read.liquidity.depth_usd == pytest.approx(20e6, rel=0.2)
    assert read.liquidity.slow_share == 0.3, "what quotes do not say keeps its default"
    assert [cohort.side for cohort in read.book.cohorts or []] == ["long", "short"]
    assert read.book.resolution == 8


def test_what_was_fitted_is_simulated(fitted_job: LoadedJob) -> None:
    scenario = assemble(fitted_job).scenario
    oracle = scenario.oracle
    assert isinstance(oracle, PushOracle)
    assert not oracle.restarts
    assert float(oracle.deviation) == pytest.approx(0.005, rel=1e-2)
    assert float(oracle.heartbeat) == pytest.approx(3600 / SECONDS_PER_YEAR, rel=1e-3)
    assert oracle.delay.growth is not None
    np.testing.assert_allclose(np.asarray(scenario.book.weight).sum(), 1, rtol=1e-6)


def test_the_files_are_inputs_of_a_run(fitted_job: LoadedJob) -> None:
    assert [path.name for path in other_inputs(fitted_job)] == ["feed.toml", "depth.toml", "book.toml"]


def test_the_same_fit_gives_the_same_text() -> None:
    fits = [fit_depth(made_quotes(2, depth=20e6, crossover=0.2, half_spread=3e-4)) for _ in range(2)]
    assert fit_text(fits[0], command="c") == fit_text(fits[1], command="c")


def test_keys_of_the_job_win(tmp_path: Path) -> None:
    path = job(tmp_path, 'fit = "feed.toml"\nheartbeat_s = 600', feed=FEED)
    assert load_job(path).job.oracle.heartbeat_s == 600
    assert load_job(path, ["oracle.deviation_bps=7"]).job.oracle.deviation_bps == 7


def test_a_scenario_takes_over_a_file_too(tmp_path: Path) -> None:
    more = '\n[[scenarios]]\nname = "slow feed"\noracle = { fit = "feed.toml" }\n'
    loaded = load_job(job(tmp_path, 'kind = "exact"', more, feed=FEED))
    assert loaded.job.oracle.kind == "exact"
    assert loaded.variants["slow feed"].oracle.heartbeat_s == 7200
    assert [file.name for file in loaded.section_files] == ["feed.toml"]


def test_a_table_of_positions_takes_the_place_of_fitted_cohorts(tmp_path: Path) -> None:
    path = job(tmp_path, 'kind = "exact"', book=BOOK)
    text = path.read_text()
    before, _, rest = text.partition("[book]")
    (tmp_path / "p.csv").write_text("side,notional_usd,collateral_usd\nlong,1,1\n")
    path.write_text(f'{before}[book]\nfit = "book.toml"\npositions = "p.csv"\n\n{rest[rest.index("[venue]") :]}')
    section = load_job(path).job.book
    assert (section.positions, section.cohorts, section.open_interest_usd) == ("p.csv", None, None)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {},
            "small.toml: oracle.fit: cannot read feed.toml (No such file or directory); expected a file beside the job",
        ),
        ({"feed": "[oracle"}, "feed.toml: is not valid TOML: "),
        ({"feed": BOOK}, "feed.toml: found [book]; expected [oracle], as "),
        ({"feed": ""}, "feed.toml: found nothing; expected [oracle], as "),
        ({"feed": FEED + "[venue]\na = 1\n"}, "feed.toml: venue: is no part of a fitted oracle; remove it"),
        (
            {"feed": '[oracle]\nfit = "other.toml"\n'},
            "feed.toml: oracle.fit: a fitted section cannot name a further file",
        ),
    ],
)
def test_a_wrong_file_is_told_with_its_place(files: dict[str, str], expected: str, tmp_path: Path) -> None:
    (problem,) = problems_of(job(tmp_path, 'fit = "feed.toml"', **files))
    assert problem.removeprefix(f"{tmp_path}/").startswith(expected)


def test_what_is_wrong_in_a_fitted_section_is_told_as_in_the_job(tmp_path: Path) -> None:
    (problem,) = problems_of(job(tmp_path, 'fit = "feed.toml"', feed=FEED.replace("50", "-50")))
    assert "oracle.deviation_bps: Input should be greater than 0" in problem


def test_the_name_of_a_file_is_text(tmp_path: Path) -> None:
    (problem,) = problems_of(job(tmp_path, "fit = 3"))
    assert problem.endswith("oracle.fit: found 3; expected the name of a file in quotes")


def test_a_fit_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    fit = fit_book(made_book(1, 200))
    with pytest.raises(UserError, match="cannot be written"):
        write_fit(tmp_path / "file" / "book.toml", fit, command="c")
