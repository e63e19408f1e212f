"""The venue of `baselines.py` as one would write it with numba: path after path, compiled, spread over all cores.

Numbers are float64, which is what numba makes of Python's. Paths draw from xoshiro256++ (Blackman and Vigna 2021, "Scrambled linear
pseudorandom number generators"), each from its own state, which splitmix64 makes of the seed and the path's number; normals are a
ziggurat (Marsaglia and Tsang 2000, with Doornik's 2005 tables). Steps in which nothing is closed end early: what a loop over single
paths can do and one over arrays cannot. Floating point may be reordered and contracted, but infinities keep their meaning, since
a margin without limits is written with them.
"""

import functools
import math

import numba
import numpy as np
from baselines import OUTCOMES, Candidate, Stated

FASTMATH = {"nsz", "arcp", "contract", "afn", "reassoc"}
jitted = functools.partial(numba.njit, cache=True, fastmath=FASTMATH)
inlined = functools.partial(numba.njit, cache=True, inline="always")
spread = functools.partial(numba.njit, cache=True, parallel=True)

# --- random numbers -------------------------------------------------------------------------------------------------------

LAYERS, TAIL, AREA = 128, 3.442619855899, 9.91256303526217e-3


def layers() -> np.ndarray:
    """Right ends of the ziggurat's layers of equal area under exp(-x^2 / 2), the widest (with the tail's share) first."""
    x = [AREA / math.exp(-(TAIL**2) / 2), TAIL]
    while len(x) < LAYERS:
        x.append(math.sqrt(-2 * math.log(AREA / x[-1] + math.exp(-(x[-1] ** 2) / 2))))
    return np.array([*x, 0.0])


EDGES = layers()
NARROWER = EDGES[1:] / EDGES[:-1]


@inlined()
def splitmix(state: np.uint64) -> np.uint64:
    z = state + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@jitted()
def seeded(seed: int, path: int) -> np.ndarray:
    """The generator's state of a path."""
    state = np.empty(4, np.uint64)
    word = splitmix(splitmix(np.uint64(seed)) ^ np.uint64(path))
    for k in range(4):
        word = splitmix(word)
        state[k] = word
    return state


@inlined()
def turned(word: np.uint64, by: int) -> np.uint64:
    return (word << np.uint64(by)) | (word >> np.uint64(64 - by))


@inlined()
def word_of(s: np.ndarray) -> np.uint64:
    """64 random bits."""
    word = turned(s[0] + s[3], 23) + s[0]
    shifted = s[1] << np.uint64(17)
    s[2] ^= s[0]
    s[3] ^= s[1]
    s[1] ^= s[2]
    s[0] ^= s[3]
    s[2] ^= shifted
    s[3] = turned(s[3], 45)
    return word


@inlined()
def uniform(s: np.ndarray) -> float:
    """In (0, 1)."""
    return (float(word_of(s) >> np.uint64(11)) + 0.5) * 2.0**-53


@jitted()
def normal(s: np.ndarray) -> float:
    while True:
        word = word_of(s)
        layer = np.int64(word & np.uint64(LAYERS - 1))
        u = float(np.int64(word) >> 11) * 2.0**-52
        if abs(u) < NARROWER[layer]:
            return u * EDGES[layer]
        if layer == 0:
            return math.copysign(tail(s), u)
        x = u * EDGES[layer]
        low = math.exp(-(EDGES[layer] ** 2 - x * x) / 2)
        high = math.exp(-(EDGES[layer + 1] ** 2 - x * x) / 2)
        if low + uniform(s) * (high - low) < 1.0:
            return x


@jitted()
def tail(s: np.ndarray) -> float:
    """A normal given that it lies beyond the last edge (Marsaglia 1964)."""
    while True:
        x, y = -math.log(uniform(s)) / TAIL, -math.log(uniform(s))
        if 2 * y > x * x:
            return TAIL + x


# --- one path -------------------------------------------------------------------------------------------------------------


