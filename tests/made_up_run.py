"""A made-up run folder with the numbers of a plausible venue: what the tests of the figures and the report read."""

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

RUN_TOML = """\
name = "ETH-PERP"
finished = "2026-03-01T12:00:00+00:00"
wall_seconds = 184.2
seed = 20240611
overrides = ["simulation.paths=4e5"]
device = "cpu"

[versions]
calibrate = "0.1.0"
jax = "0.10.2"

[inputs_sha256]
"eth.toml" = "5b0c1d"

[job]
text = "name = \\"ETH-PERP\\"\\n\\n[simulation]\\nhorizon_days = 1.0  # a & b < c\\n"
"""
PARAMETERS = {  # incumbent, recommended, unit, free, low, high, description
    "base_margin_bps": (100.0, 83.1, "bps", True, 20.0, 500.0, "Maintenance margin in a market without volatility."),
    "volatility_multiplier": (0.8, 1.34, "", True, 0.0, 4.0, "Forecast volatilities added to the base margin."),
    "penalty_bps": (150.0, 112.4, "bps", True, 20.0, 500.0, "Taken from a liquidated account."),
    "initial_ratio": (2.0, 2.0, "", False, 1.0, 4.0, "Initial margin over maintenance margin."),
}
SHARES = {  # incumbent, recommended
    "insolvency_probability": (4.6e-3, 8.1e-4),
    "account_insolvency_rate": (3.1e-4, 1.2e-4),
    "bad_debt": (8.2e-5, 2.4e-5),
    "bad_debt_var_99": (6.1e-4, 0.0),
    "bad_debt_es_99": (7.4e-3, 2.3e-3),
    "fund_draw": (5.5e-5, 1.9e-5),
    "fund_draw_es_99": (4.7e-3, 1.8e-3),
    "socialised_loss": (2.7e-5, 5.1e-6),
    "socialised_loss_es_99": (2.7e-3, 5.1e-4),
    "open_deficit": (1.1e-6, 0.0),
    "liquidated": (1.9e-2, 1.4e-2),
    "liquidations_at_risk_99": (0.21, 0.17),
    "user_cost": (3.4e-4, 2.2e-4),
    "false_liquidation_rate": (8.8e-3, 6.3e-3),
    "margin_per_oi": (0.0549, 0.0469),
    "max_leverage": (18.2, 21.3),
    "margin_peak_to_trough": (1.42, 1.81),
    "margin_rise": (0.0081, 0.0123),
}


def metrics(index: int) -> dict[str, Any]:
    values = {}
    for name, pair in SHARES.items():
        value = pair[index]
        error = value * (0.055 if value < 1 else 0.002)
        high = value + 1.96 * error if value else 7.5e-6 * (name != "bad_debt_var_99")
        values[name] = {"value": value, "standard_error": error, "interval": [value - 1.96 * error, high]}
    values["bad_debt_var_99"]["warning"] = "fewer than 1 % of paths lose anything, so the quantile is 0"
    return {
        "metrics": values,
        "paths": 400_000,
        "horizon_days": 1.0,
        "seed": 77,
        "tail_level": 0.99,
        "open_interest_usd": 2e8,
    }


def sensitivity(parameter: str, kind: str, elasticity: float, error: float) -> dict[str, Any]:
    method = "kernel estimator" if kind == "policy" else "paired difference"
    forced = {"margin_percent": 2 * elasticity, "standard_error": 2 * error}
    return ({"a_tenth_more_forces": forced} if kind == "assumption" else {}) | {
        "of": "insolvency_probability",
        "parameter": parameter,
        "kind": kind,
        "elasticity": elasticity,
        "standard_error": error,
        "method": method,
    }


def diagnosis(paths: float, largest: float) -> dict[str, float]:
    return {"effective_paths": paths, "largest_share": largest, "half_gap": 1.04, "weight_gap": 0.3}


def recommended(status: str = "certified", name: str = "ETH-PERP") -> dict[str, Any]:
    index = 0 if status == "infeasible" else 1
    policy = {
        key: {
            "value": entry[index],
            "incumbent": entry[0],
            "change": entry[index] - entry[0],
            "unit": entry[2],
            "free": entry[3],
            "low": entry[4],
            "high": entry[5],
            "description": entry[6],
        }
        for key, entry in PARAMETERS.items()
    }
    probability = {
        "name": "insolvency_probability",
        "limit": 1e-3,
        "value": 8.1e-4,
        "standard_error": 4.5e-5,
        "interval": [7.2e-4, 9.0e-4],
        "upper": 8.9e-4,
        "satisfied": True,
        "diagnosis": diagnosis(3120.0, 0.0124),
        "shadow_price": 0.104,
    }
    tail = {
        "name": "bad_debt_es_99",
        "limit": 5e-3,
        "value": 2.3e-3,
        "standard_error": 1.3e-4,
        "interval": [2.05e-3, 2.55e-3],
        "upper": 2.51e-3 if status == "certified" else 5.4e-3,
        "satisfied": status == "certified",
        "diagnosis": diagnosis(1840.0, 0.031),
        "shadow_price": 0.0,
    }
    drivers = [
        sensitivity("volatility level", "assumption", 7.1, 0.4),
        sensitivity("market depth", "assumption", -1.9, 0.21),
        sensitivity("base_margin_bps", "policy", -2.6, 0.18),
        sensitivity("volatility_multiplier", "policy", -3.8, 0.25),
        sensitivity("penalty_bps", "policy", 0.22, 0.11),
    ]
    return {
        "name": name,
        "status": status,
        "message": "The recommended set needs less margin and keeps insolvency below the tolerance.",
        "horizon_days": 1.0,
        "open_interest_usd": 2.0e8,
        "policy": policy,
        "certificate": {
            "paths": 400_000,
            "seed": 123,
            "attempts": 1,
            "confidence": 0.95,
            "sampling": "importance",
            "plain_share": 0.2,
            "gain": 29.3,
            "constraints": [probability, tail],
        },
        # How a policy gives way is only known of one that is certified.
        "sensitivities": drivers if status == "certified" else older(drivers),
        "limits_doubled": {"margin_per_oi": 0.0427, "max_leverage": 23.42, "more_leverage": 2.12}
        if status == "certified"
        else None,
    }


