"""Finding where losses are, so that paths can be drawn from there: the cross-entropy method.

Paths are drawn from a first guess; those that come nearest to insolvency say how shocks differ on the way there, and the guess is
moved to what they say, weighted, so that it approaches the law of shocks given the event (Rubinstein and Kroese, "The
Cross-Entropy Method", 2004). Events that are too rare to be seen at first are approached through less rare ones, the worst tenth
of a round's paths. Policies that are not yet at their limit can still teach: what is asked for is then the event that is as rare
under them as the limit allows, since paths rank much alike under all policies.

Whether it helps is measured, not believed: on further paths, against plain sampling of the same event.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from calibrate.constraints import Constraint
from calibrate.likelier_crashes import LikelierCrashes
from calibrate.policy import Parameters
from calibrate.progress import Listener
from calibrate.sampling import Components, Drawn, ImportanceSampling, LargeJumps, block_of, log_densities
from calibrate.shocks import derived_seed
from calibrate.simulate import Scenario, simulate

# The share of paths that are drawn from the market's own law, whatever else is learned.
DEFENSIVE_SHARE = 0.2
PILOT_PATHS, _ROUNDS = 8192, 8
# A round learns from the paths that matter to the limits where there are so many of them, else from the worst of its paths; what
# was learned twice from those that matter is final.
_ENOUGH, _ELITE, _SETTLED = 0.02, 0.1, 2
# No component is left without this much of what is learned, spread evenly.
_SPREAD = 0.1
# A burst lasts a twentieth of the horizon.
_BURSTS = 20
# Plain sampling will do where the relative variance of a path is at most this, or no more than this factor above the other's.
_EASY, _WORTHWHILE = 50.0, 3.0


class Family(NamedTuple):
    """Components that differ in when their burst starts. Shifts are per step, in standard deviations; shares are relative. Whether
    upward or downward jumps and crashes are likelier comes last."""

    start: float
    before_return: float
    burst_return: float
    before_volatility: float
    burst_volatility: float
    firsts: np.ndarray
    shares: np.ndarray
    up: bool = False
    down: bool = False
    crashes: bool = False


class Guess(NamedTuple):
    """What has been learned so far; of crashes, in a market of two regimes."""

    families: tuple[Family, ...]
    up: LargeJumps
    down: LargeJumps
    length: int
    crashes: LikelierCrashes | None = None


def first_guess(blocks: int, steps: int, *, jumps: bool, regimes: bool = False) -> Guess:
    """Prices that fall, prices that rise, and jumps down and up; where there are regimes, each in the market's own and in likelier
    crashes."""
    length = max(1, round(blocks / _BURSTS))
    slow, fast = 1.5 / np.sqrt(steps), 1.5 / np.sqrt(length * steps / blocks)
    firsts = np.arange(0, blocks + 1, max(1, length // 2))
    even = np.full(len(firsts), 1 / len(firsts))
    share = 1 / (4 if jumps else 2)
    families = [
        Family(0.5, sign * slow, sign * fast, -sign * slow / 3, -sign * fast / 3, firsts, share * even)
        for sign in (-1, 1)
    ]
    if jumps:
        whole, half = np.array([blocks]), np.array([share / 2])
        families += [
            Family(start, sign * drift, 0.0, -sign * drift / 3, 0.0, whole, half, down=sign < 0, up=sign > 0)
            for sign in (-1, 1)
            for start, drift in ((0.0, 0.0), (1.5, slow))
        ]
    large = LargeJumps(0.5 / steps, 5.0, 3.0, 3.0)
    if not regimes:
        return Guess(tuple(families), large, large, length)
    families += [family._replace(crashes=True) for family in families]
    return Guess(tuple(families), large, large, length, LikelierCrashes(0.3, 0.7 / steps))


def sampling_of(guess: Guess, dtype: np.dtype) -> ImportanceSampling:
    """The mixture, the market's own law first."""
    rows = [(DEFENSIVE_SHARE, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, 0.0, 0.0, 0.0)]
    rest = (1 - DEFENSIVE_SHARE) / sum(family.shares.sum() for family in guess.families)
    for family in guess.families:
        rows += [
            (rest * share, *family[:5], first, guess.length, *(float(likelier) for likelier in family[7:]))
            for first, share in zip(family.firsts, family.shares, strict=True)
        ]
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    whole = {6, 7}
    with jax.enable_x64(dtype == np.float64):
        made = [jnp.asarray(c, jnp.int32 if k in whole else dtype) for k, c in enumerate(columns)]
        up, down = (LargeJumps(*(jnp.asarray(x, dtype) for x in law)) for law in (guess.up, guess.down))
        if guess.crashes is None:
            return ImportanceSampling(Components(*made[:-1]), up, down)
        crashes = LikelierCrashes(*(jnp.asarray(x, dtype) for x in guess.crashes))
        return ImportanceSampling(Components(*made), up, down, crashes)


