"""True values for market models: prices from characteristic functions and series, passage probabilities by Laplace transform.

All in double precision or better, from formulas alone; nothing here knows the engine. Options are on a price of 100; `maturity`
in years, rates and volatilities annual. maths: Heston (1993) in the form of Albrecher et al. (2007), inverted as in Lewis
(2001); Merton (1976); Kou (2002).
"""

import math
from collections.abc import Callable

import mpmath
import numpy as np
from scipy.integrate import quad
from scipy.special import ndtr

SPOT = 100.0
Characteristic = Callable[[complex], complex]


def call_price(characteristic: Characteristic, strike: float, maturity: float, rate: float = 0.0) -> float:
    """Call from the characteristic function of the log of the price over its forward (Lewis 2001, equation 3.11)."""
    forward = SPOT * math.exp(rate * maturity)
    moneyness = math.log(forward / strike)

    def integrand(u: float) -> float:
        return (np.exp(1j * u * moneyness) * characteristic(u - 0.5j)).real / (u * u + 0.25)

    integral = sum(quad(integrand, a, b, epsabs=1e-13, epsrel=1e-12, limit=400)[0] for a, b in ((0, 20), (20, 400)))
    return math.exp(-rate * maturity) * (forward - math.sqrt(forward * strike) / math.pi * integral)


def heston(
    u: complex, maturity: float, *, variance: float, speed: float, long_run: float, vol_of_variance: float, correlation: float
) -> complex:  # fmt: skip
    """E exp(i u log(S_T / F_T)) in Heston's model."""
    xi, kappa = vol_of_variance, speed
    b = kappa - correlation * xi * 1j * u
    d = np.sqrt(b * b + xi**2 * (1j * u + u * u))
    g = (b - d) / (b + d)
    decay = np.exp(-d * maturity)
    long = kappa * long_run / xi**2 * ((b - d) * maturity - 2 * np.log((1 - g * decay) / (1 - g)))
    return np.exp(long + variance / xi**2 * (b - d) * (1 - decay) / (1 - g * decay))


def merton_jumps(u: complex, maturity: float, *, rate: float, mean: float, sd: float) -> complex:
    """The factor that compensated Merton jumps contribute."""
    moment = np.exp(1j * u * mean - sd**2 * u * u / 2)
    drift = math.exp(mean + sd**2 / 2) - 1
    return np.exp(rate * maturity * (moment - 1 - 1j * u * drift))


def kou_jumps(u: complex, maturity: float, *, rate: float, up: float, up_mean: float, down_mean: float) -> complex:
    """The factor that compensated Kou jumps contribute."""
    moment = up / (1 - 1j * u * up_mean) + (1 - up) / (1 + 1j * u * down_mean)
    drift = up / (1 - up_mean) + (1 - up) / (1 + down_mean) - 1
    return np.exp(rate * maturity * (moment - 1 - 1j * u * drift))


def diffusion(u: complex, maturity: float, volatility: float) -> complex:
    return np.exp(-(volatility**2) * maturity / 2 * (1j * u + u * u))


def merton_put(
    strike: float, maturity: float, *, volatility: float, jumps_per_year: float, mean: float, sd: float,
    interest: float = 0.0, yielded: float = 0.0,
) -> float:  # fmt: skip
    """Merton's series: a lognormal price for each number of jumps."""
    drift = math.exp(mean + sd**2 / 2) - 1
    total = 0.0
    for n in range(120):
        variance = volatility**2 * maturity + n * sd**2
        growth = (interest - yielded - jumps_per_year * drift) * maturity + n * (mean + sd**2 / 2)
        forward, root = SPOT * math.exp(growth), math.sqrt(variance)
        d1 = (math.log(forward / strike) + variance / 2) / root
        put = strike * ndtr(root - d1) - forward * ndtr(-d1)
        total += (
            math.exp(-jumps_per_year * maturity + n * math.log(jumps_per_year * maturity) - math.lgamma(n + 1)) * put
        )
    return math.exp(-interest * maturity) * total


