"""Pieces of one way put together with hindsight: where one track ends and another begins as if it had gone on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Array = NDArray[np.float64]

LONGEST_GAP_S: Final = 2.0
_LOOK_BACK_S: Final = 0.6
"""From how much of a piece its velocity at the end is read."""
_STILL_OFF: Final = 0.5
_OFF_PER_SECOND: Final = 0.5
"""How far off a piece may begin: of the thing's size (at least a metre), and per second and metre per second."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A track as it was found. times: (n,) seconds, increasing; places: (n, 2) x, z in a world that stands still; size:
    metres, the horizontal diagonal."""

    track_id: int
    class_id: int
    times: Array
    places: Array
    size: float


def link(pieces: Sequence[Piece]) -> dict[int, int]:
    """For each piece that goes on another, whose it is: track id to the track id of the first piece of the chain.

    Pieces of one class that do not overlap in time, at most `LONGEST_GAP_S` apart, each of which begins where the other
    leads and ends where the other comes from. Deterministic.
    """
    cost = np.full((len(pieces), len(pieces)), np.inf)
    for i, one in enumerate(pieces):
        for j, other in enumerate(pieces):
            if i != j and one.class_id == other.class_id:
                cost[i, j] = _apart(one, other)
    possible = np.isfinite(cost)
    if not possible.any():
        return {}
    # Every piece may stay alone, at the cost of the worst link.
    rows, columns = linear_sum_assignment(np.where(possible, 1 - cost, 0), maximize=True)
    before = {int(j): int(i) for i, j in zip(rows, columns, strict=True) if possible[i, j]}
    heads = {}
    for number in before:
        head = number
        while head in before:
            head = before[head]
        heads[pieces[number].track_id] = pieces[head].track_id
    return heads


def _apart(one: Piece, other: Piece) -> float:
    """0…1, how far from going on `other` is from `one`; infinite where it cannot be."""
    gap = float(other.times[0] - one.times[-1])
    if not 0 < gap <= LONGEST_GAP_S:
        return np.inf
    leaving = _velocity(one.times[-1] - one.times[::-1], one.places[::-1])
    arriving = -_velocity(other.times - other.times[0], other.places)
    ahead = np.linalg.norm(one.places[-1] - leaving * gap - other.places[0])
    back = np.linalg.norm(other.places[0] + arriving * gap - one.places[-1])
    speed = max(1.0, float(np.linalg.norm(leaving)), float(np.linalg.norm(arriving)))
    limit = _STILL_OFF * max(1.0, one.size) + _OFF_PER_SECOND * gap * speed
    off = float(ahead + back) / 2 / limit
    return off if off < 1 else np.inf


def _velocity(since: Array, places: Array) -> Array:
    """(2,) metres per second away from the first of `places` (n, 2); since: (n,) seconds from it, 0 first."""
    near = since <= _LOOK_BACK_S
    times, these = since[near], places[near]
    if len(times) < 3 or times[-1] <= 0:
        return np.zeros(2)
    spread = times - times.mean()
    return np.asarray(spread @ (these - these.mean(axis=0)) / (spread @ spread))
