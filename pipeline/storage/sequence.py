"""Reading what the stages have written: shared by the later stages, the web and the exports."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import cv2
import ijson
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from pipeline.stereo.camera import RectifiedCamera
from pipeline.storage.journal import read_journal
from pipeline.storage.layout import SequenceLayout
from pipeline.storage.records import BoxRecord, DetectionRecord, FrameRecord, Record, TrackRecord

REGISTRY_VERSION: Final = 1
AnyRecord = TypeVar("AnyRecord", bound=Record)


class SequenceFileError(PipelineError):
    """A file of a sequence is missing or damaged; the message names it."""

    code = "sequence_file_invalid"


def read_camera(layout: SequenceLayout) -> RectifiedCamera:
    """The rectified camera. Raises SequenceFileError."""
    try:
        return RectifiedCamera.from_json(json.loads(layout.calibration.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise SequenceFileError(f"{layout.calibration.name} cannot be read: {error}.") from error


def read_frames(layout: SequenceLayout) -> Iterator[FrameRecord]:
    """The kept frames in order: from extraction's journal while there is one, else from the registry. Streams."""
    if _journal(layout, "extraction").exists():
        yield from _records(layout, "extraction", FrameRecord)
    elif layout.registry.exists():
        with layout.registry.open("rb") as stream:
            for value in ijson.items(stream, "frames.item", use_float=True):
                yield FrameRecord.from_json(value)


def read_detections(layout: SequenceLayout) -> Iterator[DetectionRecord]:
    """All detections, by frame and instance."""
    return _records(layout, "segmentation", DetectionRecord)


def read_boxes(layout: SequenceLayout) -> Iterator[BoxRecord]:
    """A record for every detection, by frame and instance."""
    return _records(layout, "reconstruction", BoxRecord)


def read_tracks(layout: SequenceLayout) -> Iterator[TrackRecord]:
    """A record for every detection, by frame and instance."""
    return _records(layout, "tracking", TrackRecord)


def load_depth(layout: SequenceLayout, number: int) -> NDArray[np.float32] | None:
    """Depth of a kept frame, mapped read-only: float32 (H, W), metres, NaN where unknown; None if it has none.

    Raises SequenceFileError for a damaged file.
    """
    path = layout.depth(number)
    try:
        depth: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        raise SequenceFileError(f"depth/{path.name} cannot be read: {error}.") from error
    if depth.ndim != 2 or depth.dtype != np.float32:
        raise SequenceFileError(f"depth/{path.name} is {depth.dtype} {depth.shape}, not a float32 map.")
    return depth


def load_features(layout: SequenceLayout, number: int, kind: str) -> NDArray[np.float32] | None:
    """The segmenter's own features of a frame's instances, (instances, D); None where there are none of that kind.

    Raises SequenceFileError for a damaged file.
    """
    path = layout.features(number, kind)
    try:
        features: NDArray[Any] = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        raise SequenceFileError(f"features/{path.name} cannot be read: {error}.") from error
    if features.ndim != 2 or features.dtype != np.float16:
        raise SequenceFileError(f"features/{path.name} is {features.dtype} {features.shape}, not float16 (n, D).")
    return features.astype(np.float32)


def load_confidence(layout: SequenceLayout, number: int) -> NDArray[np.float32] | None:
    """How far the depth of a kept frame can be trusted: float32 (H, W) in 0…1; None if nothing is known of it.

    It is the estimated probability that the disparity behind the depth is off by less than one pixel (of the image that
    was matched); exactly 0 where there is no depth, at least 1/255 where there is. Depth of the ZED SDK has none.
    Raises SequenceFileError for a damaged file.
    """
    path = layout.confidence(number)
    if not path.exists():
        return None
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.ndim != 2 or stored.dtype != np.uint8:
        raise SequenceFileError(f"confidence/{path.name} cannot be read.")
    return stored.astype(np.float32) / np.float32(255)


def load_image(layout: SequenceLayout, frame: FrameRecord, camera: str = "left") -> NDArray[np.uint8]:
    """The image of a kept frame, uint8 BGR (H, W, 3); camera: "left" or "right". Raises SequenceFileError."""
    path = image_path(layout, frame, camera)
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise SequenceFileError(f"{path.parent.name}/{path.name} cannot be read.")
    return np.asarray(image, dtype=np.uint8)


def image_path(layout: SequenceLayout, frame: FrameRecord, camera: str = "left") -> Path:
    """Where the image of a kept frame lies."""
    place = layout.image_left if camera == "left" else layout.image_right
    return place(frame.number, frame.image_extension)


def _journal(layout: SequenceLayout, stage: str) -> Path:
    return layout.journals / f"{stage}.jsonl"


def _records(layout: SequenceLayout, stage: str, kind: type[AnyRecord]) -> Iterator[AnyRecord]:
    for commit in read_journal(_journal(layout, stage)):
        for value in commit.records:
            yield kind.from_json(value)
