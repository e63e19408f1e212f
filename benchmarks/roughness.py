"""Would rough volatility earn its cost? Laws of log-volatility held against the spectrum of the logarithm of squared returns.

That logarithm is twice log-volatility plus white noise (Harvey, Ruiz and Shephard 1994), so its spectrum tells one law of
log-volatility from another. Each law is fitted to the bars before a date by Whittle's likelihood (1953) and scored by the same on
those after it. Rough volatility (Gatheral, Jaisson and Rosenbaum 2018) comes as its Markovian lift: factors whose rates are a
geometric sequence and whose weights follow the kernel `t^(H - 1/2)`, all driven by one Brownian motion (Abi Jaber and El Euch
2019).

    python benchmarks/roughness.py candles.parquet 2022-01-01
"""

import sys
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from calibrate.data.candles import Candles, read_candles, window_returns
from calibrate.market.comparison import before
from calibrate.market.fits.log_ou_kou import log_square
from calibrate.market.periods import time_ms

LIFTED = 8  # factors of the lift
FASTEST = 2.0  # rate of the fastest, a bar
OPTIONS = {"maxiter": 4000, "maxfev": 4000, "xatol": 1e-4, "fatol": 1e-8}
# Places to start from, in logarithms: sizes and rates a bar of factors; of the lift the size, the slowest rate and the logit of
# 2 H; and last the noise's variance.
STARTS = {
    "one factor": [[0.0, -4.0, 1.5], [0.0, -2.0, 1.5]],
    "two factors": [[-0.5, -5.0, -0.5, -1.5, 1.5], [-0.5, -4.0, -1.0, -0.5, 1.5]],
    "rough": [[0.0, -7.0, -2.0, 1.5], [0.0, -5.0, -1.0, 1.5]],
}


def spectrum(law: str, p: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Spectral density, up to a factor that is common to all, at each angle of a bar."""
    noise = np.exp(p[-1])
    if law == "rough":
        return np.exp(2 * p[0]) * _lift(_hurst(p), np.exp(p[1]), angle) + noise
    parts = [np.exp(p[k : k + 2]) for k in range(0, len(p) - 1, 2)]
    return sum(size**2 * _factor(np.exp(-rate), angle) for size, rate in parts) + noise


def _hurst(p: np.ndarray) -> float:
    """Between 0 and a half."""
    return float(0.5 / (1 + np.exp(-p[2])))


def _factor(kept: float, angle: np.ndarray) -> np.ndarray:
    """Of an Ornstein-Uhlenbeck process of variance 1, of which a bar keeps this share."""
    return (1 - kept**2) / (1 - 2 * kept * np.cos(angle) + kept**2)


def _lift(hurst: float, slowest: float, angle: np.ndarray) -> np.ndarray:
    """Of the lift, at variance 1."""
    edges = np.geomspace(slowest, FASTEST, LIFTED + 1)
    power = 0.5 - hurst
    weight, rate = np.diff(edges**power), np.sqrt(edges[1:] * edges[:-1])
    both = np.add.outer(rate, rate)
    moved = np.outer(weight, weight) * -np.expm1(-both) / both  # covariance of what a bar adds
    response = 1 / (1 - np.exp(-rate)[:, None] * np.exp(-1j * angle))
    density = np.einsum("ka,kj,ja->a", response, moved, response.conj()).real
    return density / (np.outer(weight, weight) / both).sum()


class Seen:
    """The periodogram of a stretch of bars; those without a return count as the mean."""

    def __init__(self, candles: Candles):
        squares = log_square(window_returns(candles, 1))
        rest = np.nan_to_num(squares - np.nanmean(squares))
        self.bars, half = len(rest), (len(rest) - 1) // 2
        self.power = np.abs(np.fft.rfft(rest)[1 : half + 1]) ** 2 / len(rest)
        self.angle = 2 * np.pi * np.arange(1, half + 1) / len(rest)

    def misfit(self, law: str, p: np.ndarray) -> np.ndarray:
        """Whittle's negative log-likelihood, angle by angle."""
        density = spectrum(law, p, self.angle)
        return np.log(density) + self.power / density


def main(path: Path, until: str) -> None:
    candles = read_candles(path, allow_gaps=True)
    train = before(candles, time_ms(until))
    seen, fresh = Seen(train), Seen(candles.part(train.bars - 1, candles.bars))
    best = {law: fitted(seen, law) for law in STARTS}
    print(f"{candles.source}: differences of log-likelihood, {seen.bars:,} bars fitted, {fresh.bars:,} fresh")
    for law, other in (("two factors", "one factor"), ("rough", "one factor"), ("rough", "two factors")):
        here, gain = (part.misfit(other, best[other]) - part.misfit(law, best[law]) for part in (seen, fresh))
        told = f"fitted {here.sum():+.1f}, fresh {gain.sum():+.1f} ± {gain.std() * np.sqrt(len(gain)):.1f}"
        print(f"  {law} over {other}: {told}")
    print(f"  Hurst exponent {_hurst(best['rough']):.2f}")


def fitted(seen: Seen, law: str) -> np.ndarray:
    ends = [
        minimize(lambda p: seen.misfit(law, p).sum() / seen.bars, start, method="Nelder-Mead", options=OPTIONS)
        for start in STARTS[law]
    ]
    return min(ends, key=lambda end: end.fun).x


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