def learned(guess: Guess, sampling: ImportanceSampling, drawn: Drawn, weight: np.ndarray, block: int) -> Guess:
    """The guess moved to what weighted paths say."""
    every = weight > 0
    # Of all paths, since another number of them would be another program.
    with jax.enable_x64(True):
        double = jax.tree.map(lambda a: np.asarray(a, np.float64), drawn)
        logs = np.asarray(_log_densities(sampling, double, block))[:, every]
    some = jax.tree.map(lambda a: a[..., every], double)
    belongs = np.exp(logs - logs.max(axis=0))
    belongs *= weight[every] / belongs.sum(axis=0)
    sums = [
        np.concatenate([0 * by_block[:1], np.cumsum(by_block, axis=0)])
        for by_block in (some.returns, some.volatilities)
    ]
    of_family = np.split(belongs[1:], np.cumsum([len(family.firsts) for family in guess.families])[:-1])
    families = [
        _family(family, mine, some, sums, block, guess.length)
        for family, mine in zip(guess.families, of_family, strict=True)
    ]
    total = sum(family.shares.sum() for family in families)
    spread = [
        family._replace(shares=(1 - _SPREAD) * family.shares / total + _SPREAD / len(families) / len(family.shares))
        for family in families
    ]

    def of_those(chosen: list[bool]) -> np.ndarray:
        mine = [part.sum(axis=0) for part, one_of_them in zip(of_family, chosen, strict=True) if one_of_them]
        return np.sum(mine, axis=0) if mine else np.zeros(belongs.shape[1])

    steps = block * (len(sums[0]) - 1)
    up = _large(guess.up, of_those([family.up for family in families]), some.largest_jump, steps)
    down = _large(guess.down, of_those([family.down for family in families]), -some.largest_jump, steps)
    crashes = _crashes(guess.crashes, of_those([family.crashes for family in families]), some, steps)
    return rounded(Guess(tuple(spread), up, down, guess.length, crashes))


_log_densities = eqx.filter_jit(log_densities)


def rounded(guess: Guess) -> Guess:
    """Two digits are as many as can be learned; and so another processor, which rounds otherwise, learns the same."""
    families = tuple(
        Family(*(float(f"{shift:.2g}") for shift in family[:5]), family.firsts, np.round(family.shares, 3), *family[7:])  # type: ignore[call-arg,arg-type]
        for family in guess.families
    )  # fmt: skip
    up, down = (LargeJumps(*(float(f"{x:.2g}") for x in law)) for law in (guess.up, guess.down))
    crashes = None if guess.crashes is None else LikelierCrashes(*(float(f"{x:.2g}") for x in guess.crashes))
    return Guess(families, up, down, guess.length, crashes)


def _family(
    family: Family, belongs: np.ndarray, drawn: Drawn, sums: list[np.ndarray], block: int, length: int
) -> Family:
    """Means of the normals before and in the bursts, over the paths that belong to the family."""
    shares = belongs.sum(axis=1)
    if shares.sum() <= 0:
        return family._replace(shares=shares)
    blocks = len(sums[0]) - 1
    first, end = family.firsts, np.minimum(family.firsts + length, blocks)
    steps_before, steps_in = block * shares @ first, block * shares @ (end - first)
    means = []
    for total in sums:
        before = (belongs * total[first]).sum() / steps_before if steps_before > 0 else 0.0
        burst = (belongs * (total[end] - total[first])).sum() / steps_in if steps_in > 0 else 0.0
        means.append((before, burst))
    (before_return, burst_return), (before_volatility, burst_volatility) = means
    start = float((belongs @ drawn.start).sum() / shares.sum())
    return Family(start, before_return, burst_return, before_volatility, burst_volatility, first, shares, *family[7:])


def _large(law: LargeJumps, belongs: np.ndarray, largest: np.ndarray, steps: int) -> LargeJumps:
    """One large jump a path, sized as the largest jumps, in this direction, of the paths that belong here."""
    size, mine = largest[largest > 0], belongs[largest > 0]
    if mine.sum() <= 0:
        return law._replace(probability=0.1 / steps)
    mean, order = float(mine @ size / mine.sum()), np.argsort(size)
    least = float(size[order][np.searchsorted(np.cumsum(mine[order]), 0.05 * mine.sum())]) - 1
    share = float(np.clip(mine.sum() / belongs.sum(), 0.1, 0.9))
    return LargeJumps(share / steps, max(mean, 1.5), max(least, 0.0), max(mean - least, 1.0))


def _crashes(law: LikelierCrashes | None, belongs: np.ndarray, drawn: Drawn, steps: int) -> LikelierCrashes | None:
    """Crashes as often at the start, and as often in a calm step, as on the paths that belong here."""
    calm_steps = 0.0 if drawn.calm_steps is None else float(belongs @ drawn.calm_steps)
    if law is None or calm_steps <= 0:
        return law
    at_start, each_step = belongs @ drawn.began_in_crash / belongs.sum(), belongs @ drawn.crashes / calm_steps
    return LikelierCrashes(float(np.clip(at_start, 0.05, 0.9)), float(np.clip(each_step, 0.1 / steps, 10 / steps)))


