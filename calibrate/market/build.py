"""From a model file to a market: the parts that it names, with their parameters in annual units and in the engine's precision."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy.special import gammainccinv, gammaincinv
from scipy.stats import t as student

from calibrate.errors import Problem, UserError
from calibrate.market.arrival import ConstantArrival, VolatilityLinkedArrival
from calibrate.market.constant import ConstantVolatility
from calibrate.market.curve import Curve, curve_of_quantiles
from calibrate.market.files import ModelFile
from calibrate.market.filtered_historical import FilteredHistorical
from calibrate.market.garch import Garch, VarianceRecursion, stationary_log_variance, student_mixing
from calibrate.market.hawkes import HawkesArrival
from calibrate.market.heston import Heston
from calibrate.market.kou import KouSizes
from calibrate.market.log_ou import LogOU
from calibrate.market.log_ou_two_factor import Factor, TwoFactorLogOU
from calibrate.market.market import Jumps, Market
from calibrate.market.merton import MertonSizes
from calibrate.market.model import Arrival, Sizes, Volatility
from calibrate.market.regimes import Regimes
from calibrate.units import DAYS_PER_YEAR, HOURS_PER_YEAR, SECONDS_PER_YEAR, Scalar


class Making(NamedTuple):
    """What parts are made of: the file, its numbers as scalars, the annual volatility that paths start at (None for their long-run
    law), and the length of a step."""

    model: ModelFile
    value: dict[str, Scalar]
    initial_volatility: Scalar | None
    step_s: float
    dtype: np.dtype

    def reversion(self, name: str) -> Scalar:
        """Annual speed from a half-life in days."""
        return np.log(2) * DAYS_PER_YEAR / self.value[name]

    @property
    def initial_log_volatility(self) -> Scalar | None:
        start = self.initial_volatility
        return None if start is None else jnp.log(start / self.value["volatility"])

    @property
    def initial_variance(self) -> Scalar | None:
        return None if self.initial_volatility is None else self.initial_volatility**2


def market_from(
    model: ModelFile, initial_volatility: float | np.ndarray | None, step_s: float, dtype: np.dtype
) -> Market:
    """The market that a file describes, for steps of `step_s` seconds; paths may start at volatilities of their own."""
    value = {name: jnp.asarray(number, dtype) for name, number in model.parameters.items()}
    start = None if initial_volatility is None else jnp.asarray(initial_volatility, dtype)
    making, parts = Making(model, value, start, step_s, dtype), model.parts
    jumps = None
    if parts.jumps is not None and parts.arrival is not None:
        jumps = Jumps(ARRIVALS[parts.arrival](making), SIZES[parts.jumps](making))
    regimes = None if parts.regimes is None else _calm_and_crash(making)
    return Market(VOLATILITIES[parts.family](making), value["drift"], jumps, regimes)


def _constant(m: Making) -> Volatility:
    return ConstantVolatility(m.value["volatility"])


def _log_ou(m: Making) -> Volatility:
    names = ("volatility", "log_volatility_sd", "leverage_correlation")
    volatility, sd, correlation = (m.value[name] for name in names)
    return LogOU(volatility, sd, m.reversion("reversion_half_life_days"), correlation, m.initial_log_volatility)


def _two_factor(m: Making) -> Volatility:
    fast, slow = (
        Factor(
            m.value[f"{factor}_log_volatility_sd"],
            m.reversion(f"{factor}_half_life_days"),
            m.value[f"{factor}_leverage_correlation"],
        )
        for factor in ("fast", "slow")
    )
    return TwoFactorLogOU(m.value["volatility"], fast, slow, m.initial_log_volatility)


def _heston(m: Making) -> Volatility:
    speed = m.reversion("reversion_half_life_days")
    parts = m.value["volatility"], speed, m.value["volatility_of_variance"], m.value["leverage_correlation"]
    stationary = None
    if m.initial_variance is None:
        stationary = _gamma_law(float(parts[0]), float(parts[1]), float(parts[2]), m.dtype)
    return Heston(*parts, m.initial_variance, stationary)


def _gamma_law(volatility: float, speed: float, volatility_of_variance: float, dtype: np.dtype) -> Curve:
    """The long-run law of Heston's variance (Cox, Ingersoll and Ross 1985)."""
    shape = 2 * speed * volatility**2 / volatility_of_variance**2

    def quantile(below: np.ndarray, above: np.ndarray) -> np.ndarray:
        return np.where(below < above, gammaincinv(shape, below), gammainccinv(shape, above)) * volatility**2 / shape

    return curve_of_quantiles(quantile, dtype)


