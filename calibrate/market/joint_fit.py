"""Fits a joint model to candles of several assets at once: slow moods of volatility first, the rest by maximum likelihood.

Returns over the level of each asset's volatility (`joint_levels.py`) have a likelihood: constant volatility in calm and a
multiple of it in a crash, the same crash for all; correlations of either; jumps of each asset and jumps of all
(`joint_likelihood.py`). Jumps are as large as they are at the root mean square of volatility. Bars count that all files have.
Standard errors of what the likelihood tells are the sandwich with scores of blocks of 30 days in the middle, since real
returns are wild in clusters (White 1982; Liang and Zeger 1986), carried over to correlations and other figures by the delta
method; they take levels for known. What a crash does to depth and the oracle is not in candles and stays at nothing, and so
does the leverage effect.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy.optimize import minimize

from calibrate.data.candles import MINIMUM_BARS_FOR_FIT, Candles
from calibrate.data.times import iso_time
from calibrate.errors import Problem, UserError, raise_all
from calibrate.market.fit import package_version
from calibrate.market.fits.likelihood import sandwich
from calibrate.market.fits.search import Space, Span
from calibrate.market.joint_files import BETA, CRASH_VOLATILITY, JointModel
from calibrate.market.joint_levels import Levels, levels_of
from calibrate.market.joint_likelihood import JointLaw, log_density, summed_by
from calibrate.market.schema import Parts
from calibrate.market.targets import BLOCK_DAYS, rounded
from calibrate.units import HOURS_PER_YEAR, SECONDS_PER_YEAR

PARTS = Parts("log-ou", "merton", "constant")
UNTOLD = {"crash_depth_multiplier": 1.0, "crash_oracle_delay_s": 0.0}
Tell = Callable[[str], None]


class Aligned(NamedTuple):
    """Log-returns of the bars that all files have, bar by asset, in the order of time; bars on either side of a gap count as
    neighbours. `ts` are the opens of the bars, in Unix milliseconds."""

    returns: np.ndarray
    ts: np.ndarray
    gaps: int
    interval_s: float

    def blocks(self) -> np.ndarray:
        """The number of the block of 30 days that each bar lies in; at least eight blocks."""
        number = max(8, round(len(self.returns) * self.interval_s / (BLOCK_DAYS * 86_400)))
        return np.arange(len(self.returns)) * number // len(self.returns)


def aligned(candles: Mapping[str, Candles]) -> Aligned:
    """The bars that all assets have."""
    lengths = {one.interval_s for one in candles.values()}
    if len(lengths) > 1:
        found = ", ".join(f"{name} {one.interval_s:g} s" for name, one in candles.items())
        raise UserError([Problem("candles", f"found bars of {found}; expected one length; use files of one frequency")])
    each = list(candles.values())
    ts = each[0].ts
    for one in each[1:]:
        ts = np.intersect1d(ts, one.ts)
    if len(ts) < MINIMUM_BARS_FOR_FIT:
        spans = "; ".join(f"{name} {one.first} to {one.last}" for name, one in candles.items())
        found = f"found {len(ts)} bars that all files have ({spans})"
        raise UserError([Problem("candles", f"{found}; expected at least {MINIMUM_BARS_FOR_FIT}; use longer files")])
    closes = np.stack([one.close[np.searchsorted(one.ts, ts)] for one in each], axis=1)
    whole = np.diff(ts) == round(each[0].interval_s * 1000)
    returns = np.diff(np.log(closes), axis=0)
    raise_all(
        [
            Problem(name, "found a price that never moves in the bars that all files have; leave this asset out")
            for name, moves in zip(candles, returns[whole].std(axis=0) > 0, strict=True)
            if not moves
        ]
    )
    return Aligned(returns[whole], ts, int((~whole).sum()), each[0].interval_s)


def fit_joint(candles: Mapping[str, Candles], *, seed: int = 0, tell: Tell = lambda text: None) -> JointModel:
    """The joint model of these assets, in their order, without evidence of how well it fits."""
    data = aligned(candles)
    tell(f"fitting {len(candles)} assets to {len(data.returns):,} bars that all files have")
    levels = levels_of(data.returns, data.interval_s, data.blocks(), np.random.default_rng([seed, 3]))
    likeliest = maximum_likelihood(tuple(candles), data._replace(returns=data.returns / levels.level), tell)
    return _model(candles, data, levels, likeliest, seed)


class Likeliest(NamedTuple):
    """Figures and their standard errors, by asset where there is one of each, and what has to be said of the search."""

    values: dict[str, Any]
    errors: dict[str, Any]
    notes: tuple[str, ...]


def maximum_likelihood(names: tuple[str, ...], data: Aligned, tell: Tell = lambda text: None) -> Likeliest:
    """Everything but levels, from returns at constant levels."""
    bar = data.interval_s / SECONDS_PER_YEAR
    space, start = _space(names, bar), _start(names, data, bar)
    with jax.enable_x64(True):
        returns = jnp.asarray(data.returns, jnp.float64)

        @jax.jit
        def each(vector: Array) -> Array:
            return log_density(_law(space, names, vector), returns, bar)

        misfit = jax.jit(jax.value_and_grad(lambda vector: -each(vector).mean()))
        found, unfinished = _best(misfit, space, start, tell)
        tell("measuring how sure each figure is")
        covariance = _covariance(each, found, data.blocks())
        told = jax.jit(lambda vector: _figures(space, names, vector))
        values, slopes = told(found), jax.jacfwd(told)(jnp.asarray(found))
    errors = jax.tree.map(lambda slope: np.sqrt(np.einsum("...i,ij,...j", slope, covariance, slope)), slopes)
    notes = (*unfinished, *(_in_words(note, names) for note in space.notes(found)))
    return Likeliest({name: np.asarray(value) for name, value in values.items()}, dict(errors), notes)


def with_command(joint: JointModel, command: str) -> JointModel:
    """The model with how it was made."""
    origin = dict(joint.fit)
    notes = {"notes": origin.pop("notes")} if "notes" in origin else {}
    return replace(joint, fit=origin | {"command": command} | notes)


# --- the search -----------------------------------------------------------------------------------------------------------


def _space(names: Sequence[str], bar: float) -> Space:
    each = range(len(names))
    most = 0.5 / bar  # of any rate: more would be told apart by no bar
    spans = {f"volatility.{k}": Span(1e-3, 6.0) for k in each}
    spans |= {f"multiplier.{k}": Span(1.02, 50.0) for k in each}
    spans |= {f"beta.{k}": Span(0.02, 20.0) for k in each[1:]}
    spans |= {f"own_rate.{k}": Span(0.5, min(most / 4, 20_000.0)) for k in each}
    spans |= {f"own_mean.{k}": Span(-0.2, 0.2, "plain") for k in each}
    spans |= {f"own_sd.{k}": Span(1e-3, 0.5) for k in each}
    for regime in ("calm", "crash"):
        spans |= {f"{regime}.{k}.{j}": Span(-20.0, 20.0, "plain") for k in each for j in range(k)}
    spans |= {"shared_rate": Span(0.5, min(most, 20_000.0)), "shared_mean": Span(-0.2, 0.2, "plain")}
    spans |= {"shared_sd": Span(1e-3, 0.5), "crash_jumps": Span(0.05, 50.0)}
    return Space(spans | {"into_crash": Span(0.1, min(10_000.0, most)), "out_of_crash": Span(1.0, 2 * most)})


def _start(names: Sequence[str], data: Aligned, bar: float) -> dict[str, float]:
    """A start from plain moments; jumps are five bars' standard deviations large and come twice a week."""
    spread = data.returns.std(axis=0)
    lower = np.linalg.cholesky(np.corrcoef(data.returns.T))
    start = {"shared_rate": 100.0, "shared_mean": 0.0, "shared_sd": 4 * spread[0], "crash_jumps": 1.5}
    start |= {"into_crash": min(200.0, 0.02 / bar), "out_of_crash": min(600.0, 0.06 / bar)}
    for k in range(len(names)):
        start |= {f"volatility.{k}": 0.6 * spread[k] / np.sqrt(bar), f"multiplier.{k}": 2.2}
        start |= {f"own_rate.{k}": 100.0, f"own_mean.{k}": 0.0, f"own_sd.{k}": 3 * spread[k]}
        start |= {} if k == 0 else {f"beta.{k}": float(spread[k] / spread[0])}
        for regime in ("calm", "crash"):
            start |= {f"{regime}.{k}.{j}": lower[k, j] / lower[k, k] for j in range(k)}
    return start


