"""Several markets on the same paths: how often they are insolvent together, and what that asks of one insurance fund for all.

Every job stays what it is: a market with its venue, simulated by itself. Its market is an asset of a joint model, and under
one seed all assets meet the same world (`joint_sampling.py`), so path `i` of one job belongs to path `i` of the others. The
same jobs on paths that have nothing to do with each other say what it would be if markets were independent.

What a market *needs* on a path is the smallest insurance fund with which it stays solvent there. One fund for all is taken to need
the sum: never too little, and too much where markets are worst at different moments.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from calibrate.assemble import Assembled, assemble, model_path
from calibrate.assemble_joint import asset_of
from calibrate.errors import Problem, UserError, raise_all
from calibrate.job import LoadedJob
from calibrate.joint_sampling import JointSampling, joint_sampling
from calibrate.market.joint_files import JointModel
from calibrate.metrics import Estimate, expected_shortfall, frequency, mean_of_loss, quantile
from calibrate.progress import Listener
from calibrate.shocks import derived_seed
from calibrate.simulate import simulate


class Market(NamedTuple):
    """A job in a joint simulation: what it is called, its asset, how it is simulated and drawn, and its fund in USD."""

    name: str
    asset: str
    assembled: Assembled
    sampling: JointSampling
    fund_usd: float


class Needs(NamedTuple):
    """What each market needs of an insurance fund on each path, in USD, market by path; and whether its own is too small."""

    usd: np.ndarray
    insolvent: np.ndarray


class Together(NamedTuple):
    """Needs on the same paths, and on paths that have nothing to do with each other."""

    markets: tuple[Market, ...]
    joint: Needs
    independent: Needs
    fund_usd: float
    tail_level: float
    seed: int
    horizon_days: float


def simulate_together(jobs: Sequence[LoadedJob], *, paths: int, fund_usd: float | None, listener: Listener) -> Together:
    """The incumbents of all jobs on the same paths. `fund_usd` is the one fund, without it the sum of the jobs' own."""
    markets = markets_of(jobs)
    simulation = jobs[0].job.simulation
    seed = derived_seed(simulation.seed, "joint")
    joint, independent = [], []
    for number, market in enumerate(markets):
        done = listener.stage(f"simulating {market.name}", paths * (1 if number == 0 else 2))
        joint.append(_needs(market, seed, np.arange(paths), done))
        # The first market's paths are nobody else's, so they serve both.
        own = np.arange(number * paths, (number + 1) * paths)
        independent.append(joint[0] if number == 0 else _needs(market, seed, own, done))
    total = sum(market.fund_usd for market in markets) if fund_usd is None else fund_usd
    return Together(
        markets, _stacked(joint), _stacked(independent), total, simulation.tail_level, seed, simulation.horizon_days
    )


def markets_of(jobs: Sequence[LoadedJob]) -> tuple[Market, ...]:
    """The markets of some jobs, which have to be assets of one model in steps of one length."""
    _check_alike(jobs)
    found: list[Market] = []
    digests = {}
    for loaded in jobs:
        joint, asset = _asset(loaded)
        digests[str(loaded.path)] = joint.sha256
        assembled = assemble(loaded)
        drawn = joint_sampling(joint, asset, assembled.scenario.market, assembled.scenario.dt)
        fund = loaded.job.venue.insurance_fund_usd
        found.append(Market(loaded.job.name, asset, assembled, drawn, fund))
    if len(set(digests.values())) > 1:
        listed = "; ".join(f"{path}: {digest[:12]}" for path, digest in digests.items())
        raise UserError(
            [Problem("market.model", f"found different joint models ({listed}); expected the same one in all")]
        )
    return tuple(_told_apart(found))


def _asset(loaded: LoadedJob) -> tuple[JointModel, str]:
    section = loaded.job.market
    if section.model is None or section.replay is not None:
        found = "a replay" if section.replay is not None else f"volatility = {section.volatility:g}"
        expected = "expected `model`, a joint model, and `asset`"
        raise UserError([Problem(f"{loaded.path}: market", f"found {found}; {expected}: see models/README.md")])
    return asset_of(loaded, model_path(section.model, loaded))


def _check_alike(jobs: Sequence[LoadedJob]) -> None:
    """Paths belong to each other step by step."""
    problems, first = [], jobs[0]
    for loaded in jobs[1:]:
        for key in ("step_s", "horizon_days", "precision", "tail_level"):
            here, there = getattr(loaded.job.simulation, key), getattr(first.job.simulation, key)
            if here != there:
                message = f"found {here!r}; expected {there!r} as in {first.path}; give all jobs the same"
                problems.append(Problem(f"{loaded.path}: simulation.{key}", message))
    raise_all(problems)


