"""Fits a book of cohorts to a table of positions or borrowers: how far accounts are from liquidation.

Collateral is measured against each account's own maintenance requirement: `excess = collateral / requirement - 1`, which is
what the price can take away before liquidation, in requirements. Each side becomes a cohort whose excess is a mixture of
lognormals, weighted by notional and found by expectation and maximisation (Dempster, Laird and Rubin 1977); the number of parts
is that of the lowest Bayesian information criterion, with the number of accounts that would tell as much if all were of one
size (Kish 1965). Standard errors come from resampling accounts.
"""

from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtr

from calibrate.data.borrowers import Holdings
from calibrate.errors import UserError
from calibrate.fits.blocks import bootstrap, standard_errors
from calibrate.fits.result import Figure, Goodness, WorldFit, rounded

SIDES = {1: "long", -1: "short"}
MOST_PARTS = 3
STEPS, SETTLED = 400, 1e-4
NARROWEST = 0.05  # spread of a part, in logarithms: narrower ones are single accounts
CELL = 0.02  # of log-excess
FEWEST_ACCOUNTS = 30
FALLS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)  # adverse moves at which table and mixture are compared


class Mixture(NamedTuple):
    """Parts of a mixture of lognormals, by rising median: weights, means and standard deviations of the logarithm."""

    weight: np.ndarray
    mean: np.ndarray
    spread: np.ndarray

    def below(self, log_excess: np.ndarray) -> np.ndarray:
        """Share with less excess than this."""
        return ndtr((log_excess[:, None] - self.mean) / self.spread) @ self.weight

    def flat(self) -> np.ndarray:
        return np.concatenate([self.weight, np.exp(self.mean), self.spread])


class Accounts(NamedTuple):
    """The accounts of one side: log-excess, share of the side's notional, and requirement."""

    log_excess: np.ndarray
    weight: np.ndarray
    maintenance: np.ndarray

    @property
    def equal_number(self) -> float:
        return float(1 / np.sum(self.weight**2))


def fit_book(holdings: Holdings, *, seed: int = 0, parts: int | None = None) -> WorldFit:
    """Fit a book to accounts; `parts` fixes the number of lognormals a side."""
    excess = holdings.collateral / holdings.maintenance - 1
    sound = excess > 0
    total, gone = holdings.notional_usd[sound].sum(), holdings.notional_usd[~sound].sum()
    cohorts, figures, goodness, curves = [], [], [], {}
    rng = np.random.default_rng([seed, 13])
    for sign, side in SIDES.items():
        chosen = sound & (holdings.side == sign)
        if not chosen.any():
            continue
        notional = holdings.notional_usd[chosen]
        accounts = Accounts(np.log(excess[chosen]), notional / notional.sum(), holdings.maintenance[chosen])
        if len(notional) < FEWEST_ACCOUNTS:
            raise UserError(
                f"{holdings.source} holds {len(notional)} {side} accounts above their requirement; expected at least "
                f"{FEWEST_ACCOUNTS} to fit a distribution to. Give the table itself as `book.positions`."
            )
        mixture, resampled = _fit_side(accounts, parts, rng)
        share = float(notional.sum() / total)
        cohorts.append(_cohort(side, share, mixture, resampled))
        figures += _figures(side, share, accounts, mixture, resampled)
        goodness += _goodness(side, accounts, mixture)
        curves[side] = _steps(accounts, mixture, resampled)
    if not cohorts:
        raise UserError(f"{holdings.source} holds no account above its maintenance requirement; nothing can be fitted")
    notes = list(holdings.notes)
    if gone > 0:
        found = f"{int((~sound).sum())} accounts with {gone / (total + gone):.2g} of notional are below their requirement already"
        notes.append(f"{found} and are left out")
    rates = np.unique(holdings.maintenance)
    if len(rates) > 1:
        notes.append(
            f"requirements differ between accounts ({rates[0]:.3g} to {rates[-1]:.3g}); each is measured by its own"
        )
    return WorldFit(
        section="book",
        title=f"book of {int(sound.sum()):,} accounts",
        table={
            "open_interest_usd": float(f"{total:.6g}"),
            "position_usd": float(f"{holdings.notional_usd[sound].mean():.4g}"),
            "cohorts": cohorts,
        },
        figures=[
            Figure("open_interest_usd", float(total), None, "sum of notional (of collateral, for borrowers)"),
            Figure("position_usd", float(holdings.notional_usd[sound].mean()), None, "mean notional of an account"),
            *figures,
        ],
        errors_from="bootstrap of accounts, with the number of parts held",
        goodness=goodness,
        origin={
            "source": holdings.source,
            "sha256": holdings.sha256,
            "accounts": int(sound.sum()),
            "seed": seed,
            "calibrate_version": version("calibrate"),
        },
        notes=tuple(notes),
        curves=curves,
    )


