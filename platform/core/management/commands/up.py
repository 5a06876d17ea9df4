"""Run everything: web server and workers, supervised, in one command."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connection
from redis.exceptions import RedisError

from core import work
from core.processes import Child, stop_all

logger = logging.getLogger(__name__)
SWEEP_SECONDS = 2.0
GRACE_SECONDS = 8.0


class Command(BaseCommand):
    help = (
        "Run Fovea: web server and workers. Ctrl-C stops it cleanly; work that was under way goes on at the next start."
    )
    requires_system_checks: list[str] = []  # `migrate` makes them

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--web", type=int, default=1, help="web processes")
        parser.add_argument("--workers", type=int, default=2, help="workers of the default queue")
        parser.add_argument("--no-gpu", action="store_true", help="leave work of the gpu queue to other machines")

    def handle(self, *args: Any, host: str, port: int, web: int, workers: int, no_gpu: bool, **options: Any) -> None:
        self.stopping = False
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        listener = _listen(host, port)
        Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)  # else WhiteNoise warns of its absence
        manage = [sys.executable, str(Path(sys.argv[0]).resolve())]
        # In a process of its own: what it loads (all views, all migrations) would stay here for good.
        if code := subprocess.run([*manage, "migrate", "--no-input", "--verbosity=0"], check=False).returncode:
            raise CommandError("The database could not be brought up to date.", returncode=code)
        work.sweep()
        fd = listener.fileno()
        serve = Child("web", [*manage, "web", f"--fd={fd}"], pass_fds=(fd,))
        children = [Child(f"web {number}", serve.command, pass_fds=(fd,)) for number in range(1, web + 1)]
        if workers:
            environment = {"Q_CLUSTER_NAME": "default", "FOVEA_WORKERS": str(workers)}
            children.append(Child("worker", [*manage, "worker"], environment))
        gpu = None if no_gpu else Child("gpu worker", [*manage, "worker", "--queue=gpu"], {"Q_CLUSTER_NAME": "gpu"})
        try:
            self._supervise(children, gpu, listener.getsockname()[1], host)
        finally:
            self.stdout.write("Stopping…")
            self.stdout.flush()
            stop_all([*children, gpu] if gpu else children, GRACE_SECONDS)
            listener.close()

    def _stop(self, number: int, frame: object) -> None:
        self.stopping = True

    def _supervise(self, children: list[Child], gpu: Child | None, port: int, host: str) -> None:
        announced = False
        swept = time.monotonic()
        gpu_wanted = False
        while not self.stopping:
            for child in children:
                child.tend()
            if gpu is not None and gpu_wanted:
                gpu.tend()
            if not announced and _answers(port, host):
                address = "localhost" if host in ("127.0.0.1", "0.0.0.0") else host  # noqa: S104 - compared, not bound
                self.stdout.write(
                    self.style.SUCCESS(f"Fovea is running at http://{address}:{port}/  (Ctrl-C stops it)")
                )
                self.stdout.flush()
                announced = True
            now = time.monotonic()
            if now - swept > SWEEP_SECONDS:
                swept = now
                try:
                    work.sweep()
                    # A worker for the GPU queue holds memory: it is started with the first work there is for it.
                    gpu_wanted = gpu_wanted or "gpu" in work.waiting_queues()
                except (DatabaseError, OSError, RedisError):
                    logger.exception("The sweep failed; trying again")
                    connection.close()
            time.sleep(0.1)


def _listen(host: str, port: int) -> socket.socket:
    """The socket all web processes share: connections wait in it while one of them starts again."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        raise CommandError(
            f"Cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}. Choose another --port."
        ) from error
    listener.listen(256)
    listener.set_inheritable(True)
    return listener


def _answers(port: int, host: str) -> bool:
    address = "127.0.0.1" if host in ("127.0.0.1", "0.0.0.0") else f"[{host}]" if ":" in host else host  # noqa: S104
    request = urllib.request.Request(f"http://{address}:{port}/healthz", headers={"Host": "localhost"})
    try:
        with urllib.request.urlopen(request, timeout=0.5):  # noqa: S310 - http to ourselves
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
