"""Every path a job writes, in one place. The layout is the specification's, to the letter."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SequenceLayout:
    """The folder of one recording within one job: `{job_id}/{sequence}/`. Frame numbers count kept frames from 0."""

    root: Path

    @property
    def registry(self) -> Path:
        return self.root / "frame_registry.json"

    @property
    def imu(self) -> Path:
        return self.root / "imu.csv"

    @property
    def detections(self) -> Path:
        return self.root / "detections" / "detections.json"

    @property
    def masks(self) -> Path:
        return self.root / "detections" / "masks"

    def features(self, number: int, kind: str) -> Path:
        """float16 (instances, D): the segmenter's own features of one kind, for training class names (an addition)."""
        folder = kind.replace(":", "-").replace("/", "-v")
        return self.root / "detections" / "features" / folder / f"{number:06d}.npy"

    @property
    def tracks(self) -> Path:
        return self.root / "tracks.json"

    @property
    def calibration(self) -> Path:
        """The rectified cameras as JSON, beside the KITTI files (an addition to the specification)."""
        return self.root / "calib" / "calibration.json"

    @property
    def journals(self) -> Path:
        """Commits of stages under way and done; removed with the job, never exported."""
        return self.root / ".journal"

    def image_left(self, number: int, extension: str = "png") -> Path:
        return self.root / "image_left" / f"{number:06d}.{extension}"

    def image_right(self, number: int, extension: str = "png") -> Path:
        return self.root / "image_right" / f"{number:06d}.{extension}"

    def depth(self, number: int) -> Path:
        return self.root / "depth" / f"{number:06d}.npy"

    def confidence(self, number: int) -> Path:
        """How far each pixel's depth can be trusted (an addition to the specification)."""
        return self.root / "confidence" / f"{number:06d}.png"

    def velodyne(self, number: int) -> Path:
        return self.root / "velodyne" / f"{number:06d}.bin"

    def calib(self, number: int) -> Path:
        return self.root / "calib" / f"{number:06d}.txt"

    def uncertainty(self, number: int) -> Path:
        """8-bit grey, 0…255 for an uncertainty of 0…1, at a fraction of the image's size (an addition)."""
        return self.root / "uncertainty" / f"{number:06d}.png"

    def label(self, number: int) -> Path:
        return self.root / "label_2" / f"{number:06d}.txt"

    def mask(self, number: int, instance: int) -> Path:
        return self.masks / f"{number:06d}_{instance}.png"