def two_regime_passage(
    distance: float, years: float, *, volatilities: tuple[float, float], to_crash: float, to_calm: float
) -> tuple[float, float]:
    """A geometric Brownian motion without drift, whose volatility switches, falls by `distance` (log) within `years`: from calm
    and from crash. The transform in time solves `s^2 (u'' - u') / 2 + Q u = alpha u` with the two roots that decay."""
    calm, crash = (mpmath.mpf(v) ** 2 / 2 for v in volatilities)
    a, b, x = mpmath.mpf(to_crash), mpmath.mpf(to_calm), mpmath.mpf(distance)

    def transform(alpha: mpmath.mpf, regime: int) -> mpmath.mpf:
        def calm_part(r: mpmath.mpf) -> mpmath.mpf:
            """With u = exp(-r x), x the log-distance to fall: drift -s^2/2 of the log-price shortens the distance."""
            return calm * (r * r + r) - a - alpha

        # (calm (r^2 + r) - a - alpha) (crash (r^2 + r) - b - alpha) = a b, a quadratic in r^2 + r.
        p, q = calm * crash, calm * (b + alpha) + crash * (a + alpha)
        c = (a + alpha) * (b + alpha) - a * b
        root = mpmath.sqrt(q * q - 4 * p * c)
        rates = [(mpmath.sqrt(1 + 4 * w) - 1) / 2 for w in ((q - root) / (2 * p), (q + root) / (2 * p))]
        # crash component for calm component 1: (calm_part) + a v = 0
        ratios = [-calm_part(r) / a for r in rates]
        # both components are 1 / alpha at the barrier
        first = (1 - ratios[1]) / (ratios[0] - ratios[1]) / alpha
        weights = [first, 1 / alpha - first]
        ends = [ratio if regime else mpmath.mpf(1) for ratio in ratios]
        return sum(w * e * mpmath.exp(-r * x) for w, e, r in zip(weights, ends, rates, strict=True))

    return tuple(
        float(mpmath.invertlaplace(lambda s, k=k: transform(s, k), years, method="talbot", degree=40)) for k in (0, 1)
    )


def heston_passage(
    distance: float, years: float, *, variance: float, speed: float, long_run: float, vol_of_variance: float
) -> float:
    """As above with Heston variance uncorrelated with the price: given the integral Q of variance the price is a Brownian motion
    on another clock. The density of Q by cosine expansion of its characteristic function (Cox, Ingersoll and Ross 1985)."""
    kappa, xi = speed, vol_of_variance
    top = 12 * long_run * years

    def of_integral(u: np.ndarray) -> np.ndarray:
        gamma = np.sqrt(kappa**2 - 2j * xi**2 * u)
        growth = np.exp(-gamma * years)
        below = (gamma + kappa) * (1 - growth) + 2 * gamma * growth
        power = 2 * kappa * long_run / xi**2
        return (2 * gamma * np.exp((kappa - gamma) * years / 2) / below) ** power * np.exp(
            2j * u * variance * (1 - growth) / below
        )

    terms = np.arange(4096)
    weights = 2 / top * of_integral(terms * np.pi / top).real
    weights[0] /= 2
    nodes, sizes = np.polynomial.legendre.leggauss(600)
    q = (nodes + 1) * top / 2
    density = np.cos(np.outer(q, terms) * np.pi / top) @ weights
    root = np.sqrt(q)
    passage = ndtr((-distance + q / 2) / root) + np.exp(distance) * ndtr((-distance - q / 2) / root)
    return float((density * passage) @ sizes * top / 2)


def gap_insolvency(
    cdf: Callable[[np.ndarray], np.ndarray], pdf: Callable[[np.ndarray], np.ndarray], steps: int, *, trigger: float, debt: float
) -> tuple[float, float]:  # fmt: skip
    """A random walk falls below `-trigger`, and below `-debt` in the step that does so; by quadrature over what is still above."""
    edges = np.concatenate([np.linspace(-trigger, 0.4, 161), np.linspace(0.4, 2.0, 41)[1:]])
    nodes, sizes = np.polynomial.legendre.leggauss(6)
    half = np.diff(edges)[:, None] / 2
    x, w = (((edges[1:] + edges[:-1]) / 2)[:, None] + half * nodes).ravel(), (half * sizes).ravel()
    move = pdf(x[None, :] - x[:, None]) * w
    liquidated, insolvent = cdf(-trigger - x), cdf(-debt - x)
    to_come = np.zeros((2, len(x)))
    for _ in range(steps - 1):
        to_come = np.stack([liquidated, insolvent]) + to_come @ move.T
    first = pdf(x) * w
    return float(cdf(-trigger) + to_come[0] @ first), float(cdf(-debt) + to_come[1] @ first)