def _law(space: Space, names: Sequence[str], vector: Array) -> JointLaw:
    """A correlation matrix is the product of a lower triangle of unit rows, of ones on the diagonal before they are scaled."""
    p, each = space.parameters(vector, jnp), range(len(names))

    def column(name: str) -> Array:
        return jnp.stack([p[f"{name}.{k}"] for k in each])

    def correlation(regime: str) -> Array:
        rows = [jnp.stack([*(p[f"{regime}.{k}.{j}"] for j in range(k)), jnp.ones(())]) for k in each]
        lower = jnp.stack([jnp.pad(row / jnp.linalg.norm(row), (0, len(names) - len(row))) for row in rows])
        return lower @ lower.T

    beta = jnp.stack([jnp.ones(()), *(p[f"beta.{k}"] for k in each[1:])])
    return JointLaw(
        column("volatility"), column("multiplier"), correlation("calm"), correlation("crash"), beta, p["shared_rate"],
        p["shared_mean"], p["shared_sd"], column("own_rate"), column("own_mean"), column("own_sd"), p["crash_jumps"],
        p["into_crash"], p["out_of_crash"],
    )  # fmt: skip


def _best(
    value_and_slope: Callable[[np.ndarray], tuple[Array, Array]], space: Space, start: Mapping[str, float], tell: Tell
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Where the likelihood is highest, and what has to be said of the search."""
    made = 0

    def misfit(vector: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal made
        value, slope = value_and_slope(vector)
        made += 1
        if made % 50 == 0:
            tell(f"{made} steps, log-likelihood {-float(value):.6f} a bar")
        return float(value), np.asarray(slope, np.float64)

    inside = np.clip(space.vector(start), space.low + 1e-6, space.high - 1e-6)
    bounds = list(zip(space.low, space.high, strict=True))
    options = {"ftol": 1e-10, "gtol": 1e-7, "maxiter": 1500, "maxfun": 2000, "maxcor": 30}
    end = minimize(misfit, inside, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return end.x, () if end.success else (f"the search stopped after {made} steps before it had settled",)


def _covariance(each: Callable[[Array], Array], found: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Of the search vector. Directions are taken one after the other, or memory would grow with their number."""
    x, directions = jnp.asarray(found), jnp.eye(len(found))
    slope = jax.grad(lambda vector: -each(vector).sum())
    by_block = summed_by(blocks, each)
    hessian = jax.lax.map(lambda way: jax.jvp(slope, (x,), (way,))[1], directions)
    scores = jax.lax.map(lambda way: jax.jvp(by_block, (x,), (way,))[1], directions)
    return sandwich(np.asarray(hessian), np.asarray(scores).T)


# --- from the search to the file ------------------------------------------------------------------------------------------


def _figures(space: Space, names: Sequence[str], vector: Array) -> dict[str, Array]:
    """What the file holds, by asset where there is one of each."""
    law = _law(space, names, vector)
    return {
        "volatility": law.volatility,
        CRASH_VOLATILITY: law.crash_volatility,
        BETA: law.beta,
        "own_rate": law.own_rate,
        "own_mean": law.own_mean,
        "own_sd": law.own_sd,
        "calm": law.calm,
        "crash": law.crash,
        "jumps_per_year": law.shared_rate,
        "jump_mean": law.shared_mean,
        "jump_sd": law.shared_sd,
        "crash_jump_multiplier": law.crash_jumps,
        "crashes_per_year": law.into_crash,
        "crash_hours": HOURS_PER_YEAR / law.out_of_crash,
    }


# What the file calls an asset's figures.
_OWN = {
    "volatility": "volatility",
    "log_volatility_sd": "log_volatility_sd",
    "reversion_half_life_days": "reversion_half_life_days",
    "jumps_per_year": "own_rate",
    "jump_mean": "own_mean",
    "jump_sd": "own_sd",
    BETA: BETA,
    CRASH_VOLATILITY: CRASH_VOLATILITY,
}
_SHARED = ("jumps_per_year", "jump_mean", "jump_sd", "crashes_per_year", "crash_hours", "crash_jump_multiplier")


def _model(
    candles: Mapping[str, Candles], data: Aligned, levels: Levels, likeliest: Likeliest, seed: int
) -> JointModel:
    names, notes = tuple(candles), likeliest.notes

    def own(figures: Mapping[str, Any], k: int) -> dict[str, float]:
        return {name: rounded(float(figures[figure][k])) for name, figure in _OWN.items()}

    values, errors = _with_levels(levels, likeliest.values, likeliest.errors)
    own_errors = {name: own(errors, k) for k, name in enumerate(names)}
    del own_errors[names[0]][BETA]  # the unit of the others
    origin = {
        "sources": [one.source for one in candles.values()],
        "sha256": [one.sha256 for one in candles.values()],
        "first": iso_time(data.ts[0]),
        "last": iso_time(data.ts[-1]),
        "bars": len(data.ts),
        "gaps": data.gaps,
        "interval_s": data.interval_s,
        "seed": seed,
        "calibrate_version": package_version(),
    } | ({"notes": list(notes)} if notes else {})
    return JointModel(
        names,
        "merton",
        "calm-crash",
        {name: rounded(float(values[name])) for name in _SHARED} | UNTOLD,
        _matrices(values, levels.correlation),
        {name: (PARTS, {"drift": 0.0, "leverage_correlation": 0.0} | own(values, k)) for k, name in enumerate(names)},
        "fit",
        "",
        {name: rounded(float(errors[name])) for name in _SHARED},
        own_errors,
        _matrices(errors, levels.correlation_error),
        origin,
        [],
        [],
    )


def _with_levels(
    levels: Levels, values: Mapping[str, Any], errors: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures and errors with those of the levels. Volatility is that at the median level, `exp(-s^2)` of the root mean square."""
    median, one = np.exp(-(levels.sd**2)), np.ones_like(levels.sd)
    volatility = np.asarray(values["volatility"]) * median
    parts = errors["volatility"] * median, 2 * levels.sd * levels.sd_error * volatility, levels.scale_error * volatility
    told = {
        "volatility": volatility,
        "log_volatility_sd": levels.sd,
        "reversion_half_life_days": levels.half_life_days * one,
    }
    sure = {
        "volatility": np.sqrt(np.sum(np.square(parts), axis=0)),
        "log_volatility_sd": levels.sd_error,
        "reversion_half_life_days": levels.half_life_error * one,
    }
    return dict(values) | told, dict(errors) | sure


def _matrices(figures: Mapping[str, Any], volatility: np.ndarray) -> dict[str, np.ndarray]:
    return {"calm": _short(figures["calm"]), "crash": _short(figures["crash"]), "volatility": _short(volatility)}


def _short(matrix: Array | np.ndarray) -> np.ndarray:
    """Four decimals, as far as a correlation is known."""
    return np.round(np.asarray(matrix, np.float64), 4) + 0.0


def _in_words(note: str, names: Sequence[str]) -> str:
    """A note on a parameter of the search, with the asset's name in place of its number."""
    name, _, rest = note.partition(" ")
    parts = name.split(".")
    return f"{' '.join([parts[0], *(names[int(k)] for k in parts[1:])])} {rest}"
