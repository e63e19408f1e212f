"""Truth without simulation: first passage, losses through latency, populations of accounts, and jump crossings.

Everything here is a closed form, a quadrature or a Laplace inversion, so the tests of the engine can be held against
numbers that share nothing with it. The market has constant volatility and no price impact; accounts are longs opened
at price 1 with collateral `c` per unit of notional, so the debt is `D = 1 - c` and the trigger price `B = D / (1 - m)`.
An account triggered is closed `latency_years` later, after the horizon if need be, at `S (1 - haircut)`.

    first passage     passage_probability (continuous), observed_passage_probability (at discrete observations)
    one account       loss, loss_by_margin, loss_by_volatility: P(liquidated), P(insolvent), E[bad debt]
    populations       over_bands, over_shifted_exponential: the mean of any of these over a distribution of c
    the optimum       margin_for: the margin at which a probability equals its target
    jumps             kou_passage_probability, jump_insolvency, jump_margin

Derivatives are closed forms when the trigger is continuous. At discrete observations they are the derivative of a
Chebyshev interpolant of degree 12 through values of the quadrature, good to about nine digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import mpmath
import numpy as np
from numpy.polynomial.chebyshev import Chebyshev
from scipy.optimize import brentq
from scipy.special import ndtr

NODES_PER_PANEL = 16
REACH = 10  # standard deviations after which a normal density no longer counts in double precision


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One margin rule in one market. Years, volatility per square-root year, everything else a fraction of 1.

    `observations` is the number of equally spaced looks of the oracle up to the horizon; None means continuous.
    With a delay of `d` observations, `latency_years` is `d * horizon_years / observations`.
    """

    margin: float
    volatility: float
    horizon_years: float
    latency_years: float
    observations: int | None = None
    haircut: float = 0.0
    drift: float = 0.0

    @property
    def log_drift(self) -> float:
        return self.drift - self.volatility**2 / 2


class Loss(NamedTuple):
    """P(liquidated), P(insolvent), E[bad debt] per unit of notional; one entry per account, or a mean over them."""

    liquidated: np.ndarray
    insolvent: np.ndarray
    bad_debt: np.ndarray


# First passage


def passage_probability(distance: np.ndarray, log_drift: float, volatility: float, years: float) -> np.ndarray:
    """A Brownian motion with drift falls by `distance` > 0 within `years`, by the reflection principle."""
    near, far, reflection = _reflection_terms(distance, log_drift, volatility, years)
    return ndtr(near) + reflection * ndtr(far)


def observed_passage_probability(
    distance: np.ndarray, log_drift: float, volatility: float, years: float, observations: int
) -> np.ndarray:
    """As `passage_probability`, seen only at equally spaced observations."""
    setting = Setting(
        margin=0.0,
        volatility=volatility,
        horizon_years=years,
        latency_years=0.0,
        observations=observations,
        drift=log_drift + volatility**2 / 2,
    )
    return _observed_loss(setting, np.atleast_1d(distance)).liquidated


