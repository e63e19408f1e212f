"""What a job assumes of its world in numbers, and the same scenario with one of them a little higher or lower.

The numbers are the parameters of the job's market model, all that `market/schema.py` knows of its parts, under their names in the
model file; and the oracle's deviation threshold. Only the market's law, or the oracle, is another one: accounts hold the
collateral that they hold, and depth is given at usual volatility, whatever that is. A parameter of zero has no per cent, one
that would leave its range has no more or less, and what is told in seconds is a whole number of steps: these are left out. So
is a history that is replayed, which follows no law.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np

from calibrate.assemble import market_of, model_of
from calibrate.job import LoadedJob
from calibrate.market.files import ModelFile
from calibrate.market.joint_files import JointModel, own_ranges, shared_ranges
from calibrate.market.schema import Range, joint_problems
from calibrate.oracle import PushOracle
from calibrate.oracle_pipe import OraclePipe
from calibrate.simulate import Scenario
from calibrate.units import Scalar

THRESHOLD = "oracle_deviation_bps"


class Assumption(NamedTuple):
    """A number of the world, and the scenario with a share more and less of it. Of a negative number more is further from zero."""

    name: str
    more: Scenario
    fewer: Scenario


def assumptions_of(loaded: LoadedJob, scenario: Scenario, change: float) -> list[Assumption]:
    """Every number that can be changed by this share, in the scenario of the job itself."""
    factors = (1 + change, 1 - change)
    with jax.enable_x64(scenario.dtype == np.float64):
        found = [
            Assumption(name, *(replace(scenario, market=market_of(loaded, scenario.dtype, model)) for model in models))
            for name, models in _changed_models(loaded, factors)
        ]
        if isinstance(_publication(scenario), PushOracle):
            ends = (eqx.tree_at(_threshold, scenario, factor * _threshold(scenario)) for factor in factors)
            found.append(Assumption(THRESHOLD, *ends))
    return found


def _changed_models(
    loaded: LoadedJob, factors: tuple[float, float]
) -> Iterator[tuple[str, list[ModelFile | JointModel]]]:
    """The job's model with more and with less of each parameter that there can be more and less of."""
    model, asset = model_of(loaded), loaded.job.market.asset
    if model is None or loaded.job.market.replay is not None:
        return
    for name, (value, allowed) in _numbers(model, asset).items():
        values = [factor * value for factor in factors]
        if value == 0 or name.endswith("_s") or not all(map(allowed.holds, values)):
            continue
        models = [_with_number(model, asset, name, value) for value in values]
        if not any(joint_problems(_of_asset(one, asset).parameters) for one in models):
            yield name, models


def _numbers(model: ModelFile | JointModel, asset: str | None) -> dict[str, tuple[float, Range]]:
    """The model's parameters and where each may lie. In a model of several assets those of the job's own have its name in
    brackets, since what is shared may be called the same."""
    if isinstance(model, ModelFile):
        return {name: (model.parameters[name], allowed) for name, allowed in model.parts.ranges().items()}
    assert asset is not None
    shared = shared_ranges(model.jumps, model.regimes)
    parts, values = model.own[asset]
    own = own_ranges(parts, model.jumps, model.regimes)
    return {name: (model.parameters[name], allowed) for name, allowed in shared.items()} | {
        f"{name} [{asset}]": (values[name], allowed) for name, allowed in own.items()
    }


def _with_number(model: ModelFile | JointModel, asset: str | None, name: str, value: float) -> ModelFile | JointModel:
    key, bracket, _ = name.partition(" [")
    if isinstance(model, ModelFile) or not bracket:
        return replace(model, parameters=model.parameters | {key: value})
    assert asset is not None
    parts, own = model.own[asset]
    return replace(model, own=model.own | {asset: (parts, own | {key: value})})


def _of_asset(model: ModelFile | JointModel, asset: str | None) -> ModelFile:
    if isinstance(model, ModelFile):
        return model
    assert asset is not None
    return model.marginal(asset)


def _publication(scenario: Scenario) -> object:
    oracle = scenario.oracle
    return oracle.publication if isinstance(oracle, OraclePipe) else oracle


def _threshold(scenario: Scenario) -> Scalar:
    publication = _publication(scenario)
    assert isinstance(publication, PushOracle)
    return publication.deviation
