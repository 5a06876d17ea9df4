"""A finished job with real files: boxes of known size that move over a textured ground, seen by a stereo camera.

What a job's four stages leave behind, files and rows alike, without running them.
"""

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from django.conf import settings
from django.utils import timezone

from accounts.models import User
from core.models import WorkStatus
from labeling.datasets.models import Dataset, LabelClass
from labeling.jobs.models import Detection, DetectionMask, Frame, ProcessingJob, Sequence, Track
from pipeline.geometry.boxes3d import box_corners
from pipeline.geometry.kitti import KittiCalibration
from pipeline.stereo.camera import RectifiedCamera
from pipeline.storage.atomic import write_json
from pipeline.storage.layout import SequenceLayout
from pipeline.storage.records import FrameRecord
from tests.factories import DatasetFactory, LabelClassFactory
from training.formats.masks import CroppedMask

CAMERA_HEIGHT = 1.5
CLASSES = (
    ("Car", "#e4572e", (1.5, 1.7, 4.0)),
    ("Person", "#17bebb", (1.75, 0.6, 0.6)),
    ("Traffic cone", "#ffc914", (0.7, 0.4, 0.4)),
)
FACES = (
    ((2, 3, 7, 6), 0.55),
    ((1, 2, 6, 5), 0.75),
    ((0, 3, 7, 4), 0.65),
    ((0, 1, 5, 4), 0.9),
    ((4, 5, 6, 7), 1.05),
)
"""Corners of a box's sides and top, and how bright they are."""


@dataclass(frozen=True)
class Thing:
    """An object on the ground: class (place in CLASSES), start (x, z), speed (x, z) in metres per frame, heading."""

    kind: int
    start: tuple[float, float]
    speed: tuple[float, float]
    heading: float

    def box(self, number: int) -> np.ndarray:
        """(7,): x, y, z, h, w, l, rotation_y at a frame."""
        x, z = np.array(self.start) + number * np.array(self.speed)
        return np.array([x, CAMERA_HEIGHT, z, *CLASSES[self.kind][2], self.heading])


THINGS = (
    Thing(0, (-3.5, 11.0), (0.12, 0.05), -0.3),
    Thing(0, (4.5, 17.0), (-0.05, -0.15), 1.3),
    Thing(1, (1.2, 7.0), (-0.06, 0.02), 0.4),
    Thing(1, (-1.6, 9.0), (0.03, 0.06), 2.1),
    Thing(2, (2.4, 6.0), (0.0, 0.0), 0.0),
)


def camera(width: int, height: int) -> RectifiedCamera:
    return RectifiedCamera(width, height, 0.6 * width, 0.6 * width, width / 2, 0.42 * height, 0.12, True, "scene")


def make_job(
    *,
    owner: User,
    frames: int = 10,
    sequences: int = 1,
    size: tuple[int, int] = (160, 90),
    dataset: Dataset | None = None,
    extension: str = "png",
    boxes_3d: bool = True,
) -> ProcessingJob:
    """A completed job of `sequences` recordings with `frames` frames each; `owner` owns its dataset."""
    dataset = dataset or DatasetFactory(name="Courtyard", owner=owner)
    classes = [
        LabelClassFactory(dataset=dataset, number=number, name=name, color=color)
        for number, (name, color, _) in enumerate(CLASSES, start=1)
    ]
    job = ProcessingJob.objects.create(
        name="Courtyard, first pass",
        dataset=dataset,
        created_by=owner,
        status=WorkStatus.COMPLETED,
        progress=1,
        started_at=timezone.now(),
        finished_at=timezone.now(),
        config={"confidence_threshold": 0.3},
        stages=["extraction", "segmentation", "reconstruction", "tracking"],
        segmenter="geometric",
        code_version="fovea 0.1.0",
        classes=[{"id": row.pk, "number": row.number, "name": row.name, "color": row.color} for row in classes],
    )
    for position in range(sequences):
        _make_sequence(job, classes, position, frames, size, extension, boxes_3d)
    return job


