"""The main job, end to end, on a recording we make ourselves: what a user does, with a progress bar."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from core.models import LeasedWork, WorkStatus
from training import demo

WIDTH = 28


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
        folder = demo.recordings_folder()
        with _bar("Recording the scene", frames) as bar:
            recording = demo.record(folder, frames, lambda done, _total: _advance(bar, done))
        work = demo.Demo(recording)
        with _bar("Looking for recordings", 100) as bar:
            _wait(work.scan(), bar)
        with _bar("Preparing them", 100) as bar:
            _wait(work.prepare(), bar)
        job = work.process()
        with _bar("Processing", 100) as bar:
            _wait(job, bar)
        export = work.export(job)
        with _bar("Exporting KITTI and COCO", 100) as bar:
            _wait(export, bar)
        return work.result(job, export)

    @contextmanager
    def _application(self, port: int) -> Iterator[subprocess.Popen[bytes]]:
        """Web server and workers beside us, until the block ends."""
        manage = [sys.executable, str(Path(sys.argv[0]).resolve())]
        application = subprocess.Popen([*manage, "up", f"--port={port}"], stdout=subprocess.DEVNULL)
        try:
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


def _bar(title: str, total: int) -> "tqdm[Any]":
    return tqdm(
        total=total,
        desc=f"→ {title:<{WIDTH}}",
        bar_format="{desc} {bar:30} {percentage:3.0f} %  {elapsed}  {postfix}",
        ascii=" ━" if sys.stdout.isatty() else " #",
        file=sys.stdout,
        disable=None if sys.stdout.isatty() else False,
        mininterval=0.1 if sys.stdout.isatty() else 10,
    )


def _advance(bar: "tqdm[Any]", done: float) -> None:
    bar.update(done - bar.n)


def _wait(row: LeasedWork, bar: "tqdm[Any]") -> None:
    """Follow the workers' progress on `row` to its end."""
    while True:
        row.refresh_from_db()
        bar.set_postfix_str(getattr(row, "current_stage", "") or "", refresh=False)
        _advance(bar, round(100 * row.progress, 1))
        if row.status == WorkStatus.COMPLETED:
            bar.set_postfix_str("", refresh=False)
            _advance(bar, 100)
            return
        if row.status in (WorkStatus.FAILED, WorkStatus.CANCELLED, WorkStatus.PAUSED):
            raise CommandError(f"{row} is {row.status}. {row.error}")
        time.sleep(0.2)
