"""The checkpoints Fovea knows: what they are called, where they come from, whether those here are what they should be.

Nothing of this loads a model library: the web process asks it too. A checkpoint lies in one of the models folders, as
one file under the name its authors gave it (`sam2.1_hiera_tiny.pt`), or as a folder named like its repository on the
hub, with `config.json` and `model.safetensors` inside.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pipeline.errors import SegmenterUnavailableError
from pipeline.storage.atomic import write_json

SETTING: Final = "FOVEA_MODELS_DIR"
CACHE_SETTING: Final = "FOVEA_CACHE_DIR"
CONFIG_FILE: Final = "config.json"
FOLDER_WEIGHTS: Final = "model.safetensors"
_META: Final = "https://dl.fbaipublicfiles.com/segment_anything_2"
_MOST_HEADER: Final = 64 * 1024 * 1024
"""Bytes that the header of a safetensors file may have; SAM 3's has a fraction of one per cent of it."""

Progress = Callable[[int, int], None]
"""Told the bytes that are there and the bytes there will be (0: not known)."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One set of weights that somebody publishes.

    family and size: what a job asks for. megabytes: of the download. file and url: the single file and where its
    authors serve it. repository and folder_files: its repository on the hub, and the files there that are needed.
    sha256: file name to what its content must be, where that is known; what is not known is registered on first
    sight. model_types: the values of `model_type` that its config.json may have. gated: the hub wants an account
    that was granted access.
    """

    name: str
    family: str
    size: str
    licence: str
    megabytes: int
    file: str = ""
    url: str = ""
    repository: str = ""
    folder_files: tuple[str, ...] = ()
    sha256: Mapping[str, str] = field(default_factory=dict)
    model_types: tuple[str, ...] = ()
    gated: bool = False

    @property
    def folder(self) -> str:
        """Name of the folder that holds the hub's files; empty if the hub does not have them."""
        return self.repository.rpartition("/")[2]

    @property
    def places(self) -> str:
        """The names under which it is looked for, for a sentence."""
        names = [f"{self.folder}/{FOLDER_WEIGHTS}"] if self.folder else []
        return " or ".join([self.file, *names] if self.file else names)


@dataclass(frozen=True, slots=True)
class Found:
    """A checkpoint that is there. weights: the file with the numbers; config: its config.json, None for one file."""

    checkpoint: Checkpoint
    weights: Path
    config: Path | None = None


_SAM2: Final = {
    "sam2.1_hiera_tiny.pt": (156, "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69"),
    "sam2.1_hiera_small.pt": (184, "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38"),
    "sam2.1_hiera_base_plus.pt": (324, "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5"),
    "sam2.1_hiera_large.pt": (898, "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318"),
    "sam2_hiera_tiny.pt": (156, "65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125"),
    "sam2_hiera_small.pt": (184, "95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3"),
    "sam2_hiera_base_plus.pt": (323, "d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071"),
    "sam2_hiera_large.pt": (898, "7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b"),
}
"""Megabytes and SHA-256 of what Meta serves."""


def _sam2(file: str, megabytes: int, sha256: str) -> Checkpoint:
    family, _, part = file.removesuffix(".pt").partition("_hiera_")
    release = "092824" if family == "sam2.1" else "072824"
    size = part.removesuffix("_plus")
    return Checkpoint(
        name=f"{family}-{size}",
        family=family,
        size=size,
        licence="Apache-2.0",
        megabytes=megabytes,
        file=file,
        url=f"{_META}/{release}/{file}",
        repository=f"facebook/{family}-hiera-{part.replace('_', '-')}",
        folder_files=(CONFIG_FILE, FOLDER_WEIGHTS),
        sha256={file: sha256},
        model_types=("sam2_video", "sam2"),
    )


_ALL: Final = (
    *(_sam2(file, *rest) for file, rest in _SAM2.items()),
    Checkpoint(
        name="edgetam",
        family="edgetam",
        size="tiny",
        licence="Apache-2.0",
        megabytes=56,
        repository="yonigozlan/EdgeTAM-hf",
        folder_files=(CONFIG_FILE, FOLDER_WEIGHTS),
        model_types=("edgetam_video",),
    ),
    Checkpoint(
        name="sam3",
        family="sam3",
        size="large",
        licence="SAM License",
        megabytes=3440,
        repository="facebook/sam3",
        folder_files=(CONFIG_FILE, "tokenizer.json", FOLDER_WEIGHTS),
        model_types=("sam3_video", "sam3"),
        gated=True,
    ),
    Checkpoint(
        name="deeplab",
        family="deeplab",
        size="tiny",
        licence="Apache-2.0",
        megabytes=2,
        file="deeplabv3_mnv2_pascal_quant.tflite",
        url="https://raw.githubusercontent.com/google-coral/test_data/master/deeplabv3_mnv2_pascal_quant.tflite",
        sha256={
            "deeplabv3_mnv2_pascal_quant.tflite": "350af47fd346ea6d74b58833a351f583ba860e9806ec5bd292ff8d8f1f249398"
        },
    ),
)
CATALOGUE: Final[dict[str, Checkpoint]] = {each.name: each for each in _ALL}
"""Every checkpoint that can be used here, by name."""


def of_family(families: Sequence[str], size: str) -> list[Checkpoint]:
    """The checkpoints of that size, in the order of `families`."""
    return [each for family in families for each in CATALOGUE.values() if (each.family, each.size) == (family, size)]


