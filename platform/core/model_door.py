"""The socket behind which models are kept warm: a worker holds it, and starts the process behind it when somebody asks.

As with socket activation: a connection waits in the socket until the process is there, also while it starts anew.
"""

import fcntl
import os
import select
import socket
import sys
from pathlib import Path
from typing import IO

from django.conf import settings

from core.processes import Child
from pipeline.segmentation.model_client import short_address


def address() -> Path:
    """Where the models of this installation are asked for on this machine."""
    return Path(settings.HOME) / "run" / f"models-{socket.gethostname()}.sock"


class ModelDoor:
    """One worker of a machine holds it; the others try again now and then, should that one be gone."""

    def __init__(self) -> None:
        self._lock: IO[str] | None = None
        self._listener: socket.socket | None = None
        self._child: Child | None = None

    def open(self) -> bool:
        """Hold the socket, unless another worker does. True if it is held."""
        if self._listener is not None:
            return True
        place = address()
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = place.with_suffix(".lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            return False
        place.unlink(missing_ok=True)  # a dead worker's
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            with short_address(place) as short:
                listener.bind(short)
        finally:
            os.umask(before)
        listener.listen(64)
        listener.setblocking(False)
        listener.set_inheritable(True)
        self._lock, self._listener = lock, listener
        fd = listener.fileno()
        command = [sys.executable, str(Path(sys.argv[0]).resolve()), "model_server", f"--fd={fd}"]
        self._child = Child("models", command, pass_fds=(fd,))
        return True

    @property
    def waited_at(self) -> list[socket.socket]:
        """What to wait for: the socket, while there is nobody behind it who would answer."""
        return [] if self._listener is None or self._is_served else [self._listener]

    @property
    def _is_served(self) -> bool:
        process = self._child.process if self._child else None
        return process is not None and process.poll() is None

    def tend(self) -> None:
        """Start the process if somebody waits and there is none; one that dies at once is started ever more slowly."""
        if self._listener is None or self._child is None or self._is_served:
            return
        if select.select([self._listener], [], [], 0)[0]:
            self._child.tend()

    def close(self) -> None:
        if self._child is not None:
            self._child.kill()
        if self._listener is not None:
            self._listener.close()
            address().unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()
        self._lock = self._listener = self._child = None
