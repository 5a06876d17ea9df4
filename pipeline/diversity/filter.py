"""Which frames of a video are worth keeping.

Two criteria, each sufficient to drop a frame ("remove similar/static frames"): its dHash is within
`similarity_threshold` bits of the last kept frame (near-duplicate), or its motion score against that frame is below
`motion_threshold` (static). The two see different things: a change of exposure moves every pixel but no bit of the
hash, and in a flat scene noise flips bits while nothing moves. Comparison is with the last *kept* frame: compared with
the previous one, a slow drift would never be seen.
"""

import base64
import binascii
import zlib
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.diversity.hashing import DHASH_VERSION, dhash, hamming
from pipeline.diversity.motion import THUMBNAIL_SHAPE, motion_score, thumbnail

Reason = Literal["first", "different", "similar", "static"]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What the filter needs to know of a frame: its hash (16 hexadecimal digits) and thumbnail (uint8 (36, 64))."""

    dhash: str
    thumbnail: NDArray[np.uint8]

    @classmethod
    def of(cls, image_bgr: NDArray[np.uint8]) -> Self:
        """Of a uint8 BGR (H, W, 3) image."""
        return cls(dhash(image_bgr), thumbnail(image_bgr))

    def to_json(self) -> dict[str, Any]:
        packed = base64.b64encode(zlib.compress(self.thumbnail.tobytes(), 6)).decode()
        return {"version": DHASH_VERSION, "dhash": self.dhash, "thumbnail": packed}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Raises ValueError where the value is not one of `to_json` of this version."""
        if value.get("version") != DHASH_VERSION:
            raise ValueError(f"fingerprint of version {value.get('version')!r}, not {DHASH_VERSION!r}")
        try:
            pixels = np.frombuffer(zlib.decompress(base64.b64decode(value["thumbnail"])), np.uint8)
            return cls(str(value["dhash"]), pixels.reshape(THUMBNAIL_SHAPE))
        except (KeyError, ValueError, zlib.error, binascii.Error) as error:
            raise ValueError(f"not a fingerprint: {error}") from error


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to keep a frame, and why. `distance` in bits and `motion` in 0…1 are to the last kept frame.

    The first frame has nothing to compare with: distance 64, motion 1.
    """

    keep: bool
    reason: Reason
    distance: int = 64
    motion: float = 1.0


def decide(
    frame: Fingerprint, last_kept: Fingerprint | None, similarity_threshold: float, motion_threshold: float
) -> Decision:
    """The rule itself. A motion threshold of 0 drops nothing, nor does a negative similarity threshold."""
    if last_kept is None:
        return Decision(True, "first")
    distance = hamming(frame.dhash, last_kept.dhash)
    motion = motion_score(frame.thumbnail, last_kept.thumbnail)
    if distance <= similarity_threshold:
        return Decision(False, "similar", distance, motion)
    if motion < motion_threshold:
        return Decision(False, "static", distance, motion)
    return Decision(True, "different", distance, motion)


@dataclass(slots=True)
class DiversityFilter:
    """`decide` on frame after frame. `state` and `restore` carry it over a restart: it then decides the same."""

    similarity_threshold: float
    motion_threshold: float
    last_kept: Fingerprint | None = None

    def offer(self, frame: Fingerprint) -> Decision:
        """Decide on the next frame and remember it if it is kept."""
        decision = decide(frame, self.last_kept, self.similarity_threshold, self.motion_threshold)
        if decision.keep:
            self.last_kept = frame
        return decision

    def state(self) -> dict[str, Any]:
        """The last kept frame as a JSON value; empty before the first."""
        return {} if self.last_kept is None else {"last_kept": self.last_kept.to_json()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a value of `state`. Raises ValueError where it is not one."""
        last = state.get("last_kept")
        self.last_kept = None if last is None else Fingerprint.from_json(last)