def _told_apart(markets: Sequence[Market]) -> list[Market]:
    """Names that occur once: the asset is added where jobs are called alike, then a number."""
    names = [market.name for market in markets]
    longer = [f"{m.name} {m.asset}" if names.count(m.name) > 1 else m.name for m in markets]
    numbered = [f"{name} {k + 1}" if longer.count(name) > 1 else name for k, name in enumerate(longer)]
    return [market._replace(name=name) for market, name in zip(markets, numbered, strict=True)]


def _needs(market: Market, seed: int, paths: np.ndarray, done: Any) -> np.ndarray:
    """What the market needs on these paths, in USD."""
    scenario, incumbent, open_interest_usd = market.assembled
    sample = simulate(
        scenario, incumbent, seed=seed, paths=paths, fields=("distance",), sampling=market.sampling, on_progress=done
    )
    distance = np.asarray(sample.values["distance"], np.float64) * open_interest_usd
    return np.stack([np.maximum(distance + market.fund_usd, 0.0), distance])


def _stacked(each: Sequence[np.ndarray]) -> Needs:
    usd, distance = np.stack(each, axis=1)
    return Needs(usd, distance > 0)


# --- figures --------------------------------------------------------------------------------------------------------------


class Compared(NamedTuple):
    """A figure of all markets, and what it would be if they were independent."""

    joint: Estimate
    independent: Estimate

    def as_json(self) -> dict[str, Any]:
        return {"joint": self.joint.as_json(), "independent": self.independent.as_json()}


def figures(found: Together) -> dict[str, Any]:
    """Everything that is reported, as JSON: each market by itself, insolvencies together, and one fund for all."""
    level, total = found.tail_level, found.joint.usd.sum(axis=0)
    markets = {
        market.name: {
            "asset": market.asset,
            "open_interest_usd": market.assembled.open_interest_usd,
            "insurance_fund_usd": market.fund_usd,
            "insolvency_probability": frequency(insolvent).as_json(),
            "need_usd": mean_of_loss(usd).as_json(),
            "need_es_usd": expected_shortfall(usd, level).as_json(),
        }
        for market, usd, insolvent in zip(found.markets, found.joint.usd, found.joint.insolvent, strict=True)
    }
    return {
        "paths": len(total),
        "seed": found.seed,
        "horizon_days": found.horizon_days,
        "tail_level": level,
        "markets": markets,
        "insolvent_at_least": {
            str(count): _compared(
                found, lambda needs, count=count: frequency(needs.insolvent.sum(axis=0) >= count)
            ).as_json()
            for count in range(1, len(found.markets) + 1)
        },
        "insolvent_given": _conditional(found),
        "one_fund": {
            "fund_usd": found.fund_usd,
            "not_enough": _compared(found, lambda needs: frequency(needs.usd.sum(axis=0) > found.fund_usd)).as_json(),
            "need_usd": _compared(found, lambda needs: mean_of_loss(needs.usd.sum(axis=0))).as_json(),
            "need_var_usd": _compared(found, lambda needs: quantile(needs.usd.sum(axis=0), level)).as_json(),
            "need_es_usd": _compared(found, lambda needs: expected_shortfall(needs.usd.sum(axis=0), level)).as_json(),
            "share_of_separate_es": share_of_separate(found.joint.usd, level).as_json(),
        },
    }


def _compared(found: Together, figure: Any) -> Compared:
    return Compared(figure(found.joint), figure(found.independent))


def _conditional(found: Together) -> dict[str, dict[str, dict[str, object] | None]]:
    """How often a market is insolvent where another one is; None where the other never is."""
    names, hit = [market.name for market in found.markets], found.joint.insolvent
    return {
        one: {
            other: frequency(hit[j][hit[i]]).as_json() if hit[i].any() else None
            for j, other in enumerate(names)
            if j != i
        }
        for i, one in enumerate(names)
    }


def share_of_separate(usd: np.ndarray, level: float) -> Estimate:
    """Expected shortfall of what all need together over the sum of what each needs: 1 where all are worst on the same paths. Its
    error by the delta method, from what each path adds to either (Rockafellar and Uryasev 2000)."""

    def by_path(values: np.ndarray) -> np.ndarray:
        threshold = quantile(values, level).value
        return threshold + np.maximum(values - threshold, 0.0) / (1 - level)

    together, separate = by_path(usd.sum(axis=0)), np.sum([by_path(values) for values in usd], axis=0)
    if not separate.mean() > 0:
        return Estimate(
            float("nan"), float("nan"), (float("nan"), float("nan")), "no market needs anything on any path"
        )
    ratio = float(together.mean() / separate.mean())
    error = float(np.std(together - ratio * separate, ddof=1) / separate.mean() / np.sqrt(usd.shape[1]))
    return Estimate(ratio, error, (ratio - 1.959964 * error, ratio + 1.959964 * error))