def _recursion(m: Making) -> VarianceRecursion:
    """The step must divide the bar."""
    bar_s = float(m.model.parameters["bar_s"])
    steps = round(bar_s / m.step_s)
    if steps < 1 or abs(steps * m.step_s - bar_s) > 1e-6 * bar_s:
        found = f"found {m.step_s:g} s; the model {m.model.source} has bars of {bar_s:g} s"
        raise UserError(
            [Problem("simulation.step_s", f"{found}, expected a whole part of that, such as {bar_s / max(steps, 1):g}")]
        )
    zero = jnp.zeros_like(m.value["volatility"])
    alpha, beta = m.value["garch_alpha"], m.value["garch_beta"]
    return VarianceRecursion(m.value["volatility"], alpha, beta, m.value.get("garch_gamma", zero), steps)


def _garch(m: Making) -> Volatility:
    recursion, freedom = _recursion(m), float(m.model.parameters["degrees_of_freedom"])
    stationary = None
    if m.initial_variance is None:
        ranks = (np.arange(200_000) + 0.5) / 200_000
        stationary = stationary_log_variance(recursion, student.ppf(ranks, freedom) * np.sqrt(1 - 2 / freedom), m.dtype)
    return Garch(recursion, student_mixing(freedom, m.dtype), m.initial_variance, stationary)


def _filtered_historical(m: Making) -> Volatility:
    assert m.model.residuals is not None
    recursion, residuals = _recursion(m), m.model.residuals
    stationary = None if m.initial_variance is not None else stationary_log_variance(recursion, residuals, m.dtype)
    history = jnp.asarray(residuals, m.dtype)
    return FilteredHistorical(recursion, history, m.value["block_bars"], m.initial_variance, stationary)


def _kou(m: Making) -> Sizes:
    return KouSizes(m.value["jump_up_probability"], m.value["jump_up_mean"], m.value["jump_down_mean"])


def _merton(m: Making) -> Sizes:
    return MertonSizes(m.value["jump_mean"], m.value["jump_sd"])


def _independent(m: Making) -> Arrival:
    return ConstantArrival(m.value["jumps_per_year"])


def _volatility_linked(m: Making) -> Arrival:
    return VolatilityLinkedArrival(m.value["jumps_per_year"], m.value["jump_volatility_exponent"])


def _self_exciting(m: Making) -> Arrival:
    decay = HOURS_PER_YEAR / m.value["jump_memory_hours"]
    return HawkesArrival(m.value["jumps_per_year"], m.value["jump_branching_ratio"], decay)


def _calm_and_crash(m: Making) -> Regimes:
    value = m.value
    return Regimes(
        value["crashes_per_year"],
        HOURS_PER_YEAR / value["crash_hours"],
        value["crash_volatility_multiplier"],
        value["crash_jump_multiplier"],
        value["crash_depth_multiplier"],
        value["crash_oracle_delay_s"] / SECONDS_PER_YEAR,
    )


VOLATILITIES: dict[str, Callable[[Making], Volatility]] = {
    "constant": _constant,
    "log-ou": _log_ou,
    "log-ou-two-factor": _two_factor,
    "heston": _heston,
    "garch": _garch,
    "gjr-garch": _garch,
    "filtered-historical": _filtered_historical,
}
SIZES: dict[str, Callable[[Making], Sizes]] = {"kou": _kou, "merton": _merton}
ARRIVALS: dict[str, Callable[[Making], Arrival]] = {
    "constant": _independent,
    "volatility-linked": _volatility_linked,
    "self-exciting": _self_exciting,
}
