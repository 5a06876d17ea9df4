"""A frame as extraction left it on disk, as a segmenter or a class head sees it."""

import numpy as np

from pipeline.segmentation.base import View
from pipeline.stereo.camera import RectifiedCamera
from pipeline.storage.layout import SequenceLayout
from pipeline.storage.records import FrameRecord
from pipeline.storage.sequence import SequenceFileError, load_depth, load_image


def load_view(layout: SequenceLayout, camera: RectifiedCamera, frame: FrameRecord) -> View:
    """Image, depth, camera and gravity of a kept frame. Raises SequenceFileError naming the file."""
    image = load_image(layout, frame)
    depth = load_depth(layout, frame.number) if frame.has_depth and camera.metric else None
    if depth is not None and depth.shape != image.shape[:2]:
        raise SequenceFileError(f"depth/{frame.number:06d}.npy does not have the size of the image.")
    gravity = None if frame.gravity is None else np.array(frame.gravity, dtype=np.float64)
    return View(image, None if depth is None else np.array(depth), camera.matrix if camera.metric else None, gravity)
