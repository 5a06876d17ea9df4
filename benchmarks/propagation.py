"""Masks carried through a video without weights: how well they fit, frame by frame, and how fast.

    python -m benchmarks.propagation [FOLDER] [--pictures OUT]

FOLDER (default: FOVEA_TEST_DATA or ../shared/data) holds vos_schoolgirls: 80 frames, the masks of seven objects (four
girls, three backpacks) in each. Given are the masks of the first frame alone (backward: of the last). J is the
intersection over union of found and true pixels; "objects" is its mean over the seven objects, which compete and hide
one another; "one mask" is that of all seven as a single object. Beside `classical`: the first mask held, and the mask
carried by plain DIS flow (medium). Exits with 1 where forward, over all frames, either J of `classical` is below 0.5.

The rank correlation says how well the confidence that comes with each mask orders the masks by their true J.
--pictures writes what was found as PNG files, also for the clips of video_sam2 from a GrabCut mask of a box.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import spearmanr

from pipeline.segmentation.base import Prompt
from pipeline.segmentation.classical import Classical

Labels = NDArray[np.uint8]
"""(H, W): 0 for the background, else the id of the object."""
Direction = Literal["forward", "backward"]

TARGET = 0.5
BLOCK = 10
CLIPS = {
    "bedroom.mp4": {1: (0.148, 0.244, 0.305, 0.756), 2: (0.32, 0, 0.54, 0.745)},
    "01_dog.mp4": {1: (0.175, 0.3, 0.36, 0.772), 2: (0.347, 0.522, 0.55, 0.761)},
    "03_blocks.mp4": {1: (0.09, 0, 0.332, 0.417), 2: (0.381, 0.175, 0.453, 0.317), 3: (0.528, 0.764, 0.598, 0.889)},
}
"""Boxes x1 y1 x2 y2 in the first frame, in shares of width and height: people, a dog, a hand and two blocks."""


def read_frames(path: Path, most: int = 10_000) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        found = []
        for frame in container.decode(video=0):
            found.append(frame.to_ndarray(format="bgr24"))
            if len(found) == most:
                break
    return found


def read_labels(folder: Path) -> list[Labels]:
    return [np.array(Image.open(path)) for path in sorted(folder.glob("*.png"))]


def held(frames: list[NDArray[np.uint8]], first: Labels) -> Iterator[Labels]:
    for _ in frames:
        yield first


def flowed(frames: list[NDArray[np.uint8]], first: Labels) -> Iterator[Labels]:
    """Every object's mask carried by flow from frame to frame; the likeliest wins."""
    flow: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    ids = np.unique(first)
    planes = (first[..., None] == ids).astype(np.float32)
    rows, columns = np.mgrid[: first.shape[0], : first.shape[1]].astype(np.float32)
    before = None
    for frame in frames:
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        if before is not None:
            back = flow.calc(grey, before, None)
            planes = cv2.remap(planes, columns + back[..., 0], rows + back[..., 1], cv2.INTER_LINEAR)
        before = grey
        yield ids[planes.argmax(axis=2)]


def classical(
    frames: list[NDArray[np.uint8]], first: Labels, direction: Direction = "forward"
) -> Iterator[tuple[Labels, dict[int, float]]]:
    """Labels and confidences, in the order of propagation."""
    start = 0 if direction == "forward" else len(frames) - 1
    prompts = {(start, int(each)): Prompt(mask=first == each) for each in np.unique(first) if each}
    for found in Classical().propagate(frames, prompts, direction):
        labels = np.zeros_like(first)
        for object_id, logits in found.logits.items():
            labels[logits > 0] = object_id
        yield labels, found.confidence


