"""The main job, end to end, on a recording we make ourselves: what a user does, with a progress bar."""

import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from core.models import LeasedWork, WorkStatus
from training import demo
from training.terminal import ProgressBars


class Command(BaseCommand):
    help = "Record a small moving scene, label it, track it, export it, score it, and serve the result."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--frames", type=int, default=demo.FRAMES, help="length of the recording")
        parser.add_argument("--no-serve", action="store_true", help="stop when the result is there")

    def handle(self, *args: Any, port: int, frames: int, no_serve: bool, **options: Any) -> None:
        began = time.monotonic()
        self.stdout.write("→ Preparing the database and the first sign-in")
        call_command("migrate", interactive=False, verbosity=0)
        call_command("ensure_admin", "--generate", "--email", demo.EMAIL, stdout=_Silent())
        with self._application(port) as application:
            result = self._run(frames)
            self._report(result, time.monotonic() - began)
            if no_serve:
                return
            self.stdout.write(self.style.SUCCESS(f"  Open     http://localhost:{port}{result.page}"))
            self.stdout.write(
                f"  Sign in  {demo.EMAIL}\n  Password {_password()}\n\n  Ctrl-C stops it; `make up` serves it again."
            )
            self.stdout.flush()
            try:
                application.wait()
            except KeyboardInterrupt:
                application.wait(timeout=30)

    def _run(self, frames: int) -> demo.Result:
        with ProgressBars() as bars:
            recording = demo.record(
                demo.recordings_folder(), frames, lambda done, total: bars.show("recording the scene", done, total)
            )
            work = demo.Demo(recording)
            _wait(work.scan(), "looking for recordings", bars)
            _wait(work.prepare(), "preparing them", bars)
            job = work.process()
            _wait(job, "processing", bars)
            export = work.export(job)
            _wait(export, "exporting KITTI and COCO", bars)
        return work.result(job, export)

    @contextmanager
    def _application(self, port: int) -> Iterator[subprocess.Popen[bytes]]:
        """Web server and workers beside us, until the block ends."""
        manage = [sys.executable, str(Path(sys.argv[0]).resolve())]
        application = subprocess.Popen([*manage, "up", f"--port={port}"], stdout=subprocess.PIPE)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what we started ends with us
        try:
            if not application.stdout or not application.stdout.readline():  # where it listens, as soon as it does
                raise CommandError("The web application did not start.")
            # What it prints later (mails, without a mail server) is for the person at the terminal.
            printing = (application.stdout, sys.stdout.buffer, 1)
            threading.Thread(target=shutil.copyfileobj, args=printing, daemon=True).start()
            yield application
        finally:
            if application.poll() is None:
                application.terminate()
                application.wait(timeout=30)

    def _report(self, result: demo.Result, seconds: float) -> None:
        self.stdout.write("")
        for name, value in result.rows(seconds):
            self.stdout.write(f"  {name:<24} {value}")
        self.stdout.write("")


class _Silent:
    """Where ensure_admin's words go: the demo says the sign-in at its end."""

    def write(self, _text: str) -> None:
        pass


def _password() -> str:
    kept = settings.HOME / "admin_password"
    return kept.read_text().splitlines()[1] if kept.exists() else "(the one you chose)"


def _wait(row: LeasedWork, what: str, bars: ProgressBars) -> None:
    """Follow the workers' progress on `row` to its end."""
    while row.status == WorkStatus.RUNNING:
        bars.show(what, row.progress, 1, getattr(row, "current_stage", ""))
        time.sleep(0.2)
        row.refresh_from_db()
    if row.status != WorkStatus.COMPLETED:
        raise CommandError(f"{row} is {row.status}. {row.error}")
    bars.show(what, 1, 1)
