"""Objects through a video: each frame is read and encoded once, each object remembers for itself, nothing piles up."""

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from pipeline.segmentation.automatic_masks import enlarged
from pipeline.segmentation.base import FrameReader, Prompt, Propagated
from pipeline.segmentation.sam2.network import Features, Memory, Network, Seen, pointer_of

Encode = Callable[[NDArray[np.uint8]], Features]


def propagate(
    network: Network,
    encode: Encode,
    frames: FrameReader,
    prompts: Mapping[tuple[int, int], Prompt],
    direction: Literal["forward", "backward"],
) -> Iterator[Propagated]:
    """As pipeline.segmentation.base.VideoSegmenter says. A frame that cannot be read is given without objects.

    Raises ValueError where a prompt names a frame there is not, or holds nothing.
    """
    count, reverse = len(frames), direction == "backward"
    if wrong := [frame for frame, _ in prompts if not 0 <= frame < count]:
        raise ValueError(f"a prompt names frame {wrong[0]}, but there are {count}")
    if not prompts:
        return
    prompted = [frame for frame, _ in prompts]
    order = range(max(prompted), -1, -1) if reverse else range(min(prompted), count)
    memories: dict[int, Memory] = {}
    for frame in order:
        try:
            image = frames[frame]
        except PipelineError:
            yield Propagated(frame, {}, {})
            continue
        here = {each: prompt for (at, each), prompt in prompts.items() if at == frame}
        seen = _step(network, encode, memories, frame, image, here, count, reverse)
        yield Propagated(
            frame,
            {each: _at_size(found, image.shape[:2]) for each, found in seen.items()},
            {each: _confidence(found) for each, found in seen.items()},
        )


def _step(
    network: Network,
    encode: Encode,
    memories: dict[int, Memory],
    frame: int,
    image: NDArray[np.uint8],
    here: Mapping[int, Prompt],
    count: int,
    reverse: bool,
) -> dict[int, Seen]:
    features = encode(image)
    for each in here:
        memories.setdefault(each, network.memory(count))
    seen = {}
    for each, memory in sorted(memories.items()):
        if each in here:
            pointer = pointer_of(here[each], (image.shape[0], image.shape[1]), network.side)
            seen[each] = memory.prompt(frame, features, pointer, reverse=reverse)
        else:
            seen[each] = memory.track(frame, features, reverse=reverse)
    return seen


def _at_size(seen: Seen, shape: tuple[int, ...]) -> NDArray[np.float16]:
    return np.clip(enlarged(seen.logits, (shape[0], shape[1])), -1024, 1024).astype(np.float16)


def _confidence(seen: Seen) -> float:
    return float(1 / (1 + np.exp(-np.clip(seen.score, -50, 50))))