class Chosen(NamedTuple):
    """How paths are to be drawn. `relative_variance` is, for each limit, the variance of one path's term over the square of
    their mean, infinite where no path had any; `gain` by which factor the largest of those that are known is below that of plain
    sampling."""

    sampling: ImportanceSampling | None
    guess: Guess | None
    relative_variance: np.ndarray
    gain: float


def may_be_weighted(constraints: tuple[Constraint, ...], kind: str) -> bool:
    """Whether it is worth learning where losses are: not for limits that plain paths see well."""
    rarest = max(constraint.relative_variance for constraint in constraints)
    return kind == "importance" or (kind == "auto" and rarest > _EASY)


def choose(
    scenario: Scenario,
    parameters: Parameters,
    constraints: tuple[Constraint, ...],
    *,
    kind: str,
    at_limit: bool,
    seed: int,
    listener: Listener,
    start: Guess | None = None,
) -> Chosen:
    """Learn where losses are and whether it helps to know. `kind` is "auto", "plain" or "importance"; a market that normals do
    not drive is sampled plainly in any case. What is learned suits the policy at hand or, `at_limit`, policies at the limits
    whose paths rank as they do under this one. `start` is what was learned nearby."""
    bounds = np.array([constraint.relative_variance for constraint in constraints])
    if not may_be_weighted(constraints, kind):
        return Chosen(None, None, bounds, 1.0)
    if not scenario.market.volatility.driven_by_normals:
        listener.note("paths are sampled plainly: the market draws from a history, which no shift of normals changes")
        return Chosen(None, None, bounds, 1.0)
    block = block_of(scenario.steps)
    parts = {"jumps": has_jumps(scenario), "regimes": scenario.market.regimes is not None}
    guess = start or first_guess(scenario.steps // block, scenario.steps, **parts)
    done = listener.stage("learning where losses are", _ROUNDS * PILOT_PATHS)

    def pilot(number: int) -> Pilot:
        sampling = sampling_of(guess, scenario.dtype)
        fields = tuple(sorted({"distance", *(field for constraint in constraints for field in constraint.fields)}))
        sample = simulate(
            scenario,
            parameters,
            seed=derived_seed(seed, "pilot", number),
            paths=PILOT_PATHS,
            fields=fields,
            sampling=sampling,
            keep_drawn=True,
            on_progress=done,
        )
        assert sample.weights is not None
        assert sample.drawn is not None
        terms = [c.terms(c.contribution(sample.values), sample.weights, at_limit=at_limit) for c in constraints]
        return Pilot(sampling, sample.weights, sample.drawn, sample.values["distance"], terms)

    # What was learned nearby has to be learned only once more.
    found, number, settled = pilot(0), 1, 0 if start is None else 1
    while settled < _SETTLED and number < _ROUNDS:
        matters, enough = _importance(found)
        guess = learned(guess, found.sampling, found.drawn, found.weights * matters, block)
        settled += enough
        found, number = pilot(number), number + 1
    done((_ROUNDS - number) * PILOT_PATHS)
    weighted, plain = _relative_variances(found, 2), _relative_variances(found, 1)
    # Of a limit whose loss no pilot met, nothing is known that would help.
    met = np.isfinite(plain)
    hardest = int(np.argmax(np.where(met, plain, -1.0)))
    gain = float(plain[hardest] / weighted[hardest]) if met.any() else 1.0
    if kind == "auto" and gain < _WORTHWHILE:
        return Chosen(None, None, np.minimum(plain, bounds), 1.0)
    return Chosen(found.sampling, guess, weighted, gain)


class Pilot(NamedTuple):
    """Paths to learn from: how they were drawn, their weights and distances, and what each contributes to each limit."""

    sampling: ImportanceSampling
    weights: np.ndarray
    drawn: Drawn
    distance: np.ndarray
    terms: list[np.ndarray]


def has_jumps(scenario: Scenario) -> bool:
    return scenario.market.jumps is not None


def _importance(pilot: Pilot) -> tuple[np.ndarray, bool]:
    """How much each path matters to the limits, all of which matter alike, and whether enough paths were seen that do. Where
    not, what matters is who comes nearest to insolvency."""
    if all(np.count_nonzero(term) >= _ENOUGH * len(term) for term in pilot.terms):
        return np.sum([term / (pilot.weights @ term) for term in pilot.terms], axis=0), True
    return (pilot.distance >= np.quantile(pilot.distance, 1 - _ELITE)).astype(np.float64), False


def _relative_variances(pilot: Pilot, power: int) -> np.ndarray:
    """Of each limit's terms: for weighted paths (power 2), and for the same terms under plain sampling (power 1)."""
    found = []
    for term in pilot.terms:
        mean = pilot.weights @ term / len(term)
        squares = pilot.weights**power @ term**2 / len(term)
        found.append(squares / mean**2 - 1 if mean > 0 else np.inf)
    return np.array(found)
