"""Model files: what is written is read back, and whatever is wrong with a file is said at once."""

import os
import tomllib
from pathlib import Path

import pytest

from calibrate.errors import UserError
from calibrate.market.files import model_text, read_model, text_sha256, write_model
from calibrate.market.fit import Fit
from calibrate.market.schema import FAMILIES

MODELS = Path(__file__).parents[1] / "models"

PARAMETERS = {
    "volatility": 0.6,
    "log_volatility_sd": 0.6,
    "reversion_half_life_days": 5.0,
    "leverage_correlation": -0.5,
    "jumps_per_year": 700.0,
    "jump_volatility_exponent": 0.8,
    "jump_up_probability": 0.6,
    "jump_up_mean": 0.012,
    "jump_down_mean": 0.018,
    "drift": 0.0,
}
MADE = Fit(
    family="log-ou-kou",
    parameters=PARAMETERS,
    standard_errors={name: 0.1 for name in PARAMETERS if name != "drift"},
    goodness=[
        {
            "horizon": "1h",
            "quantile": 0.001,
            "data": -0.07,
            "data_standard_error": 0.008,
            "model": -0.0714,
            "ratio": 1.02,
        }
    ],
    autocorrelation=[
        {"what": "absolute returns", "lag_hours": 1.0, "data": 0.3, "data_standard_error": 0.02, "model": 0.25}
    ],
    source="candles.csv",
    sha256="ab" * 32,
    first="2021-01-01T00:00:00Z",
    last="2022-01-01T00:00:00Z",
    bars=8761,
    gaps=2,
    interval_s=3600.0,
    seed=3,
    version="0.1.0",
)
COMMAND = "calibrate fit candles.csv -o made.toml"


def made_text():
    return model_text(MADE, command=COMMAND)


def message_of(path, text):
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_model(path)
    return str(caught.value)


def test_a_written_model_is_read_back(tmp_path):
    path = tmp_path / "made.toml"
    write_model(path, MADE, command=COMMAND)
    model = read_model(path)
    assert model.family == MADE.family
    assert model.parameters == MADE.parameters
    assert model.standard_errors == MADE.standard_errors
    assert model.goodness == MADE.goodness
    assert model.autocorrelation == MADE.autocorrelation
    assert model.source == "made.toml"
    assert model.sha256 == text_sha256(path)
    assert model.fit == {
        "source": "candles.csv",
        "sha256": MADE.sha256,
        "first": MADE.first,
        "last": MADE.last,
        "bars": 8761,
        "gaps": 2,
        "interval_s": 3600.0,
        "seed": 3,
        "calibrate_version": "0.1.0",
        "command": COMMAND,
    }


def test_the_same_fit_gives_the_same_bytes_with_plain_line_ends(tmp_path):
    for name in ("one", "two"):
        write_model(tmp_path / name, MADE, command=COMMAND)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert b"\r" not in (tmp_path / "one").read_bytes()


@pytest.mark.parametrize("awkward", ['a "quoted" \\ back\nslash\t', "snow \N{SNOWMAN}", "bell \x07 delete \x7f"])
def test_awkward_text_survives_the_file(awkward):
    assert tomllib.loads(model_text(MADE, command=awkward))["fit"]["command"] == awkward


def test_only_the_name_of_the_source_is_written():
    parts = vars(MADE) | {"source": "/home/someone/candles.csv"}
    assert tomllib.loads(model_text(Fit(**parts), command=COMMAND))["fit"]["source"] == "candles.csv"


def test_notes_are_kept(tmp_path):
    write_model(tmp_path / "made.toml", Fit(**vars(MADE) | {"notes": ("one", "two")}), command=COMMAND)
    assert read_model(tmp_path / "made.toml").fit["notes"] == ["one", "two"]