def jaccard(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    union = int((found | true).sum())
    return float((found & true).sum() / union) if union else 1.0


def per_object(found: Labels, true: Labels, ids: list[int]) -> list[float]:
    return [jaccard(found == each, true == each) for each in ids]


def print_row(label: str, scores: list[float], seconds: float) -> None:
    blocks = "".join(f"{np.mean(scores[start : start + BLOCK]):7.3f}" for start in range(0, len(scores), BLOCK))
    print(f"{label:<34}{np.mean(scores):7.3f} |{blocks} | {1000 * seconds / len(scores):5.0f} ms")


def compare(folder: Path, direction: Direction) -> tuple[float, float]:
    """Prints all rows of one direction: J of `classical` over the objects, and as one mask."""
    frames, truth = read_frames(folder / "schoolgirls.mp4"), read_labels(folder / "schoolgirls_mask")
    in_order = slice(None) if direction == "forward" else slice(None, None, -1)
    true = truth[in_order]
    ids = [int(each) for each in np.unique(true[0]) if each]
    single = [(labels > 0).astype(np.uint8) for labels in true]
    print(f"\n{direction:<34}{'mean J':>7} | of each {BLOCK} frames{'':<{7 * len(true) // BLOCK - 18}} | per frame")
    means = []
    for name, masks, which in (("objects", true, ids), ("one mask", single, [1])):
        for label, carry in (("first mask held", held), ("DIS flow", flowed)):
            start = time.perf_counter()
            scores = [
                float(np.mean(per_object(found, labels, which)))
                for found, labels in zip(carry(frames[in_order], masks[0]), masks, strict=True)
            ]
            print_row(f"{name}: {label}", scores, time.perf_counter() - start)
        start = time.perf_counter()
        rows, sure = [], []
        for (found, confidence), labels in zip(classical(frames, masks[0], direction), masks, strict=True):
            rows.append(per_object(found, labels, which))
            sure.append([confidence[each] for each in which])
        print_row(f"{name}: classical", [float(np.mean(row)) for row in rows], time.perf_counter() - start)
        means.append(float(np.mean(rows)))
        if len(which) > 1:
            each = "  ".join(f"{i}: {score:.2f}" for i, score in zip(which, np.mean(rows, axis=0), strict=True))
            order = spearmanr(np.ravel(rows[1:]), np.ravel(sure[1:])).statistic
            print(f"{'':<34}of each object {each}; confidence orders them with rank correlation {order:.2f}")
    return means[0], means[1]


def drawn(image: NDArray[np.uint8], masks: Mapping[int, NDArray[np.bool_]], text: str) -> NDArray[np.uint8]:
    shown = image.copy()
    for number, mask in masks.items():
        colour = np.array(cv2.applyColorMap(np.uint8([[37 * number % 256]]), cv2.COLORMAP_HSV)[0, 0], float)
        shown[mask] = (0.5 * shown[mask] + 0.5 * colour).astype(np.uint8)
        outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(shown, outlines, -1, colour.tolist(), 1)
    cv2.putText(shown, text, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return shown


def write_pictures(folder: Path, out: Path) -> None:
    """A sheet of eight frames for each clip of video_sam2, from GrabCut in the first, and for the schoolgirls."""
    out.mkdir(parents=True, exist_ok=True)
    clips: list[tuple[str, list[NDArray[np.uint8]], dict[tuple[int, int], Prompt]]] = []
    for name, boxes in CLIPS.items():
        frames = read_frames(folder / "video_sam2" / name, most=120)
        size = np.array([frames[0].shape[1], frames[0].shape[0]] * 2)
        prompts = {}
        for number, box in boxes.items():
            prompts[0, number] = Prompt(box_xyxy=np.array(box) * size)
        clips.append((name, frames, prompts))
    girls = folder / "vos_schoolgirls"
    labels = read_labels(girls / "schoolgirls_mask")[0]
    clips.append(
        (
            "schoolgirls",
            read_frames(girls / "schoolgirls.mp4"),
            {(0, int(each)): Prompt(mask=labels == each) for each in np.unique(labels) if each},
        )
    )
    for name, frames, prompts in clips:
        picked = {int(each) for each in np.linspace(0, len(frames) - 1, 8)}
        cells = []
        for found in Classical().propagate(frames, prompts):
            if found.frame in picked:
                sure = " ".join(f"{key}:{value:.2f}" for key, value in found.confidence.items())
                masks = {key: logits > 0 for key, logits in found.logits.items()}
                cell = drawn(frames[found.frame], masks, f"{found.frame}  {sure}")
                cells.append(cv2.resize(cell, (480, 480 * cell.shape[0] // cell.shape[1])))
        sheet = np.vstack([np.hstack(cells[start : start + 2]) for start in range(0, 8, 2)])
        cv2.imwrite(str(out / f"{Path(name).stem}.png"), sheet)
        print(f"wrote {out / Path(name).stem}.png")


def main() -> int:
    parser = argparse.ArgumentParser(description="Masks carried through a video without weights")
    default = os.environ.get("FOVEA_TEST_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("folder", nargs="?", type=Path, default=Path(default))
    parser.add_argument("--pictures", type=Path)
    arguments = parser.parse_args()
    if arguments.pictures:
        write_pictures(arguments.folder, arguments.pictures)
        return 0
    forward = compare(arguments.folder / "vos_schoolgirls", "forward")
    compare(arguments.folder / "vos_schoolgirls", "backward")
    met = min(forward) >= TARGET
    print(f"\nforward, mean J at least {TARGET}: {'yes' if met else 'NO'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