def find(name: str, models_folders: Sequence[Path]) -> Found | None:
    """Where the checkpoint of that name lies; None if it is in none of the folders. Looks at names, not into files."""
    checkpoint = CATALOGUE[name]
    for folder in models_folders:
        config, weights = folder / checkpoint.folder / CONFIG_FILE, folder / checkpoint.folder / FOLDER_WEIGHTS
        if checkpoint.folder and config.is_file() and weights.is_file():
            return Found(checkpoint, weights, config)
        if checkpoint.file and (folder / checkpoint.file).is_file():
            return Found(checkpoint, folder / checkpoint.file)
    return None


def check(found: Found, models_folders: Sequence[Path] = ()) -> str:
    """The SHA-256 of the weights, after everything that can be checked without a model library.

    Hashed once: the result is kept in the cache folder under path, size and time of change. Raises
    SegmenterUnavailableError naming the file where it is cut short, damaged, or of another model.
    """
    path = found.weights
    _well_formed(found)
    sha256 = _remembered_sha256(path, cache_folder(models_folders) / "sha256.json")
    expected = found.checkpoint.sha256.get(path.name)
    if expected and sha256 != expected:
        raise SegmenterUnavailableError(
            f"{path.name} is damaged or another version (its SHA-256 is not {expected[:12]}…): "
            f"fetch it again into the folder of {SETTING}."
        )
    return sha256


def fetch(
    name: str, folder: Path, *, progress: Progress = lambda _done, _total: None, token: str | None = None
) -> Found:
    """Bring a checkpoint into `folder`, going on where an earlier attempt ended, and check it.

    token: of the hub, for a gated one. Raises SegmenterUnavailableError saying what stood in the way; a file that
    does not have the SHA-256 it should have is not left there.
    """
    from pipeline.segmentation import download

    download.checkpoint(CATALOGUE[name], folder, progress, token)
    found = find(name, [folder])
    if found is None:
        raise SegmenterUnavailableError(f"{name}: the download ended without {CATALOGUE[name].places}.")
    try:
        check(found, [folder])
    except SegmenterUnavailableError:
        found.weights.unlink()
        raise
    return found


def how_to_get(name: str) -> str:
    """What a person has to do to have it, in a sentence or two."""
    each = CATALOGUE[name]
    gate = " Its makers must grant your account access first, then set HF_TOKEN." if each.gated else ""
    return (
        f"Run `manage.py models get {name}` ({each.megabytes:,} MB, {each.licence}), "
        f"or put {each.places} into a folder of {SETTING}.{gate}"
    )


def cache_folder(models_folders: Sequence[Path]) -> Path:
    """Where what is derived from weights is kept: hashes, exported encoders. It can be deleted at any time."""
    if chosen := os.environ.get(CACHE_SETTING):
        return Path(chosen)
    for folder in models_folders:
        if folder.is_dir() and os.access(folder, os.W_OK):
            return folder / ".cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fovea"


def read_header(path: Path) -> dict[str, Any]:
    """The tensors of a safetensors file by name: {"dtype", "shape", "data_offsets"}.

    Raises SegmenterUnavailableError if the file is not one, or cut short.
    """
    damaged = SegmenterUnavailableError(
        f"{path.parent.name}/{path.name} is damaged or cut short: fetch it again into the folder of {SETTING}."
    )
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(size - 8, _MOST_HEADER):
            raise damaged
        try:
            header = json.loads(stream.read(length))
            tensors = {name: each for name, each in header.items() if name != "__metadata__"}
            end = max((int(each["data_offsets"][1]) for each in tensors.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise damaged from error
    if size != 8 + length + end:
        raise damaged
    return tensors


def read_config(found: Found) -> dict[str, Any]:
    """The config.json beside the weights, {} for a single file.

    Raises SegmenterUnavailableError if it is the configuration of another model.
    """
    if found.config is None:
        return {}
    name = f"{found.config.parent.name}/{found.config.name}"
    try:
        config = json.loads(found.config.read_text())
        model_type = config["model_type"]
    except (ValueError, KeyError, TypeError) as error:
        raise SegmenterUnavailableError(f"{name} is not the configuration of a model: it has no model_type.") from error
    if model_type not in found.checkpoint.model_types:
        raise SegmenterUnavailableError(
            f"{name} belongs to another model: its model_type is {model_type!r}, "
            f"{found.checkpoint.name} has {' or '.join(found.checkpoint.model_types)}."
        )
    return dict(config)


def _well_formed(found: Found) -> None:
    if found.config is not None:
        read_config(found)
        read_header(found.weights)
    elif found.weights.suffix == ".pt" and not zipfile.is_zipfile(found.weights):
        raise SegmenterUnavailableError(
            f"{found.weights.name} is damaged or cut short (not a checkpoint of PyTorch): "
            f"fetch it again into the folder of {SETTING}."
        )


def _remembered_sha256(path: Path, register: Path) -> str:
    stat = path.stat()
    key, seen = str(path.resolve()), [stat.st_size, stat.st_mtime_ns]
    try:
        known = dict(json.loads(register.read_text()))
    except (OSError, ValueError, TypeError):
        known = {}
    entry = known.get(key)
    if isinstance(entry, list) and entry[:2] == seen and len(entry) == 3:
        return str(entry[2])
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    try:
        write_json(register, known | {key: [*seen, sha256]}, shared=True)
    except OSError:
        return sha256  # a cache that cannot be written costs time, nothing else
    return sha256