@jitted()
def draw(s: np.ndarray, z1: np.ndarray, z2: np.ndarray, u: np.ndarray) -> None:
    for t in range(len(u)):
        z1[t], z2[t], u[t] = normal(s), normal(s), uniform(s)


@jitted()
def follow_market(s, scale, start, z1, z2, u, log_price, log_volatility):  # type: ignore[no-untyped-def]
    """Undisturbed log-prices after each step, and log-volatilities before it."""
    up, down, p = scale * s.jump_up_mean, scale * s.jump_down_mean, s.jump_up_probability
    mean_relative_jump = p * up / (1 - up) - (1 - p) * down / (1 + down)
    rho, root = s.leverage_correlation, math.sqrt(1 - s.leverage_correlation**2)
    decay, root_dt = math.exp(-s.reversion_per_year * s.dt), math.sqrt(s.dt)
    wander = s.log_volatility_sd * math.sqrt(1 - math.exp(-2 * s.reversion_per_year * s.dt))
    x, y = 0.0, s.log_volatility_sd * start
    for t in range(len(u)):
        sigma = scale * s.volatility * math.exp(y)
        q = min(s.jumps_per_year * s.dt * math.exp(s.jump_volatility_exponent * y), 1.0)
        x += (s.drift - sigma**2 / 2) * s.dt - q * mean_relative_jump
        x += sigma * root_dt * (rho * z2[t] + root * z1[t])
        if u[t] < q:
            w = u[t] / q
            x += -up * math.log(w / p) if w < p else down * math.log((w - p) / (1 - p))
        log_price[t], log_volatility[t] = x, y
        y = decay * y + wander * z2[t]


@jitted()
def below(book, k, level):  # type: ignore[no-untyped-def]
    """The share of a cohort's accounts below a level, and their collateral."""
    last = book.knots.shape[1] - 1
    level = min(max(level, book.knots[k, 0]), book.knots[k, last])
    j = 0
    while j < last - 1 and book.knots[k, j + 1] <= level:
        j += 1
    low = book.knots[k, j]
    height = (book.shares[k, j + 1] - book.shares[k, j]) / (book.knots[k, j + 1] - low)
    return (
        book.shares[k, j] + height * (level - low),
        book.collateral[k, j] + height * (level - low) * (level + low) / 2,
    )


@jitted()
def level_holding(book, k, share):  # type: ignore[no-untyped-def]
    """The collateral below which a share of a cohort's accounts lies."""
    j, last = 0, book.knots.shape[1] - 1
    while j < last - 1 and book.shares[k, j + 1] <= share:
        j += 1
    height = (book.shares[k, j + 1] - book.shares[k, j]) / (book.knots[k, j + 1] - book.knots[k, j])
    return book.knots[k, j] + (share - book.shares[k, j]) / height


@jitted()
def lacking(book, k, strike, low, high):  # type: ignore[no-untyped-def]
    """What a cohort's accounts between two levels lack to reach the strike, in all."""
    if strike <= low:
        return 0.0
    share, collateral = below(book, k, min(strike, high))
    less_share, less_collateral = below(book, k, low)
    return strike * (share - less_share) - (collateral - less_collateral)


@jitted()
def margin_at(s, c, variance):  # type: ignore[no-untyped-def]
    forecast = (1 - c.stress_weight) * math.sqrt(variance) + c.stress_weight * s.stressed_volatility
    margin = max(c.base_margin + c.volatility_multiplier * forecast * math.sqrt(s.margin_horizon), c.margin_floor)
    return min(max(margin + s.allowance * c.penalty, s.lowest), s.highest)


@jitted()
def displacement(flow, depth, crossover, steepness):  # type: ignore[no-untyped-def]
    """By how much the flow lowers the log-price."""
    return math.copysign(steepness * (math.sqrt(abs(flow) / depth + crossover) - math.sqrt(crossover)), flow)


