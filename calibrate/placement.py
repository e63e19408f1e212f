"""Where a label fits in a figure.

The few points that a figure names must be readable whatever the data, so their labels are placed by looking: every
position around the point is tried, and the one that covers least of what is already drawn wins. Everything is in pixels
of the plotting area, with y downwards.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

Pixel = tuple[float, float]

CHARACTER, LINE = 6.7, 15.0  # size of a letter of the labels' font, generously
BESIDE = 13.0  # between a point and a label to its side
RUNGS = (27.0, 40.0, 55.0, 75.0, 100.0)  # how far a label may move up or down from its point
CLEAR = 3.0  # kept free around a label
STEP = 5.0  # a line is an obstacle every so many pixels


class Spot(NamedTuple):
    """Offset of the label from its point and how its text runs."""

    dx: float
    dy: float
    align: str


class Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: "Box") -> float:
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0.0) * max(height, 0.0)

    def area(self) -> float:
        return (self.right - self.left) * (self.bottom - self.top)

    def contains(self, point: Pixel) -> bool:
        return self.left <= point[0] <= self.right and self.top <= point[1] <= self.bottom


class Placer:
    """Places labels one after another; each becomes an obstacle for the next."""

    def __init__(self, width: float, height: float, drawn: Iterable[Pixel]):
        self.canvas = Box(0.0, 0.0, width, height)
        self.drawn = list(drawn)
        self.boxes: list[Box] = []

    def place(self, point: Pixel, lines: Sequence[str], spots: Sequence[Spot] | None = None) -> Spot:
        """The best of the `spots` (by default those around the point) for a label of these lines."""
        spots = _around() if spots is None else spots
        boxes = [_box(point, lines, spot) for spot in spots]
        costs = [self._cost(box) + 2.0 * rank for rank, box in enumerate(boxes)]
        best = costs.index(min(costs))
        self.boxes.append(boxes[best])
        return spots[best]

    def _cost(self, box: Box) -> float:
        outside = box.area() - box.overlap(self.canvas)
        covered = sum(box.overlap(other) for other in self.boxes)
        return outside + 5.0 * covered + 20.0 * sum(box.contains(point) for point in self.drawn)


def along(points: Sequence[Pixel]) -> list[Pixel]:
    """A line through the points as a row of close pixels."""
    pixels = list(points[:1])
    for (x0, y0), (x1, y1) in pairwise(points):
        count = max(1, math.ceil(math.hypot(x1 - x0, y1 - y0) / STEP))
        pixels += [(x0 + (x1 - x0) * i / count, y0 + (y1 - y0) * i / count) for i in range(1, count + 1)]
    return pixels


def _around() -> list[Spot]:
    """Beside the point, then up and down from it, the nearest first. A frontier rises, so that it leaves room below on
    the right and above on the left: those corners come first."""
    spots = [Spot(BESIDE, 0.0, "left"), Spot(-BESIDE, 0.0, "right")]
    for away in RUNGS:
        spots += [Spot(BESIDE, away, "left"), Spot(-BESIDE, -away, "right")]
        spots += [Spot(BESIDE, -away, "left"), Spot(-BESIDE, away, "right")]
        spots += [Spot(-BESIDE, -away, "left"), Spot(BESIDE, away, "right")]  # over or under the point, flush with it
        spots += [Spot(0.0, -away, "center"), Spot(0.0, away, "center")]
    return spots


def _box(point: Pixel, lines: Sequence[str], spot: Spot) -> Box:
    """The label's rectangle; text is centred on its point vertically."""
    width, height = CHARACTER * max(len(line) for line in lines), LINE * len(lines)
    x, y = point[0] + spot.dx, point[1] + spot.dy
    left = {"left": x, "right": x - width, "center": x - width / 2}[spot.align]
    return Box(left - CLEAR, y - height / 2 - CLEAR, left + width + CLEAR, y + height / 2 + CLEAR)