def older(content: Any) -> Any:
    """What `recommended` would be in a folder of before paths were weighted and limits had prices."""
    new = ("sampling", "plain_share", "gain", "diagnosis", "shadow_price", "a_tenth_more_forces", "limits_doubled")
    if isinstance(content, dict):
        return {key: older(value) for key, value in content.items() if key not in new}
    return [older(value) for value in content] if isinstance(content, list) else content


def frontier_row(
    label: str, tolerance: float, probability: float, leverage: float, certified: bool = True, dominated: bool = False
) -> dict[str, Any]:
    paths = 400_000
    error = math.sqrt(probability / paths)
    return {
        "label": label,
        "tolerance": tolerance,
        "insolvency_probability": probability,
        "standard_error": error,
        "low": max(probability - 1.96 * error, 0.0),
        "high": probability + 1.96 * error if probability else 3.7 / paths,
        "margin_per_oi": 1 / leverage,
        "margin_per_oi_standard_error": 2e-5,
        "max_leverage": leverage,
        "user_cost": 1e-5 * leverage,
        "user_cost_standard_error": 1e-6,
        "bad_debt_es_99": 2.8 * probability,
        "bad_debt_es_99_standard_error": 2.8 * error,
        "bad_debt_es_99_low": max(2.8 * (probability - 1.96 * error), 0.0),
        "bad_debt_es_99_high": 2.8 * (probability + 1.96 * error),
        "certified": certified,
        "dominated": dominated,
        "paths": paths,
        "base_margin_bps": 2600 / leverage - 30,
        "volatility_multiplier": 28 / leverage,
        "penalty_bps": 60 + 2.5 * leverage,
        "initial_ratio": 2.0,
    }


def frontier(infeasible: bool = False) -> pd.DataFrame:
    points = [  # tolerance, probability, leverage
        (3e-6, 0.0, 12.1),
        (1e-5, 5e-6, 13.6),
        (3e-5, 2.2e-5, 15.0),
        (1e-4, 8.1e-5, 16.9),
        (3e-4, 2.6e-4, 18.8),
        (1e-3, 1.05e-3, 21.6),
        (3e-3, 2.8e-3, 24.1),
        (1e-2, 9.4e-3, 27.9),
    ]
    rows = [frontier_row("frontier", *point, certified=point[0] != 1e-3) for point in points]
    rows.append(frontier_row("incumbent", math.nan, 4.6e-3, 18.2, certified=False, dominated=True))
    if infeasible:
        return pd.DataFrame(rows[-1:])
    rows.append(frontier_row("recommended", math.nan, 8.1e-4, 21.3, certified=False))
    return pd.DataFrame(rows)


def estimate(value: float, error: float) -> dict[str, Any]:
    return {"value": value, "standard_error": error, "interval": [value - 1.96 * error, value + 1.96 * error]}


def standing(label: str, leverage: float, probability: float, **gaps: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "label": label,
        "max_leverage": estimate(leverage, 0.02),
        "insolvency_probability": estimate(probability, math.sqrt(probability / 400_000)),
        "user_cost": estimate(3.4e-4, 1e-5),
        "dominated": label == "incumbent",
        "more_leverage": None,
        "user_cost_there": None,
        "times_safer": None,
    } | gaps


def trade_off(infeasible: bool = False) -> dict[str, Any]:
    cost = estimate(2.5e-4, 2e-5)
    above = standing(
        "incumbent",
        18.2,
        4.6e-3,
        more_leverage=estimate(7.5, 0.1),
        user_cost_there=cost,
        times_safer=estimate(22.0, 1.4),
    )
    close = standing(
        "recommended", 21.3, 8.1e-4, more_leverage=estimate(-0.08, 0.12), user_cost_there=cost,
        times_safer=estimate(0.96, 0.06),
    )  # fmt: skip
    corner = {"max_leverage": 1.0, "insolvency_probability": 0.1}
    return {
        "axes": {"x": "max_leverage", "y": "insolvency_probability"},
        "hypervolume": estimate(61.3, 1.1) | {"reference": corner},
        "standings": [above] if infeasible else [above, close],
    }


def write_run(folder: Path, status: str = "certified", name: str = "ETH-PERP") -> Path:
    infeasible = status == "infeasible"
    folder.mkdir(parents=True, exist_ok=True)
    found = {"incumbent": metrics(0)} if infeasible else {"incumbent": metrics(0), "recommended": metrics(1)}
    (folder / "recommended.json").write_text(json.dumps(recommended(status, name)), encoding="utf-8")
    (folder / "metrics.json").write_text(json.dumps(found), encoding="utf-8")
    (folder / "run.toml").write_text(RUN_TOML, encoding="utf-8")
    (folder / "frontier.json").write_text(json.dumps(trade_off(infeasible)), encoding="utf-8")
    frontier(infeasible).to_csv(folder / "frontier.csv", index=False)
    return folder