@jitted()
def follow_venue(s, book, c, log_price, log_volatility, out):  # type: ignore[no-untyped-def]
    """One candidate's venue along a market; `out` takes the outcomes, in the order of their names."""
    cohorts = len(book.side)
    up, down, p = c.volatility_scale * s.jump_up_mean, c.volatility_scale * s.jump_down_mean, s.jump_up_probability
    variance = (c.volatility_scale * s.volatility * math.exp(log_volatility[0])) ** 2
    jumps = s.jumps_per_year * math.exp(s.jump_volatility_exponent * log_volatility[0])
    variance += jumps * 2 * (p * up**2 + (1 - p) * down**2)
    margin = margin_at(s, c, variance)
    scale = c.initial_ratio * margin / s.reference_margin

    steepness = 0.02 / (math.sqrt(1 + s.crossover) - math.sqrt(s.crossover))
    profit = max(c.keeper_share * c.penalty - s.gas, 0.0)
    worthwhile = (profit / steepness + math.sqrt(s.crossover)) ** 2 - s.crossover
    weight = math.exp(-s.dt / c.forecast_memory)
    fade_fast, fade_slow = math.exp(-s.dt / s.fast_time), math.exp(-s.dt / s.slow_time)
    permanent_weight = 1 - s.fast_weight - s.slow_weight

    reports, due = np.zeros(s.oracle_delay + 1), np.zeros((s.keeper_delay + 1, cohorts))
    level, share = book.knots[:, 0].copy(), np.zeros(cohorts)
    reach, wanted, part = np.empty(cohorts), np.empty(cohorts), np.empty(cohorts)
    report, age, seen, fund = 0.0, 0.0, 0.0, s.fund
    fast, slow, permanent, price = 0.0, 0.0, 0.0, 1.0
    bad_debt, liquidated, insolvent, penalty, slippage, margins = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for t in range(len(log_price)):
        fast, slow = fast * fade_fast, slow * fade_slow
        flow = fast + slow + permanent
        depth = c.depth_scale * s.depth * math.exp(-s.depth_exponent * log_volatility[t])
        log_mid = log_price[t] - displacement(flow, depth, s.crossover, steepness)
        price = math.exp(log_mid)

        age += s.dt
        if abs(log_mid - report) >= s.deviation or age >= s.heartbeat - s.dt / 2:
            report, age = log_mid, 0.0
        reports[t % (s.oracle_delay + 1)] = report
        before, seen = seen, reports[(t + 1) % (s.oracle_delay + 1)]
        variance = weight * variance + (1 - weight) * (seen - before) ** 2 / s.dt
        margin = min(max(margin_at(s, c, variance), margin - c.margin_fall * s.dt), margin + c.margin_rise * s.dt)
        margins += margin

        oracle = math.exp(seen)
        some = False
        for k in range(cohorts):
            now = (margin * oracle - book.side[k] * (oracle - 1)) / scale
            due[t % (s.keeper_delay + 1), k] = now
            reach[k] = max(level[k], min(now, due[(t + 1) % (s.keeper_delay + 1), k]))
            some = some or reach[k] > level[k]
        if not some:
            continue

        longs, shorts = 0.0, 0.0
        for k in range(cohorts):
            wanted[k] = below(book, k, reach[k])[0]
            asked = book.weight[k] * (wanted[k] - share[k]) * price
            if book.side[k] > 0:
                longs += asked
            else:
                shorts += asked
        net_share = 0.0
        for k in range(cohorts):
            room = max(worthwhile * depth - book.side[k] * (fast + slow), 0.0)
            asked = longs if book.side[k] > 0 else shorts
            part[k] = room / asked if asked > room else 1.0
            net_share += book.weight[k] * book.side[k] * part[k] * (wanted[k] - share[k])
        sold = net_share * price
        filled = math.exp(log_price[t] - displacement(flow + sold / 2, depth, s.crossover, steepness))
        loss, paid = 0.0, 0.0
        for k in range(cohorts):
            newly, low = part[k] * (wanted[k] - share[k]), level[k]
            share[k] += newly
            level[k] = level_holding(book, k, share[k]) if part[k] < 1 else reach[k]
            at = filled * (1 - book.side[k] * s.half_spread)
            cover, fee = -book.side[k] * (at - 1) / scale, c.penalty * at / scale
            deficit = lacking(book, k, cover, low, level[k])
            fees = fee * newly - lacking(book, k, cover + fee, low, level[k]) + deficit
            loss += book.weight[k] * scale * deficit
            paid += book.weight[k] * scale * fees
            liquidated += book.weight[k] * newly
            slippage -= book.weight[k] * book.side[k] * (at - 1) * newly
        slippage += net_share * (math.exp(log_price[t]) - 1)
        penalty += paid
        bad_debt += loss
        fund += (1 - c.keeper_share) * paid
        if loss > fund:
            insolvent = 1.0
        fund = max(fund - loss, 0.0)
        fast += s.fast_weight * sold
        slow += s.slow_weight * sold
        permanent += permanent_weight * sold

    still_open = 0.0
    for k in range(cohorts):
        cover = -book.side[k] * (price * (1 - book.side[k] * s.half_spread) - 1) / scale
        still_open += book.weight[k] * scale * lacking(book, k, cover, level[k], book.knots[k, -1])
    if still_open > fund:
        insolvent = 1.0
    out[0], out[1], out[2] = bad_debt + still_open, liquidated, insolvent
    out[3], out[4], out[5] = penalty, slippage, c.initial_ratio * margins / len(log_price)


