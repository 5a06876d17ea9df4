"""Reading hostile files in a process of their own: whatever a decoder does to it, the one who asked gets an answer.

The child is this module run as a program: one JSON request per line in, one JSON answer per line out. It ends itself
when its time is up, when it asks for too much memory, and when the one who asked is gone.
"""

import json
import math
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

MEMORY_LIMIT: Final = 8 * 1024**3
"""Address space of the child; far above what a sound recording needs, and below what a forged header asks for."""
WAIT_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Probe:
    """What a recording turned out to be. `error` is a sentence, and then `metadata` is empty.

    `metadata` has the fields of pipeline.recordings.base.RecordingMetadata, `calibration` those of
    pipeline.stereo.calibration.StereoCalibration; None means that none was found.
    """

    path: str
    error: str = ""
    code: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] | None = None
    calibration_error: str = ""

    @property
    def warnings(self) -> list[str]:
        found = list(self.metadata.get("warnings", ()))
        return [*found, self.calibration_error] if self.calibration_error else found

    @property
    def truncated(self) -> bool:
        return bool(self.metadata.get("truncated"))


class Prober:
    """Probes recordings one after another in a child process, which is started anew whenever a file killed it."""

    def __init__(self, calibration_folders: Iterable[Path] = (), timeout: float = 30) -> None:
        self.timeout = timeout
        self._folders = [str(folder) for folder in calibration_folders]
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._end()

    def probe(self, path: Path, *, waiting: Callable[[], None] | None = None) -> Probe:
        """Open the recording at `path`. Calls `waiting` every few seconds; what that raises ends the probe."""
        request = {"path": str(path), "calibration_folders": self._folders, "seconds": int(self.timeout) + 2}
        try:
            line = self._ask(json.dumps(request).encode() + b"\n", waiting)
        except TimeoutError:
            self._end()
            return Probe(
                str(path), f"{path.name} could not be read within {self.timeout:g} seconds.", "recording_timeout"
            )
        except BaseException:
            self._end()
            raise
        if not line:
            self._end()
            return Probe(str(path), f"{path.name} is damaged so badly that its reader crashed.", "recording_unreadable")
        return Probe(**json.loads(line))

    def _ask(self, request: bytes, waiting: Callable[[], None] | None) -> bytes:
        """The child's answer; empty if it died."""
        if self._child is None or self._child.poll() is not None:
            self._child = self._start()
        assert self._child.stdin and self._child.stdout  # noqa: S101 - both are pipes
        try:
            self._child.stdin.write(request)
            self._child.stdin.flush()
        except BrokenPipeError:
            return b""
        deadline = time.monotonic() + self.timeout
        while not select.select([self._child.stdout], [], [], max(0, min(WAIT_SECONDS, deadline - time.monotonic())))[
            0
        ]:
            if time.monotonic() >= deadline:
                raise TimeoutError
            if waiting is not None:
                waiting()
        return self._child.stdout.readline()

    @staticmethod
    def _start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"},
        )

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None


def _answer(request: dict[str, Any]) -> Probe:
    from pipeline.errors import PipelineError
    from pipeline.recordings import open_recording

    path = Path(request["path"])
    folders = [Path(folder) for folder in request["calibration_folders"]]
    try:
        with open_recording(path, calibration_folders=folders) as recording:
            metadata = asdict(recording.metadata)
            try:
                calibration, calibration_error = recording.calibration, ""
            except PipelineError as error:
                calibration, calibration_error = None, str(error)
    except PipelineError as error:
        return Probe(str(path), str(error), error.code)
    except MemoryError:
        return Probe(str(path), f"{path.name} asks for more memory than a recording may have.", "recording_too_large")
    except OSError as error:
        return Probe(str(path), f"{path.name} cannot be read: {error.strerror}.", "recording_unreadable")
    except Exception as error:  # noqa: BLE001 - the border to third-party decoders: a scan goes on whatever they raise
        return Probe(str(path), f"{path.name} cannot be read ({type(error).__name__}).", "recording_unreadable")
    found = asdict(calibration) if calibration else None
    return Probe(str(path), metadata=metadata, calibration=found, calibration_error=calibration_error)


def _plain(value: Any) -> Any:
    """`value` as any database keeps it in JSON: without NaN, infinities, NUL and lone surrogates."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    return str(value).replace("\x00", "").encode("utf-8", "replace").decode()


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # What libraries print must not stand between the answers.
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        request = json.loads(line)
        signal.alarm(request["seconds"])
        answers.write(json.dumps(_plain(asdict(_answer(request)))) + "\n")
        answers.flush()
        signal.alarm(0)


if __name__ == "__main__":
    _serve()
