"""Round logs are read in every dialect that people export them in, and what is wrong with one is told all at once."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calibrate.data.rounds import FEWEST_ROUNDS, read_rounds
from calibrate.errors import UserError

NUMBER = 300
FIRST = (6 << 64) + 1000  # the sixth aggregator's thousandth round
START = 1_700_000_000


def table(**columns: object) -> pd.DataFrame:
    """A log of 300 rounds, ten minutes apart, with columns replaced or added."""
    made = {
        "round_id": [FIRST + i for i in range(NUMBER)],
        "updated_at": [START + 600 * i for i in range(NUMBER)],
        "price": [2000.0 + (i % 7) for i in range(NUMBER)],
    }
    return pd.DataFrame({name: values for name, values in (made | columns).items() if values is not None}, dtype=object)


def written(folder: Path, content: pd.DataFrame | str | bytes, name: str = "rounds.csv", **how: object) -> Path:
    path = folder / name
    if isinstance(content, pd.DataFrame):
        content.to_csv(path, index=False, **how)  # type: ignore[call-overload]
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def problems_of(path: Path, **options: bool) -> list[str]:
    with pytest.raises(UserError) as raised:
        read_rounds(path, **options)
    return [str(problem).removeprefix(f"{path}: ") for problem in raised.value.problems]


def changed(column: str, row: int, value: object) -> list[object]:
    values = list(table()[column])
    values[row] = value
    return values


# --- what is read ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n\n"], ids=["plain", "byte order mark", "empty lines"])
def test_every_separator_is_read(separator: str, start: str, tmp_path: Path) -> None:
    path = written(tmp_path, start + table().to_csv(index=False, sep=separator))
    rounds = read_rounds(path)
    np.testing.assert_array_equal(rounds.seconds, START + 600 * np.arange(NUMBER))
    np.testing.assert_array_equal(rounds.answer, 2000 + np.arange(NUMBER) % 7)
    assert rounds.follows.tolist() == [False] + [True] * (NUMBER - 1)
    assert rounds.notes == ()


def test_decimal_commas_are_read_where_semicolons_separate(tmp_path: Path) -> None:
    rounds = read_rounds(written(tmp_path, table(price=[2000.5] * NUMBER), sep=";", decimal=","))
    assert (rounds.answer == 2000.5).all()


def test_gzip_and_parquet_hold_the_same_rounds(tmp_path: Path) -> None:
    zipped = written(tmp_path, gzip.compress(table().to_csv(index=False).encode()), "rounds.csv.gz")
    stored = tmp_path / "rounds.parquet"
    frame = table().astype({"round_id": str, "updated_at": int, "price": float})
    frame["updated_at"] = pd.to_datetime(frame["updated_at"], unit="s", utc=True)
    frame.to_parquet(stored)
    for column in ("seconds", "answer", "follows"):
        np.testing.assert_array_equal(getattr(read_rounds(zipped), column), getattr(read_rounds(stored), column))


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_every_unit_of_unix_time_is_read(unit: str, tmp_path: Path) -> None:
    factor = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    times = [(START + 600 * i) * factor for i in range(NUMBER)]
    assert read_rounds(written(tmp_path, table(updated_at=times))).seconds[1] == START + 600


@pytest.mark.parametrize("form", ["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S+00:00"])
def test_iso_dates_are_read(form: str, tmp_path: Path) -> None:
    times = [pd.Timestamp(START + 600 * i, unit="s").strftime(form) for i in range(NUMBER)]
    rounds = read_rounds(written(tmp_path, table(updated_at=times)))
    np.testing.assert_array_equal(rounds.seconds, START + 600 * np.arange(NUMBER))


def test_columns_go_by_their_usual_names_and_others_are_left_alone(tmp_path: Path) -> None:
    frame = table(note=["x"] * NUMBER).rename(
        columns={"round_id": "roundId", "updated_at": " Timestamp", "price": "ANSWER"}
    )
    assert len(read_rounds(written(tmp_path, frame)).seconds) == NUMBER


def test_raw_integers_tell_the_same_as_prices(tmp_path: Path) -> None:
    raw = [int((2000 + i % 7) * 10**8) for i in range(NUMBER)]
    rounds = read_rounds(written(tmp_path, table(price=None, answer_raw=raw)))
    np.testing.assert_allclose(rounds.answer / rounds.answer[0], (2000 + np.arange(NUMBER) % 7) / 2000)


def test_rounds_out_of_order_are_sorted_by_their_numbers(tmp_path: Path) -> None:
    shuffled = table().sample(frac=1, random_state=1)
    rounds = read_rounds(written(tmp_path, shuffled))
    np.testing.assert_array_equal(rounds.seconds, START + 600 * np.arange(NUMBER))
    assert rounds.notes == ("rows were not in order of their rounds and were sorted",)


def test_numbers_too_large_for_a_machine_word_keep_their_last_digit(tmp_path: Path) -> None:
    """Neighbours differ by one in 1.1e20: as floating-point numbers they would all be the same."""
    assert FIRST > 2**64
    assert read_rounds(written(tmp_path, table())).follows[1:].all()


def test_without_numbers_a_log_may_come_newest_first(tmp_path: Path) -> None:
    rounds = read_rounds(written(tmp_path, table(round_id=None)[::-1]))
    assert (np.diff(rounds.seconds) > 0).all()
    assert rounds.notes == ("rows came newest first and were turned round",)


def test_a_new_aggregator_starts_counting_anew(tmp_path: Path) -> None:
    numbers = [FIRST + i for i in range(200)] + [(7 << 64) + 1 + i for i in range(100)]
    rounds = read_rounds(written(tmp_path, table(round_id=numbers)))
    assert np.flatnonzero(~rounds.follows).tolist() == [0, 200]


def test_missing_rounds_are_left_out_on_request(tmp_path: Path) -> None:
    holey = table().drop(index=[50, 51, 120])
    path = written(tmp_path, holey)
    assert problems_of(path) == [
        f"round_id, row 51: found 2 holes with 3 missing rounds in all, the first before round {FIRST + 52}; expected "
        "consecutive rounds; fill in the log, or pass --allow-gaps to leave out what spans them"
    ]
    rounds = read_rounds(path, allow_gaps=True)
    assert np.flatnonzero(~rounds.follows).tolist() == [0, 50, 118]
    assert rounds.notes == ("3 rounds are missing in 2 holes, which are left out",)


# --- what is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("price", 0, "price, row 8: found 0; expected an answer above 0; mend or remove these rows"),
        ("price", -5, "price, row 8: found -5; expected an answer above 0; mend or remove these rows"),
        ("price", "", "price, row 8: found nothing; expected an answer above 0; mend or remove these rows"),
        ("price", "n/a", "price, row 8: found n/a; expected an answer above 0; mend or remove these rows"),
        ("price", "inf", "price, row 8: found inf; expected an answer above 0; mend or remove these rows"),
        ("updated_at", "soon", "updated_at, row 8: found soon; expected a time between 2000 and 2100, as Unix"),
        ("updated_at", 0, "updated_at, row 8: found 0; expected a time between 2000 and 2100, as Unix"),
        ("updated_at", START * 1000, "updated_at, row 8: found 1700000000000; expected a time between 2000 and 2100"),
        ("updated_at", START - 5, "updated_at, row 8: found 1699999995; expected times that rise from round to round"),
        ("round_id", FIRST + 3, f"round_id, row 8: found {FIRST + 3}; expected each round once"),
        ("round_id", "seven", "round_id, row 8: found seven; expected a whole number"),
        (
            "price",
            2000e8,
            "price, row 8: found 200000000000.0 (the first of 2 such rows); expected answers within a factor of 5",
        ),
    ],
)
def test_a_wrong_value_is_told_with_its_row(column: str, value: object, expected: str, tmp_path: Path) -> None:
    found = problems_of(written(tmp_path, table(**{column: changed(column, 7, value)})), allow_gaps=True)
    assert found[0].startswith(expected)
    assert len(found) == 1


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, table(price=changed("price", 3, 0), updated_at=changed("updated_at", 5, "?")).head(100))
    assert [problem.split(":")[0] for problem in problems_of(path)] == [
        "updated_at, row 6", "price, row 4", f"found 100 rounds; expected at least {FEWEST_ROUNDS}; use a longer log",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "found an empty file; expected a table of rounds of a price feed"),
        (b"a,b\n1,2,3\n", "not a table ("),
        (b"\xff\xfe\x00\x01", "not a table ("),
        (b"PAR1broken", "not a table ("),
        (b"\x1f\x8bbroken", "not a table ("),
        (b"price,updated_at\n", "found a header but no rows; expected one entry a row"),
        (b"price,time,Price\n1,2,3\n", "columns: found Price more than once; expected each once"),
    ],
)
def test_what_is_no_table_is_refused(content: bytes, expected: str, tmp_path: Path) -> None:
    (problem,) = problems_of(written(tmp_path, content))
    assert problem.startswith(expected)


def test_unknown_columns_are_told_with_what_was_expected(tmp_path: Path) -> None:
    found = problems_of(written(tmp_path, "pric,height\n2000,17\n"))
    assert [text.split(";")[0] for text in found] == ["columns: found pric, height"] * 2
    assert "expected the time of each update, in a column called updated_at or" in found[0]
    assert found[1].endswith("did you mean pric to be called price?")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path / "none.csv")
    assert (
        problem
        == "cannot read the file (No such file or directory); expected a table of rounds of a price feed; check the path"
    )


def test_chainlinks_logs_are_read(market_data: Path) -> None:
    rounds = read_rounds(market_data / "chainlink" / "ETHUSD.csv")
    assert len(rounds.seconds) == 11_106
    assert rounds.window == ("2023-04-05T22:38:35Z", "2024-01-29T19:55:23Z")
    assert np.median(np.diff(rounds.seconds)) == 3024
