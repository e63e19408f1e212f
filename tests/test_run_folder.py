"""A run folder is there whole or not at all, and its files read back as what was written."""

import json
import stat
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from calibrate.errors import UserError
from calibrate.run_folder import new_folder, read_json, toml_text, write_json, write_table, write_text

EVERY_CONTROL_CHARACTER = "".join(chr(code) for code in (*range(0x20), *range(0x7F, 0xA0)))


class Stop(Exception):
    """Anything that goes wrong in the middle of a run."""


# --- whole or nothing -----------------------------------------------------------------------------------------------------


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "run"
    with new_folder(target) as folder:
        write_text(folder / "figures" / "a.txt", "a")
        assert not target.exists()
        assert folder.parent == target.parent
        assert folder.name.startswith(".")
    assert (target / "figures" / "a.txt").read_text(encoding="utf-8") == "a"
    assert [path.name for path in target.parent.iterdir()] == ["run"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o755


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt, SystemExit, UserError("no")])
def test_nothing_is_left_of_a_run_that_fails(error: BaseException | type[BaseException], tmp_path: Path) -> None:
    kind = error if isinstance(error, type) else type(error)
    with pytest.raises(kind), new_folder(tmp_path / "new" / "deeper" / "run") as folder:  # noqa: PT012
        write_text(folder / "figures" / "a.txt", "a")
        raise error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", ["folder", "empty folder", "file"])
def test_what_exists_is_not_touched(there: str, tmp_path: Path) -> None:
    target = tmp_path / "run"
    if there == "file":
        target.write_text("mine", encoding="utf-8")
    else:
        target.mkdir()
        if there == "folder":
            (target / "mine.txt").write_text("mine", encoding="utf-8")
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    with pytest.raises(UserError, match="exists already; choose another --output"), new_folder(target):
        pytest.fail("the run was started")
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before


def test_a_folder_that_another_run_finished_first_is_not_touched(tmp_path: Path) -> None:
    target = tmp_path / "run"
    with pytest.raises(UserError, match="was it created while this ran"), new_folder(target) as folder:  # noqa: PT012
        write_text(folder / "a.txt", "second")
        with new_folder(target) as other:
            write_text(other / "a.txt", "first")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert (target / "a.txt").read_text(encoding="utf-8") == "first"


def test_a_place_where_no_folder_can_be_is_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match=r"run: cannot be created \(.+\); choose another --output"):  # noqa: SIM117
        with new_folder(tmp_path / "file" / "run"):
            pytest.fail("the run was started")


def test_a_file_is_replaced_whole_or_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half a character: \udc80")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})

    def fail(*_: object) -> None:
        raise OSError("disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("calibrate.run_folder.os.replace", fail)
        with pytest.raises(OSError, match="disk is full"):
            write_json(path, {"a": 2})
    assert read_json(path) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


# --- JSON -----------------------------------------------------------------------------------------------------------------


def test_json_reads_back_and_ends_with_a_line(tmp_path: Path) -> None:
    content = {"name": "Zürich \N{GREEK SMALL LETTER EPSILON}", "values": [1, 2.5, None, True], "inner": {"a": 1e-30}}
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content
    assert (tmp_path / "a.json").read_text(encoding="utf-8").endswith("}\n")


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"{", "is not valid JSON"), (b"\xff\xfe", "is not valid JSON"), (b"[1]", "does not hold a JSON object")],
)
def test_json_that_cannot_be_used_is_a_users_error(content: bytes, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=expected) as raised:
        read_json(path)
    assert str(raised.value).startswith(f"{path}: ")


def test_json_that_is_not_there_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.json: cannot be read \(No such file or directory\)"):
        read_json(tmp_path / "a.json")


# --- TOML -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        "double \" and single ' quotes",
        "three \"\"\" and ''' of them",
        "back\\slash \\n that is no newline \\u0041",
        "first line\nsecond line\r\nthird\n",
        "\ttab",
        "Zürich, \N{CJK UNIFIED IDEOGRAPH-6F22}, \N{PILE OF POO}, \N{LINE SEPARATOR}, \N{ZERO WIDTH NO-BREAK SPACE}",
        EVERY_CONTROL_CHARACTER,
        "# no comment\n[no table]\nkey = 'no value'",
    ],
)
def test_any_text_reads_back_from_toml(text: str) -> None:
    tables = {"text": text, "list": [text, "b"], "table": {"text": text, "list": [text]}}
    assert tomllib.loads(toml_text(tables)) == tables


def test_half_a_character_does_not_cost_the_run() -> None:
    # Arguments that are not UTF-8 come in as lone surrogates, which no file can hold.
    text = toml_text({"overrides": ["name=\udcff"]})
    assert tomllib.loads(text)["overrides"][0].startswith("name=")
    assert text.encode("utf-8")


@pytest.mark.parametrize(
    "key", ["plain", "with-dash", "with.dot", "with space", "", "straße", 'quote"', "new\nline", "\x7f"]
)
def test_any_key_reads_back_from_toml(key: str) -> None:
    tables = {key: 1, "table": {key: "value"}}
    assert tomllib.loads(toml_text(tables)) == tables
    assert tomllib.loads(toml_text({key: {"a": 1}})) == {key: {"a": 1}}


def test_scalars_keep_their_kind_and_stand_before_the_tables() -> None:
    tables: dict[str, Any] = {
        "table": {"x": 1, "y": []},
        "count": 3,
        "large": 2**62,
        "share": 0.1,
        "tiny": 1e-30,
        "yes": True,
        "list": [1, 2, 3],
    }
    text = toml_text(tables)
    read = tomllib.loads(text)
    assert read == tables
    assert {key: type(value) for key, value in read.items()} == {key: type(value) for key, value in tables.items()}
    assert text.index("[table]") > text.index("list")


# --- tables ---------------------------------------------------------------------------------------------------------------


def test_csv_and_parquet_hold_the_same_table(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "label": ["frontier", 'a "quoted", name', "Zürich"],
            "tolerance": [0.1, 1 / 3, np.nan],
            "tiny": [1e-300, -1e-17, 2.0**60],
            "certified": [True, False, True],
            "paths": [1, 2, 2**40],
        }
    )
    write_table(tmp_path / "new" / "table", table)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["table.csv", "table.parquet"]
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "new" / "table.parquet"), table, check_exact=True)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "new" / "table.csv"), table, rtol=1e-15, atol=0)
    assert b"\r" not in (tmp_path / "new" / "table.csv").read_bytes()


def test_a_run_is_written_in_one_go(tmp_path: Path) -> None:
    with new_folder(tmp_path / "run") as folder:
        write_json(folder / "a.json", {"a": 1})
        write_table(folder / "t", pd.DataFrame({"a": [1]}))
        write_text(folder / "r.toml", toml_text({"a": 1}))
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["a.json", "r.toml", "t.csv", "t.parquet"]
    assert json.loads((tmp_path / "run" / "a.json").read_text(encoding="utf-8")) == {"a": 1}