def test_a_model_written_by_hand_needs_only_family_and_parameters(tmp_path):
    path = tmp_path / "hand.toml"
    path.write_text('[model]\nfamily = "constant"\n[parameters]\nvolatility = 1\ndrift = 0\n')
    model = read_model(path)
    assert model.parameters == {"volatility": 1.0, "drift": 0.0}
    assert isinstance(model.parameters["volatility"], float)
    assert (model.fit, model.goodness, model.standard_errors) == ({}, [], {})


def test_the_hash_of_a_text_does_not_depend_on_its_line_ends(tmp_path):
    (tmp_path / "unix").write_bytes(b"a = 1\nb = 2\n")
    (tmp_path / "dos").write_bytes(b"a = 1\r\nb = 2\r\n")
    (tmp_path / "other").write_bytes(b"a = 1\nb = 3\n")
    assert text_sha256(tmp_path / "unix") == text_sha256(tmp_path / "dos") != text_sha256(tmp_path / "other")


# what is replaced in a good file, by what, and what the message must say
WRONG = {
    "no toml": ("volatility = 0.6", "volatility 0.6", ["not readable as TOML", "line 7"]),
    "no number there": ("volatility = 0.6", "volatility = ", ["not readable as TOML", "line 7"]),
    "key twice": ("drift = 0.0", "drift = 0.0\ndrift = 0.1", ["not readable as TOML", "line 17"]),
    "no model": ('[model]\nfamily = "log-ou-kou"', "", ["model: missing"]),
    "no family": ('family = "log-ou-kou"', "", ["model.family: missing"]),
    "unknown family": (
        '"log-ou-kou"',
        '"sabr"',
        ["model.family: found 'sabr'", "'constant' or 'log-ou'", "'heston'", "'log-ou-kou'"],
    ),
    "family of wrong type": ('"log-ou-kou"', "[1]", ["model.family: found [1]"]),
    "missing parameter": ("jump_up_mean = 0.012\n", "", ["parameters.jump_up_mean: missing"]),
    "misspelt parameter": (
        "drift = 0.0",
        "drift = 0.0\nvolatilty = 1.0",
        ["volatilty: unknown; did you mean volatility?"],
    ),
    "text": ("volatility = 0.6", 'volatility = "high"', ["parameters.volatility: found 'high'; expected a number"]),
    "truth value": ("volatility = 0.6", "volatility = true", ["found True; expected a number"]),
    "nan": ("volatility = 0.6", "volatility = nan", ["parameters.volatility: found nan"]),
    "zero volatility": ("volatility = 0.6", "volatility = 0", ["found 0; expected a number above 0 and at most 10"]),
    "wild sd": ("log_volatility_sd = 0.6", "log_volatility_sd = 1.6", ["found 1.6", "at least 0 and at most 1.5"]),
    "half-life": ("reversion_half_life_days = 5.0", "reversion_half_life_days = 0", ["at least 0.0416667"]),
    "correlation": ("leverage_correlation = -0.5", "leverage_correlation = -1.0", ["above -1 and below 1"]),
    "negative jumps": ("jumps_per_year = 700.0", "jumps_per_year = -1", ["found -1", "at least 0"]),
    "probability": ("jump_up_probability = 0.6", "jump_up_probability = 60", ["found 60", "at most 1"]),
    "large jumps": ("jump_up_mean = 0.012", "jump_up_mean = 0.5", ["jump_up_mean: found 0.5", "below 0.5"]),
    "jumps every minute": (
        "jump_volatility_exponent = 0.8",
        "jump_volatility_exponent = 4.5",
        ["jumps in a minute", "0.1"],
    ),
    "parameters no table": ("[parameters]\n", "[[parameters]]\n", ["expected a table, written as [parameters]"]),
    "unknown table": ("[fit]", "[fits]", ["fits: unknown; did you mean fit?"]),
    "unknown fit key": ("seed = 3", "sead = 3", ["fit.sead: unknown; did you mean seed?"]),
    "fit of wrong type": ("bars = 8761", "bars = 8761.5", ["fit.bars: found 8761.5; expected a whole number"]),
    "negative error": ("volatility = 0.1", "volatility = -0.1", ["standard_errors.volatility: found -0.1"]),
    "error of nothing": ("volatility = 0.1", "vol = 0.1", ["standard_errors.vol: unknown"]),
    "goodness row": ("ratio = 1.02", 'ratio = "good"', ["goodness row 1.ratio: found 'good'; expected a number"]),
    "goodness short": ("ratio = 1.02\n", "", ["goodness row 1.ratio: missing"]),
    "goodness no rows": ("[[goodness]]", "[goodness]", ["expected rows, each written as [[goodness]]"]),
    "autocorrelation row": ("lag_hours = 1.0", "lag_h = 1.0", ["autocorrelation row 1.lag_hours: missing"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_refused_with_the_place_and_what_to_expect(tmp_path, name):
    found, replacement, expected = WRONG[name]
    text = made_text()
    assert found in text
    path = tmp_path / "wrong.toml"
    message = message_of(path, text.replace(found, replacement, 1))
    assert all(line.startswith(str(path)) for line in message.splitlines())
    for part in expected:
        assert part in message


def test_all_problems_of_a_file_come_in_one_message(tmp_path):
    text = made_text()
    for name in ("text", "wild sd", "missing parameter", "unknown fit key", "goodness row", "negative error"):
        found, replacement, _ = WRONG[name]
        text = text.replace(found, replacement, 1)
    message = message_of(tmp_path / "wrong.toml", text)
    for name in ("text", "wild sd", "missing parameter", "unknown fit key", "goodness row", "negative error"):
        for part in WRONG[name][2]:
            assert part in message
    assert len(message.splitlines()) == 6


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(UserError, match="cannot read the file"):
            read_model(path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not a text file"):
        read_model(tmp_path / "binary.toml")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "made.toml"
    path.write_text("old")

    def fail(*names):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UserError, match="cannot write the file \\(No space left on device\\)"):
        write_model(path, MADE, command=COMMAND)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_writing_into_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        write_model(tmp_path / "none" / "made.toml", MADE, command=COMMAND)


@pytest.mark.parametrize("name", ["eth-usd", "btc-usd"])
def test_shipped_models_say_where_they_come_from_without_a_folder(name):
    model = read_model(MODELS / f"{name}.toml")
    coin = name[:3].upper()
    assert model.fit["source"] == f"{coin}USDT_1h.parquet"
    assert model.fit["command"] == f"calibrate fit {coin}USDT_1h.parquet --allow-gaps -o models/{name}.toml"
    assert set(model.parameters) == set(FAMILIES["log-ou-kou"])
    assert set(model.standard_errors) == set(model.parameters) - {"drift"}


def test_the_readme_shows_the_numbers_of_the_shipped_models():
    rows = [line.strip("| ").split(" | ") for line in (MODELS / "README.md").read_text().splitlines()]
    eth, btc = (read_model(MODELS / f"{name}.toml") for name in ("eth-usd", "btc-usd"))
    for name in eth.standard_errors:
        row = next(row for row in rows if row[0] == f"`{name}`" and len(row) == 5)
        shown = [eth.parameters[name], eth.standard_errors[name], btc.parameters[name], btc.standard_errors[name]]
        assert [float(cell) for cell in row[1:]] == pytest.approx(shown, rel=0.05)
    for of_eth, of_btc in zip(eth.goodness, btc.goodness, strict=True):
        quantile = f"{100 * of_eth['quantile']:g} %"
        row = next(row for row in rows if row[:2] == [of_eth["horizon"], quantile])
        keys = ("data", "data_standard_error", "model", "ratio")
        shown = [f"{model[key]:.{2 if key == 'ratio' else 4}f}" for model in (of_eth, of_btc) for key in keys]
        assert row[2:] == shown