def _make_sequence(
    job: ProcessingJob,
    classes: list[LabelClass],
    position: int,
    frames: int,
    size: tuple[int, int],
    extension: str,
    boxes_3d: bool,
) -> None:
    width, height = size
    lens = camera(width, height)
    sequence = Sequence.objects.create(
        job=job,
        position=position,
        name=f"walk_{position}",
        source_path=f"/recordings/walk_{position}.svo2",
        sha256=f"{position:064x}",
        camera=lens.to_json(),
        metric=True,
    )
    layout = SequenceLayout(Path(settings.JOBS_ROOT) / str(job.pk) / sequence.name)
    for folder in ("image_left", "image_right", "depth", "velodyne", "calib", "detections/masks", "label_2"):
        (layout.root / folder).mkdir(parents=True)
    tracks = [
        Track.objects.create(
            sequence=sequence,
            number=number,
            label_class=classes[thing.kind],
            first_number=0,
            last_number=frames - 1,
            detection_count=frames,
        )
        for number, thing in enumerate(THINGS, start=1)
    ]
    rows, masks, kept = [], [], []
    for number in range(frames):
        view = draw(number, lens, seed=position)
        cv2.imwrite(str(layout.image_left(number, extension)), view.left)
        cv2.imwrite(str(layout.image_right(number, extension)), np.roll(view.left, -4, axis=1))
        np.save(layout.depth(number), view.depth)
        layout.velodyne(number).write_bytes(np.zeros((8, 4), "<f4").tobytes())
        layout.calib(number).write_text(KittiCalibration.from_camera(lens).text())
        frame = Frame.objects.create(
            id=uuid.uuid5(sequence.pk, str(number)),
            job=job,
            sequence=sequence,
            number=number,
            source_index=number * 2,
            timestamp_ns=1_700_000_000_000_000_000 + number * 66_666_667,
            width=width,
            height=height,
            dhash=f"{number:016x}",
            motion_score=0.1,
            image_extension=extension,
            has_right=True,
            has_depth=True,
            depth_coverage=0.9,
        )
        kept.append(
            FrameRecord(
                number,
                frame.source_index,
                frame.timestamp_ns,
                width,
                height,
                frame.dhash,
                0.1,
                extension,
                has_right=True,
                has_depth=True,
                depth_coverage=0.9,
            ).to_json()
        )
        for instance, (place, mask, box) in enumerate(view.objects):
            cropped = CroppedMask.from_pixels(mask)
            assert cropped is not None
            layout.mask(number, instance).write_bytes(cropped.png(width, height))
            rows.append(
                Detection(
                    job=job,
                    frame=frame,
                    instance=instance,
                    label_class=classes[THINGS[place].kind],
                    track=tracks[place],
                    confidence=round(0.95 - 0.11 * place - 0.002 * number, 4),
                    x=cropped.left,
                    y=cropped.top,
                    width=cropped.width,
                    height=cropped.height,
                    area=int(mask.sum()),
                    points_used=int(mask.sum()),
                    occluded=place % 3,
                    **(_box_columns(box) if boxes_3d else {}),
                )
            )
            masks.append(cropped)
    write_json(layout.registry, {"version": 1, "frames": kept})
    write_json(layout.calibration, lens.to_json())
    rows = Detection.objects.bulk_create(rows)
    DetectionMask.objects.bulk_create(
        DetectionMask(detection=row, left=m.left, top=m.top, width=m.width, height=m.height, counts=m.counts)
        for row, m in zip(rows, masks, strict=True)
    )


def _box_columns(box: np.ndarray) -> dict[str, Any]:
    names = ("location_x", "location_y", "location_z", "height_m", "width_m", "length_m", "rotation_y")
    return dict(zip(names, map(float, box), strict=True))


@dataclass(frozen=True)
class Drawing:
    left: np.ndarray
    depth: np.ndarray
    objects: list[tuple[int, np.ndarray, np.ndarray]]
    """(place in THINGS, mask bool (H, W), box (7,)), nearest last drawn, in the order of THINGS."""


def draw(number: int, lens: RectifiedCamera, seed: int = 0) -> Drawing:
    width, height = lens.width, lens.height
    v, u = np.mgrid[0:height, 0:width].astype(np.float32)
    ray_y = (v - lens.cy) / lens.fy
    ground = np.where(ray_y > 0.02, CAMERA_HEIGHT / np.maximum(ray_y, 0.02), np.inf)
    z = np.minimum(ground, 200)
    x = (u - lens.cx) / lens.fx * z
    checker = (np.floor(x) + np.floor(z)) % 2
    sky = np.clip(v / max(lens.cy, 1), 0, 1)
    haze = np.exp(-z / 45)
    base = 95 + 26 * checker * haze
    on_ground = np.isfinite(ground)
    sky_bgr = (235 - 25 * sky, 214 - 8 * sky, 190 + 20 * sky)
    image = np.stack([np.where(on_ground, base * c, s) for c, s in zip((0.92, 1.0, 1.04), sky_bgr, strict=True)], -1)
    noise = np.random.default_rng(seed * 1000 + number).normal(0, 3, (height, width, 1))
    image = np.clip(image + noise, 0, 255).astype(np.uint8)
    depth = np.where(ground < 40, ground, np.nan).astype(np.float32)
    owner = np.full((height, width), -1)
    boxes = [thing.box(number) for thing in THINGS]
    for place in sorted(range(len(THINGS)), key=lambda i: -boxes[i][2]):
        corners = box_corners(boxes[place][None])[0]
        pixels = corners[:, :2] / corners[:, 2:] * (lens.fx, lens.fy) + (lens.cx, lens.cy)
        color = np.array([int(CLASSES[THINGS[place].kind][1][i : i + 2], 16) for i in (5, 3, 1)], float)
        for face, light in FACES:
            shade = np.clip(color * light, 0, 255).tolist()
            cv2.fillConvexPoly(image, np.int32(np.round(pixels[list(face)] * 16)), shade, cv2.LINE_AA, 4)
        hull = cv2.convexHull(np.int32(np.round(pixels)))
        mask = np.zeros((height, width), np.uint8)
        cv2.fillConvexPoly(mask, hull, 1)
        owner[mask > 0] = place
        depth[mask > 0] = corners[:, 2].min() + 0.1
    depth[:, : max(2, width // 40)] = np.nan
    objects = [(place, owner == place, boxes[place]) for place in range(len(THINGS)) if (owner == place).sum() > 3]
    return Drawing(image, depth, objects)
