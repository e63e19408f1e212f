"""A push feed as its rounds show it: looks at the price at intervals, reports on a deviation or a heartbeat, and each report
takes its time to be included. `simulate_rounds` makes a log of such a feed, for goodness of fit and for tests of the fit.

This is finer than the engine's oracle, which looks once a step and lets several reports be under way at once.
"""

from typing import NamedTuple

import numpy as np


class Feed(NamedTuple):
    """`deviation` is relative, times are in seconds. Reports are included with a block, of which there is one every `block_s`;
    the feed looks every `look_s`, but not while a report on a deviation is under way. After a share `repeat_share` of
    heartbeats another report follows `repeat_after_s` later."""

    deviation: float
    heartbeat_s: float
    restarts: bool
    block_s: float
    look_s: float
    repeat_share: float = 0.0
    repeat_after_s: float = 0.0


class MadeRounds(NamedTuple):
    """A made log: when each report was included, what it says, and whether it was a deviation that called for it."""

    seconds: np.ndarray
    log_answer: np.ndarray
    on_deviation: np.ndarray


def simulate_rounds(
    feed: Feed,
    log_price: np.ndarray,
    delays_s: np.ndarray,
    rng: np.random.Generator,
    *,
    first_beat_s: float | None = None,
) -> MadeRounds:
    """The rounds of a feed on a path of log-prices, one for every look; `delays_s` is how long a report would take that is made
    at that look."""
    up, down = np.log1p(feed.deviation), np.log1p(-feed.deviation)
    prices, delays = log_price.tolist(), delays_s.tolist()
    beat_at = feed.heartbeat_s if first_beat_s is None else first_beat_s
    included, answers, moved = [0.0], [prices[0]], [False]
    reported, free_at, repeat_at = prices[0], 0.0, np.inf
    for number, price in enumerate(prices[1:], 1):
        now = number * feed.look_s
        change = price - reported
        deviates = (change >= up or change <= down) and now >= free_at
        beats, repeats = now >= beat_at, now >= repeat_at
        if not (deviates or beats or repeats):
            continue
        included.append(feed.block_s * np.ceil((now + delays[number]) / feed.block_s))
        answers.append(price)
        moved.append(deviates)
        reported = price
        if deviates:
            free_at = now + delays[number]
        if beats and not feed.restarts:
            beat_at += feed.heartbeat_s
        elif feed.restarts:
            beat_at = included[-1] + feed.heartbeat_s
        if beats:
            repeat_at = now + feed.repeat_after_s if rng.random() < feed.repeat_share else np.inf
        elif repeats:
            repeat_at = np.inf
    order = np.argsort(included, kind="stable")
    return MadeRounds(np.array(included)[order], np.array(answers)[order], np.array(moved)[order])
