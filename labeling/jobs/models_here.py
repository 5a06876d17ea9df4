"""The model files of this installation: which of the known ones are here, whole, and what could use them."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from labeling.jobs import segmenters

SEGMENTER_OF = {"sam2": "sam2", "sam2.1": "sam2", "edgetam": "sam2", "sam3": "sam3", "deeplab": "deeplab"}
"""The segmenter that a family of checkpoints serves; of the others none runs in this version."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A known checkpoint. path, size_bytes, sha256: of what is here, else empty. problem: why it cannot be used."""

    name: str
    family: str
    size: str
    segmenter: str
    licence: str
    megabytes: int
    gated: bool
    how_to_get: str
    path: str = ""
    size_bytes: int = 0
    sha256: str = ""
    problem: str = ""

    @property
    def state(self) -> str:
        return "damaged" if self.problem else "here" if self.path else "not here"


def model_files() -> list[ModelFile]:
    """Every known checkpoint, those that are here hashed (once: the cache remembers it)."""
    from pipeline.segmentation import weights

    return [_model_file(name, weights) for name in weights.CATALOGUE]


def _model_file(name: str, weights: Any) -> ModelFile:
    from pipeline.errors import SegmenterUnavailableError

    known = weights.CATALOGUE[name]
    facts = {
        "name": name,
        "family": known.family,
        "size": known.size,
        "segmenter": SEGMENTER_OF.get(known.family, ""),
        "licence": known.licence,
        "megabytes": known.megabytes,
        "gated": known.gated,
        "how_to_get": weights.how_to_get(name),
    }
    found = weights.find(name, settings.MODELS_FOLDERS)
    if found is None:
        return ModelFile(**facts)
    sha256 = problem = ""
    try:
        sha256 = weights.check(found, settings.MODELS_FOLDERS)
    except SegmenterUnavailableError as error:
        problem = str(error)
    size = found.weights.stat().st_size
    return ModelFile(**facts, path=str(found.weights), size_bytes=size, sha256=sha256, problem=problem)


def other_files() -> list[dict[str, Any]]:
    """What else lies in the models folders and is big enough to be a model: {"path", "size_bytes"}."""
    known = {item.path for item in model_files()}
    kinds = {".pt", ".pth", ".onnx", ".tflite", ".safetensors", ".npz"}
    found = [
        path
        for folder in settings.MODELS_FOLDERS
        for path in sorted(Path(folder).rglob("*"))
        if path.suffix in kinds and ".cache" not in path.parts and str(path) not in known
    ]
    return [{"path": str(path), "size_bytes": path.stat().st_size} for path in found]


def overview() -> dict[str, Any]:
    """All of it as JSON values: what `manage.py models list --json` prints."""
    return {
        "folders": [{"path": str(folder), "exists": folder.is_dir()} for folder in settings.MODELS_FOLDERS],
        "checkpoints": [asdict(item) | {"state": item.state} for item in model_files()],
        "other_files": other_files(),
        "segmenters": segmenters.statuses(),
    }