def _fit_side(accounts: Accounts, parts: int | None, rng: np.random.Generator) -> tuple[Mixture, np.ndarray]:
    """The mixture, and its flattened parameters on resampled accounts."""
    cells = _Cells.of(accounts.log_excess)
    weight = cells.share(accounts.weight)
    tries = [_mixture(cells.centre, weight, k) for k in ([parts] if parts else range(1, MOST_PARTS + 1))]
    mixture = min(tries, key=lambda m: _criterion(accounts, m))
    blocks = list(np.arange(len(accounts.weight))[:, None])
    again = lambda rows: _improved(mixture, cells.centre, cells.share(accounts.weight[rows], rows)).flat()  # noqa: E731
    return mixture, bootstrap(again, blocks, rng)


class _Cells(NamedTuple):
    """Narrow cells of log-excess, so that the time a fit takes does not grow with the number of accounts. They are narrower than
    any part may be."""

    centre: np.ndarray
    of_account: np.ndarray

    @classmethod
    def of(cls, log_excess: np.ndarray) -> "_Cells":
        low = log_excess.min()
        cell = ((log_excess - low) / CELL).astype(int)
        return cls(low + CELL * (np.arange(cell.max() + 1) + 0.5), cell)

    def share(self, weight: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """The weight in each cell; all add up to one."""
        return np.bincount(self.of_account[rows], weight / weight.sum(), minlength=len(self.centre))


def _criterion(accounts: Accounts, mixture: Mixture) -> float:
    parameters = 3 * len(mixture.weight) - 1
    fit = np.sum(accounts.weight * np.log(_densities(mixture, accounts.log_excess).sum(axis=1)))
    return float(parameters * np.log(accounts.equal_number) - 2 * accounts.equal_number * fit)


def _mixture(x: np.ndarray, weight: np.ndarray, parts: int) -> Mixture:
    """A mixture from parts that start at equal shares of the notional."""
    order = np.argsort(x)
    middle = (np.arange(parts) + 0.5) / parts
    mean = np.interp(middle, np.cumsum(weight[order]) - weight[order] / 2, x[order])
    spread = np.sqrt(np.sum(weight * (x - np.sum(weight * x)) ** 2)) / parts
    return _improved(Mixture(np.full(parts, 1 / parts), mean, np.full(parts, max(spread, NARROWEST))), x, weight)


def _improved(mixture: Mixture, x: np.ndarray, weight: np.ndarray) -> Mixture:
    """Expectation and maximisation until nothing moves."""
    for _ in range(STEPS):
        density = _densities(mixture, x)
        belongs = weight[:, None] * density / np.maximum(density.sum(axis=1, keepdims=True), 1e-300)
        share = np.maximum(belongs.sum(axis=0), 1e-12)
        mean = (belongs * x[:, None]).sum(axis=0) / share
        spread = np.sqrt((belongs * (x[:, None] - mean) ** 2).sum(axis=0) / share)
        before, mixture = mixture, Mixture(share / share.sum(), mean, np.maximum(spread, NARROWEST))
        if np.abs(mixture.flat() - before.flat()).max() < SETTLED:
            break
    order = np.argsort(mixture.mean)
    return Mixture(*(values[order] for values in mixture))


def _densities(mixture: Mixture, x: np.ndarray) -> np.ndarray:
    """Weighted density of each part at each account."""
    z = (x[:, None] - mixture.mean) / mixture.spread
    return mixture.weight * np.exp(-(z**2) / 2) / (mixture.spread * np.sqrt(2 * np.pi)) + 1e-300


def _cohort(side: str, share: float, mixture: Mixture, resampled: np.ndarray) -> dict[str, Any]:
    errors = standard_errors(resampled).reshape(3, -1)
    parts = [
        {"weight": rounded(w, e[0]), "median_excess": rounded(m, e[1]), "spread": rounded(s, e[2])}
        for w, m, s, e in zip(mixture.weight, np.exp(mixture.mean), mixture.spread, errors.T, strict=True)
    ]
    return {"side": side, "share": float(f"{share:.6g}"), "requirement": "maintenance", "mixture": parts}


def _figures(side: str, share: float, accounts: Accounts, mixture: Mixture, resampled: np.ndarray) -> list[Figure]:
    errors = standard_errors(resampled).reshape(3, -1)
    values = mixture.flat().reshape(3, -1)
    names = ("weight", "median_excess", "spread")
    meanings = ("share of the side's notional", "median of collateral / requirement - 1", "its spread, in logarithms")
    # The weight of a single part is 1 by definition.
    parts = [
        Figure(f"{side}_{name}_{k + 1}", float(values[i, k]), float(errors[i, k]), meanings[i])
        for k in range(len(mixture.weight))
        for i, name in enumerate(names)
        if name != "weight" or len(mixture.weight) > 1
    ]
    equal = Figure(
        f"{side}_accounts_of_one_size", accounts.equal_number, None, "that would tell as much as this side's"
    )
    return [Figure(f"{side}_share", share, None, "of open interest"), equal, *parts]


def _goodness(side: str, accounts: Accounts, mixture: Mixture) -> list[Goodness]:
    """How far the distribution functions are apart, and what each says is liquidated by an adverse move.

    A long of excess `e` is liquidated by a fall `x` where `m (1 + e) - x < m (1 - x)`, that is below `e = x (1 - m) / m`; a short
    by a rise where `e` is below `x (1 + m) / m`.
    """
    order = np.argsort(accounts.log_excess)
    x, share = accounts.log_excess[order], np.cumsum(accounts.weight[order])
    made = mixture.below(x)
    distance = float(max(np.abs(share - made).max(), np.abs(share - accounts.weight[order] - made).max()))
    rows = [Goodness(f"{side}, Kolmogorov-Smirnov distance", None, distance)]
    sign = 1 if side == "long" else -1
    for fall in FALLS:
        strike = np.log(fall * (1 - sign * accounts.maintenance) / accounts.maintenance)
        data = float(accounts.weight[accounts.log_excess < strike].sum())
        model = float(np.sum(accounts.weight * mixture.below(strike)))
        rows.append(Goodness(f"{side}, liquidated by {100 * fall:g} % (%)", 100 * data, 100 * model))
    return rows


def _steps(accounts: Accounts, mixture: Mixture, resampled: np.ndarray) -> dict[str, np.ndarray]:
    """Both distribution functions of the excess on one grid, the mixture's with its 95 % band."""
    order = np.argsort(accounts.log_excess)
    x, share = accounts.log_excess[order], np.cumsum(accounts.weight[order])
    grid = np.linspace(max(x[0], np.log(1e-4)), np.interp(0.995, share, x), 240)
    parts = resampled.reshape(len(resampled), 3, -1)
    curves = np.array([Mixture(w, np.log(m), s).below(grid) for w, m, s in parts])
    low, high = np.quantile(curves, [0.025, 0.975], axis=0)
    recorded = np.interp(np.searchsorted(x, grid, side="right"), np.arange(len(x) + 1), np.concatenate([[0.0], share]))
    return {"excess": np.exp(grid), "recorded": recorded, "made": mixture.below(grid), "low": low, "high": high}
