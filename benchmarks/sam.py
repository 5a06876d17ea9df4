"""SAM 2 on a CPU: the network as torch runs it (the baseline), and compiled by what is installed.

    python -m benchmarks.sam

The architecture is the whole SAM 2.1 tiny at 1024 pixels, with random weights: the arithmetic is that of the real one,
the masks mean nothing. Times are medians of runs that take turns, so that a machine that is busy is so for all.

- "encoder": one image to features. "click": one point to three masks. "16 prompts": one batch of the automatic masks.
- "a frame": what automatic masks of one frame then take, encoder and all prompts of the grid.
- "error": the largest difference of a compiled part to the network, relative to its largest value.

Targets: the fastest compiled encoder at least TARGET times as fast as the baseline; every error below
fast_network.TOLERANCE.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.segmentation.sam2 import fast_network
from pipeline.segmentation.sam2.segmenter import GRID_ON_CPU

TARGET = 1.5
RUNS = 3
AT_ONCE = 16


def network() -> Any:
    import torch
    from transformers import Sam2VideoModel

    from pipeline.segmentation.sam2.architecture import ARCHITECTURES, transformers_config
    from pipeline.segmentation.sam2.transformers_network import TransformersNetwork

    torch.manual_seed(0)
    model = Sam2VideoModel(transformers_config("sam2.1", ARCHITECTURES["tiny"])).eval().requires_grad_(False)
    return TransformersNetwork(model, torch.device("cpu"))


def timed(works: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each, after one run that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for run in range(RUNS + 1):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            if run:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(each) for name, each in seconds.items()}


def main() -> int:
    if not all(find_spec(each) for each in ("torch", "transformers")):
        print("torch or transformers is not installed (extra `sam`): nothing to measure")
        return 0
    import torch

    from pipeline.segmentation import device

    eager = network()
    engines: dict[str, Any] = {"eager (baseline)": eager}
    errors: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for runtime in fast_network.RUNTIMES:
            if find_spec(runtime) is None:
                continue
            fast = fast_network.build(eager, "0" * 64, Path(folder), runtime)
            made = next(Path(folder).rglob(f"*{runtime}*/made.json"), None)
            if fast is None or made is None:
                print(f"{runtime}: it could not be compiled")
                errors[runtime] = float("inf")
                continue
            told = json.loads(made.read_text())
            engines[runtime], errors[runtime] = fast, max(told["errors"].values())
            print(f"{runtime}: compiled once in {told['seconds']:.0f} s")
        with torch.inference_mode(), device.precision(eager.device):
            numbers = measured(engines, eager)
    print(f"\n{'':<20}{'encoder':>12}{'click':>12}{f'{AT_ONCE} prompts':>12}{'a frame':>12}{'error':>12}")
    base = numbers["eager (baseline)"]
    for name, (encoder, click, batch) in numbers.items():
        frame = encoder + batch * GRID_ON_CPU**2 / AT_ONCE
        error = f"{errors[name]:>12.1e}" if name in errors else f"{'':>12}"
        print(f"{name:<20}{encoder:>10.2f} s{1000 * click:>9.0f} ms{1000 * batch:>9.0f} ms{frame:>10.1f} s{error}")
    best = max((base[0] / encoder for name, (encoder, _, _) in numbers.items() if name in errors), default=0.0)
    click = max((base[1] / click for name, (_, click, _) in numbers.items() if name in errors), default=0.0)
    print(f"\nencoder {best:.2f} times as fast as the baseline (target {TARGET}), click {click:.2f} times")
    return 0 if best >= TARGET and max(errors.values()) <= fast_network.TOLERANCE else 1


def measured(engines: dict[str, Any], eager: Any) -> dict[str, tuple[float, float, float]]:
    import torch

    pixels = torch.randn(1, 3, eager.side, eager.side)
    features = eager.encode(pixels)
    points = torch.rand(AT_ONCE, 1, 2) * eager.side
    labels = torch.ones(AT_ONCE, 1, dtype=torch.int32)

    def decode(engine: Any, count: int) -> Callable[[], object]:
        return lambda: engine.decode(features, points[:count], labels[:count], several=True)

    encoder = timed({name: (lambda engine=engine: engine.encode(pixels)) for name, engine in engines.items()})
    click = timed({name: decode(engine, 1) for name, engine in engines.items()})
    batch = timed({name: decode(engine, AT_ONCE) for name, engine in engines.items()})
    return {name: (encoder[name], click[name], batch[name]) for name in engines}


if __name__ == "__main__":
    sys.exit(main())
