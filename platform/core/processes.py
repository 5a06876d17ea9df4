"""Processes that die with their parent, and a supervisor that keeps them alive."""

import ctypes
import logging
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

logger = logging.getLogger(__name__)
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies (prctl(2)); survives exec."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass(slots=True)
class Child:
    """A command that is to run always: started again when it dies, at once at first, then ever more slowly."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    pass_fds: tuple[int, ...] = ()
    process: "subprocess.Popen[bytes] | None" = None
    _started: float = 0.0
    _delay: float = 0.0

    MAX_DELAY = 30.0
    STEADY_SECONDS = 8.0

    def tend(self) -> None:
        """Start it if it does not run and is due."""
        now = time.monotonic()
        if self.process is not None:
            code = self.process.poll()
            if code is None:
                return
            self._end_group()
            lived = now - self._started
            self._delay = 0.5 if lived > self.STEADY_SECONDS else min(max(0.5, self._delay * 2), self.MAX_DELAY)
            logger.warning("The %s process ended (%s); starting it again in %.1f s", self.name, code, self._delay)
            self.process = None
            self._started = now
        if now >= self._started + self._delay:
            self._start()

    def _start(self) -> None:
        self._started = time.monotonic()
        self.process = subprocess.Popen(
            self.command,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            pass_fds=self.pass_fds,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )

    def stop(self) -> None:
        """Ask it to end: its main process only (a SIGTERM to all of a cluster makes it hang)."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def kill(self) -> None:
        if self.process is not None:
            self._end_group()
            self.process.wait()

    def _end_group(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)  # type: ignore[union-attr]
        except ProcessLookupError:
            return


def stop_all(children: Sequence[Child], grace_seconds: float) -> None:
    """Ask all to end, wait, and kill what is left."""
    for child in children:
        child.stop()
    deadline = time.monotonic() + grace_seconds
    while time.monotonic() < deadline and any(child.process and child.process.poll() is None for child in children):
        time.sleep(0.05)
    for child in children:
        child.kill()