@jitted()
def candidate(row: np.ndarray) -> Candidate:
    return Candidate(
        row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7], row[8], row[9], row[10], row[11]
    )  # fmt: skip


@jitted()
def follow(s, book, candidates, start, z1, z2, u, out):  # type: ignore[no-untyped-def]
    """Every candidate (a row each) along one path, from its shocks. Neighbours in equally wild worlds share the market."""
    log_price, log_volatility = np.empty_like(u), np.empty_like(u)
    scale = 1.0
    for k in range(len(candidates)):
        c = candidate(candidates[k])
        if k == 0 or c.volatility_scale != scale:
            scale = c.volatility_scale
            follow_market(s, scale, start, z1, z2, u, log_price, log_volatility)
        follow_venue(s, book, c, log_price, log_volatility, out[k])


# --- many paths -----------------------------------------------------------------------------------------------------------


@spread()
def every_path(s, book, candidates, seed, paths):  # type: ignore[no-untyped-def]
    outcomes = np.empty((paths, len(candidates), 6))
    for path in numba.prange(paths):
        state = seeded(seed, path)
        start, (z1, z2, u) = normal(state), np.empty((3, s.steps))
        draw(state, z1, z2, u)
        follow(s, book, candidates, start, z1, z2, u, outcomes[path])
    return outcomes


@spread()
def market_alone(s, seed, paths):  # type: ignore[no-untyped-def]
    last = np.empty(paths)
    for path in numba.prange(paths):
        state = seeded(seed, path)
        start, (z1, z2, u, log_price, log_volatility) = normal(state), np.empty((5, s.steps))
        draw(state, z1, z2, u)
        follow_market(s, 1.0, start, z1, z2, u, log_price, log_volatility)
        last[path] = log_price[-1]
    return last


@spread()
def shocks_alone(steps: int, seed: int, paths: int) -> np.ndarray:
    """The sum of every path's shocks."""
    sums = np.empty(paths)
    for path in numba.prange(paths):
        state, total = seeded(seed, path), 0.0
        for _ in range(steps):
            total += normal(state) + normal(state) + uniform(state)
        sums[path] = total
    return sums


def simulate(said: Stated, candidates: list[Candidate], *, seed: int, paths: int) -> list[dict[str, np.ndarray]]:
    """The outcomes of every candidate, by name and path."""
    found = every_path(said.setting, said.cohorts, np.array(candidates), seed, paths)
    return [dict(zip(OUTCOMES, found[:, k].T, strict=True)) for k in range(len(candidates))]
