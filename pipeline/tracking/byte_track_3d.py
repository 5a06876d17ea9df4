"""ByteTrack in space: the two-pass association on 3D boxes, and on the 2D boxes of whatever has no depth.

Each track carries a filter in the image and, once it has been seen with depth, one in space (rectified left camera:
x right, y down, z forward, metres). A pair of which both sides have a place in space is compared there, any other pair
in the image, so one detection without depth neither ends a track nor starts a new one.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.tracking import kalman_filter as kalman
from pipeline.tracking.association import Array
from pipeline.tracking.byte_track import ByteTracker, Ids, Seen, checked

CUBOID: Final = ("x", "y", "z", "height", "width", "length", "yaw")
"""Columns of a cuboid: centre of the bottom face and size in metres, rotation about +Y in radians."""


class ByteTracker3D(ByteTracker):
    """Tracks boxes of which some have a place in space. Parameters are those of ByteTracker, and:

    gate_metres: least distance on the ground at which two boxes have nothing in common; the gate is this or the
    track's horizontal diagonal, whichever is more, widened by three standard deviations of its place up to
    `gate_widening` metres more. Similarity falls to 0 on the way there, from 1, or from less where the gate is widened:
    one who might be anywhere has less of a claim than one who is known to be near. image_share: how much of it is the
    overlap in the image, of those within the gate. forget_depth: frames without depth after which a track's place in
    space counts as unknown.
    """

    def __init__(
        self,
        track_threshold: float = 0.6,
        match_threshold: float = 0.9,
        buffer: int = 30,
        *,
        gate_metres: float = 1.0,
        gate_widening: float = 4.0,
        image_share: float = 0.5,
        forget_depth: int = 10,
        **thresholds: Any,
    ) -> None:
        super().__init__(track_threshold, match_threshold, buffer, **thresholds)
        self.gate_metres, self.gate_widening, self.forget_depth = gate_metres, gate_widening, forget_depth
        self.image_share = image_share
        self._cuboid_noise = _SeenFrom()
        self._space: Array = np.zeros((5, 0, len(CUBOID)))
        self._placed: Ids = np.zeros(0, np.int64)  # frame of the latest depth, 0: no place in space

    def update(
        self,
        boxes_xyxy: ArrayLike,
        scores: ArrayLike,
        class_ids: ArrayLike | None = None,
        cuboids: ArrayLike | None = None,
        *,
        features: ArrayLike | None = None,
        camera_motion: ArrayLike | None = None,
        viewpoint: tuple[float, float] = (0.0, 0.0),
    ) -> Ids:
        """As ByteTracker.update; `cuboids` is (m, 7) as CUBOID names its columns, a row of NaN where there is none.

        viewpoint: x, z of the camera in the frame of reference of the cuboids, which should be one that stands still:
        how certain a place is goes by its distance from there.
        """
        self._cuboid_noise.viewpoint = viewpoint
        seen = checked(boxes_xyxy, scores, class_ids, features)
        places = (
            np.full((len(seen.scores), len(CUBOID)), np.nan) if cuboids is None else np.asarray(cuboids, np.float64)
        )
        if places.shape != (len(seen.scores), len(CUBOID)):
            raise ValueError(f"cuboids of shape {places.shape} do not go with {len(seen.scores)} boxes")
        if camera_motion is not None:
            self.move_with_camera(camera_motion)
        return self._step(Seen(seen.boxes_xyxy, seen.scores, seen.class_ids, places, seen.features))

    def _predict(self, settled: int) -> None:
        super()._predict(settled)
        self._space[:, :settled] = kalman.predict(self._space[:, :settled], self._cuboid_noise)

    def _similarity(self, seen: Seen) -> Array:
        similarity = super()._similarity(seen)
        assert seen.cuboids is not None  # noqa: S101 - `update` has seen to it
        known = _is_known(seen.cuboids)
        near = self._nearness(seen.cuboids[:, [0, 2]])
        if seen.class_ids is not None and self.class_mismatch_factor < 1:
            near[np.array(self._classes)[:, None] != seen.class_ids] *= self.class_mismatch_factor
        both = (1 - self.image_share) * near + self.image_share * similarity * (near > 0)
        return np.where(self._is_placed()[:, None] & known, both, similarity)

    def _overlap(self, others: list[int]) -> Array:
        placed = self._is_placed()
        near = self._nearness(self._space[kalman.POSITION][others][:, [0, 2]])
        return np.where(np.outer(placed, placed[others]), near, super()._overlap(others))

    def _is_placed(self) -> NDArray[np.bool_]:
        placed: NDArray[np.bool_] = self._placed > 0
        placed &= np.asarray(self._frame - self._placed <= self.forget_depth)
        return placed

    def _nearness(self, ground: Array) -> Array:
        """Of all tracks with places (m, 2) on the ground: (n, m), greatest at the same place, 0 from the gate on."""
        position = self._space[kalman.POSITION]
        distance = np.hypot(position[:, 0, None] - ground[:, 0], position[:, 2, None] - ground[:, 1])
        narrow = np.maximum(np.hypot(position[:, 4], position[:, 5]), self.gate_metres)
        spread = 3 * np.sqrt(np.maximum(self._space[kalman.PP, :, 0], self._space[kalman.PP, :, 2]))
        gate = narrow + np.minimum(spread, self.gate_widening)
        return np.asarray(np.maximum(1 - distance / gate[:, None], 0) * np.sqrt(narrow / gate)[:, None])

    def _correct(self, rows: list[int], columns: list[int], seen: Seen) -> None:
        super()._correct(rows, columns, seen)
        assert seen.cuboids is not None  # noqa: S101 - `update` has seen to it
        measured = seen.cuboids[columns]
        known = _is_known(measured)
        rows_known, measured = np.array(rows)[known], measured[known]
        was_placed: NDArray[np.bool_] = self._is_placed()[rows_known]
        old, new = rows_known[was_placed], rows_known[~was_placed]
        if len(old):
            predicted = self._space[:, old]
            innovation = measured[was_placed] - predicted[kalman.POSITION]
            # A box looks the same from behind: its yaw is known up to half a turn.
            innovation[:, 6] = (innovation[:, 6] + np.pi / 2) % np.pi - np.pi / 2
            self._space[:, old] = kalman.correct(predicted, innovation, self._cuboid_noise)
        if len(new):
            self._space[:, new] = kalman.initiate(measured[~was_placed], self._cuboid_noise)
        self._placed[rows_known] = self._frame

    def _select(self, rows: list[int]) -> None:
        super()._select(rows)
        self._space, self._placed = self._space[:, rows], self._placed[rows]

    def _append(self, columns: list[int], ids: list[int], seen: Seen) -> None:
        super()._append(columns, ids, seen)
        assert seen.cuboids is not None  # noqa: S101 - `update` has seen to it
        measured = seen.cuboids[columns]
        known = _is_known(measured)
        born = kalman.initiate(np.where(known[:, None], measured, 0), self._cuboid_noise)
        self._space = np.concatenate([self._space, born], axis=1)
        self._placed = np.concatenate([self._placed, np.where(known, self._frame, 0)])


class _SeenFrom(kalman.CuboidNoise):
    """The noise of a stereo camera that moves through the frame of reference."""

    viewpoint: tuple[float, float] = (0.0, 0.0)

    def measurement(self, position: Array) -> Array:
        seen = position.copy()
        seen[:, 2] = np.hypot(position[:, 0] - self.viewpoint[0], position[:, 2] - self.viewpoint[1])
        return super().measurement(seen)


def _is_known(cuboids: Array) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(cuboids).all(axis=1))