def _reflection_terms(
    distance: np.ndarray, log_drift: float, volatility: float, years: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The arguments of the two normal terms of the reflection principle and the weight of the second."""
    spread = volatility * math.sqrt(years)
    near = (-distance - log_drift * years) / spread
    far = (-distance + log_drift * years) / spread
    return near, far, np.exp(-2 * log_drift * distance / volatility**2)


# One account


def loss(setting: Setting, collateral: np.ndarray) -> Loss:
    """The three losses of accounts with the given collateral ratios."""
    trigger, distance = _levels(setting, collateral)
    if setting.observations is not None:
        of_distance = _observed_loss(setting, distance)
        return of_distance._replace(bad_debt=trigger * of_distance.bad_debt)
    hit = passage_probability(distance, setting.log_drift, setting.volatility, setting.horizon_years)
    insolvent, deficit = _after_latency(setting, 0.0)
    return Loss(hit, hit * insolvent, hit * trigger * deficit)


def loss_by_margin(setting: Setting, collateral: np.ndarray) -> Loss:
    """Derivatives of `loss` in the margin."""
    if setting.observations is not None:
        return _interpolated_slope(setting, "margin", collateral)
    trigger, distance = _levels(setting, collateral)
    s, years, nu = setting.volatility, setting.horizon_years, setting.log_drift
    near, far, reflection = _reflection_terms(distance, nu, s, years)
    hit = ndtr(near) + reflection * ndtr(far)
    hit_by_distance = -2 * _density(near) / (s * math.sqrt(years)) - 2 * nu / s**2 * reflection * ndtr(far)
    hit_by_margin = -hit_by_distance / (1 - setting.margin)
    insolvent, deficit = _after_latency(setting, 0.0)
    d1, d2, q = _put_arguments(setting)
    insolvent_by_margin = -_density(d2) / ((1 - setting.margin) * q)
    # In money the deficit is a put struck at the debt, which the margin does not move; only the start at B moves.
    growth = math.exp(setting.drift * setting.latency_years)
    deficit_by_margin = -(1 - setting.haircut) * growth * ndtr(-d1) / (1 - setting.margin)
    return Loss(
        hit_by_margin,
        hit_by_margin * insolvent + hit * insolvent_by_margin,
        trigger * (hit_by_margin * deficit + hit * deficit_by_margin),
    )


def loss_by_volatility(setting: Setting, collateral: np.ndarray) -> Loss:
    """Derivatives of `loss` in the volatility, the drift of the price held fixed."""
    if setting.observations is not None:
        return _interpolated_slope(setting, "volatility", collateral)
    trigger, distance = _levels(setting, collateral)
    s, years = setting.volatility, setting.horizon_years
    near, far, reflection = _reflection_terms(distance, setting.log_drift, s, years)
    hit = ndtr(near) + reflection * ndtr(far)
    hit_by_volatility = 2 * distance * _density(near) / (s**2 * math.sqrt(years))
    hit_by_volatility = hit_by_volatility + 4 * setting.drift * distance / s**3 * reflection * ndtr(far)
    insolvent, deficit = _after_latency(setting, 0.0)
    d1, d2, q = _put_arguments(setting)
    insolvent_by_volatility = _density(d2) * d1 / s
    deficit_by_volatility = (1 - setting.margin) * _density(d2) * q / s
    return Loss(
        hit_by_volatility,
        hit_by_volatility * insolvent + hit * insolvent_by_volatility,
        trigger * (hit_by_volatility * deficit + hit * deficit_by_volatility),
    )


def _levels(setting: Setting, collateral: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Trigger price and log-distance to it."""
    collateral = np.atleast_1d(np.asarray(collateral, dtype=float))
    if np.any(collateral <= setting.margin) or np.any(collateral >= 1):
        raise ValueError(f"collateral must lie between the margin {setting.margin} and 1; found {collateral}")
    return (1 - collateral) / (1 - setting.margin), np.log1p(-setting.margin) - np.log1p(-collateral)


def _put_arguments(setting: Setting) -> tuple[float, float, float]:
    """d1, d2 and the standard deviation over the latency, for a start at the trigger price."""
    q = setting.volatility * math.sqrt(setting.latency_years)
    to_debt = math.log((1 - setting.haircut) / (1 - setting.margin))
    d2 = (to_debt + setting.log_drift * setting.latency_years) / q
    return d2 + q, d2, q


def _after_latency(setting: Setting, beyond: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P(insolvent) and E[deficit] in units of B, of an account seen at log-price `beyond` relative to B.

    Insolvency means that the closing price is below the debt, `(1 - haircut) S < D`, after the latency.
    """
    to_debt = np.log((1 - setting.haircut) / (1 - setting.margin)) + beyond
    price = (1 - setting.haircut) * np.exp(beyond + setting.drift * setting.latency_years)
    if setting.latency_years == 0:
        insolvent = np.where(to_debt < 0, 1.0, 0.0)
        return insolvent, insolvent * (1 - setting.margin - price)
    q = setting.volatility * math.sqrt(setting.latency_years)
    d2 = (to_debt + setting.log_drift * setting.latency_years) / q
    return ndtr(-d2), (1 - setting.margin) * ndtr(-d2) - price * ndtr(-d2 - q)


def _density(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.square(x) / 2) / math.sqrt(2 * math.pi)


# Discrete observations: the transfer-operator recursion


def _observed_loss(setting: Setting, distance: np.ndarray) -> Loss:
    """Losses by log-distance to the trigger, bad debt in units of the trigger price.

    Backwards from the last observation: the loss still to come at a distance is what the next observation triggers
    at once plus what survives it and is triggered later. Distances above the last panel have no chance left.
    """
    step = setting.horizon_years / setting.observations
    width = setting.volatility * math.sqrt(step)
    panels = REACH * (math.ceil(math.sqrt(setting.observations)) + 1)
    alive, alive_weights = _composite_nodes(width * np.arange(panels + 1))
    # Without latency the deficit starts at the debt, and a panel must not straddle its edge.
    edge = min(math.log((1 - setting.margin) / (1 - setting.haircut)), 0.0)
    fallen, fallen_weights = _composite_nodes(np.unique(np.append(width * np.arange(-REACH, 1), edge)))

    def move(start: np.ndarray, end: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return _density((end - start[:, None] - setting.log_drift * step) / width) / width * weights

    def triggered(start: np.ndarray) -> np.ndarray:
        at_once = ndtr((-start - setting.log_drift * step) / width)
        return np.column_stack([at_once, move(start, fallen, fallen_weights) @ payoff])

    payoff = np.column_stack(_after_latency(setting, fallen))
    first = alive[:NODES_PER_PANEL]
    near, near_weights = _composite_nodes(width * np.arange(-REACH, REACH + 2))
    triggered_next, from_panel = triggered(alive), move(first, near, near_weights)
    to_come = np.zeros_like(triggered_next)
    for _ in range(setting.observations - 1):
        to_come = triggered_next + _survive(from_panel, to_come)
    return Loss(*(triggered(distance) + move(distance, alive, alive_weights) @ to_come).T)


def _survive(from_panel: np.ndarray, to_come: np.ndarray) -> np.ndarray:
    """Expectation of `to_come` after one move, without those that fell; the move looks alike from every panel."""
    margin = np.zeros((REACH * NODES_PER_PANEL, to_come.shape[1]))
    padded = np.concatenate([margin, to_come, margin])
    windows = np.lib.stride_tricks.sliding_window_view(padded, from_panel.shape[1], axis=0)[::NODES_PER_PANEL]
    return np.swapaxes(windows @ from_panel.T, 1, 2).reshape(to_come.shape)


def _composite_nodes(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights on every panel between neighbouring edges."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES_PER_PANEL)
    middle, half = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / 2
    return (middle[:, None] + half[:, None] * nodes).ravel(), (half[:, None] * weights).ravel()


def _interpolated_slope(setting: Setting, field: str, collateral: np.ndarray) -> Loss:
    """Derivative of `loss` in a field of the setting, by a Chebyshev interpolant over 10 % to either side."""
    centre = getattr(setting, field)
    domain = [0.9 * centre, 1.1 * centre]
    count = np.size(collateral)

    def losses(points: np.ndarray) -> np.ndarray:
        return np.array([np.concatenate(loss(replace(setting, **{field: x}), collateral)) for x in points])

    points = np.mean(domain) + np.ptp(domain) / 2 * np.polynomial.chebyshev.chebpts1(13)
    values = losses(points)
    slopes = [Chebyshev.fit(points, column, deg=12, domain=domain).deriv()(centre) for column in values.T]
    return Loss(*np.reshape(slopes, (3, count)))


# Populations and the optimum


def over_bands(losses: Callable[[np.ndarray], Loss], bands: list[tuple[float, float, float]]) -> Loss:
    """Sum over bands (low, high, share) in which collateral is spread evenly; shares need not sum to 1.

    `losses` is any function of the collateral ratios, such as `functools.partial(loss_by_margin, setting)`.
    """
    total = np.zeros(3)
    for low, high, share in bands:
        nodes, weights = _composite_nodes(_panel_edges(low, high))
        total += share / (high - low) * (np.array(losses(nodes)) @ weights)
    return Loss(*total)


def over_shifted_exponential(losses: Callable[[np.ndarray], Loss], low: float, mean: float) -> Loss:
    """Mean over collateral `low` plus an exponential; accounts with c >= 1 have no debt and lose nothing."""
    nodes, weights = _composite_nodes(_panel_edges(low, 1.0))
    return Loss(*(np.array(losses(nodes)) @ (weights * np.exp(-(nodes - low) / mean) / mean)))


def _panel_edges(low: float, high: float) -> np.ndarray:
    """Panels of about a hundredth: narrow against the daily move, which sets how fast losses fall with collateral."""
    return np.linspace(low, high, 1 + math.ceil((high - low) / 0.01))


def margin_for(target: float, probability: Callable[[float], float], low: float, high: float) -> float:
    """The margin between `low` and `high` at which a falling probability of the margin equals `target`.

    Solved for the logarithm, in which insolvency is nearly a straight line.
    """
    return brentq(lambda m: math.log(probability(m) / target), low, high, xtol=1e-14, rtol=1e-13)


# Jumps


def kou_passage_probability(
    barrier: float,
    years: float,
    *,
    log_drift: float,
    volatility: float,
    jumps_per_year: float,
    up_probability: float,
    up_rate: float,
    down_rate: float,
) -> float:
    """A double-exponential jump diffusion rises to `barrier` within `years` (Kou and Wang 2003, theorem 3.1).

    Jump sizes have means 1 / up_rate and 1 / down_rate. Inverted by Gaver-Stehfest, which needs the transform at real
    arguments only, where the two positive roots lie on either side of `up_rate`.
    """
    mu, s, lam, p = map(mpmath.mpf, (log_drift, volatility, jumps_per_year, up_probability))
    e1, e2, b = map(mpmath.mpf, (up_rate, down_rate, barrier))

    def transform(alpha: mpmath.mpf) -> mpmath.mpf:
        def without_poles(x: mpmath.mpf) -> mpmath.mpf:
            """G(x) - alpha, multiplied by (e1 - x) (e2 + x): negative at 0, positive at e1, negative far out."""
            diffusion = mu * x + s**2 * x**2 / 2 - lam - alpha
            return diffusion * (e1 - x) * (e2 + x) + lam * (p * e1 * (e2 + x) + (1 - p) * e2 * (e1 - x))

        far = 2 * e1
        while without_poles(far) >= 0:
            far *= 2
        b1 = mpmath.findroot(without_poles, (0, e1), solver="anderson", verify=False)
        b2 = mpmath.findroot(without_poles, (e1, far), solver="anderson", verify=False)
        low = (e1 - b1) / e1 * b2 / (b2 - b1) * mpmath.exp(-b * b1)
        high = (b2 - e1) / e1 * b1 / (b2 - b1) * mpmath.exp(-b * b2)
        return (low + high) / alpha

    return float(mpmath.invertlaplace(transform, years, method="stehfest", degree=64))


def jump_insolvency(jump_crossing: float, margin: float, rate: float) -> float:
    """P(insolvent) without latency, if the trigger is crossed by a jump of mean 1 / rate with the given probability.

    The overshoot of a jump crossing is exponential with the rate of the jumps, so it exceeds `-log(1 - margin)`, the
    log-distance from the trigger to the debt, with probability `(1 - margin) ** rate`.
    """
    return jump_crossing * (1 - margin) ** rate


def jump_margin(jump_crossing: float, target: float, rate: float) -> float:
    """The margin at which `jump_insolvency` equals `target`."""
    return 1 - (target / jump_crossing) ** (1 / rate)
