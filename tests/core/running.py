"""A whole Fovea in processes of its own, with a home of its own: for tests that kill it.

It runs on SQLite without Redis, or, where DATABASE_URL or REDIS_URL are set, on a new database of that server
and on that Redis.
"""

import os
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

ROOT = Path(__file__).resolve().parents[2]


class Fovea:
    """`manage.py up` over `home`. `up()` starts it and waits until it answers."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self.port = _free_port()
        (home / "recordings").mkdir(parents=True, exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
        self.environment = {
            **kept,
            "FOVEA_HOME": str(home),
            "FOVEA_DATA_ROOTS": str(home / "recordings"),
            "DEBUG": "0",
            **environment,
        }
        self.database = ""
        if server := os.environ.get("DATABASE_URL", ""):
            self.database = f"fovea_{secrets.token_hex(6)}"
            self._on_server(server, f"CREATE DATABASE {self.database}")
            self.environment["DATABASE_URL"] = f"{server.rpartition('/')[0]}/{self.database}"
        if redis := os.environ.get("REDIS_URL", ""):
            self.environment["REDIS_URL"] = redis
        self.process: subprocess.Popen[bytes] | None = None
        self.log = home / "up.log"

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def up(self, *arguments: str) -> float:
        """Start it; gives the seconds until it was ready."""
        started = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "up", f"--port={self.port}", *arguments],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.wait(self.answers, 60)
        return time.monotonic() - started

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/healthz", timeout=1) as response:  # noqa: S310
                return response.status == 200
        except OSError:
            return False

    def wait(self, condition: Callable[[], Any], seconds: float) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"It ended by itself:\n{self.tail()}")
            if found := condition():
                return found
            time.sleep(0.05)
        raise AssertionError(f"Nothing happened for {seconds} s:\n{self.tail()}")

    def tail(self) -> str:
        return self.log.read_text()[-4000:]

    def manage(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments], cwd=ROOT, env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def shell(self, code: str) -> str:
        return self.manage("shell", "--no-imports", "-v", "0", "-c", code).strip()

    def query(self, sql: str, *parameters: Any) -> list[Any]:
        """Rows of the database, read past the application."""
        if self.database:
            with psycopg.connect(self.environment["DATABASE_URL"]) as found:
                return found.execute(sql.replace("?", "%s"), parameters).fetchall()
        connection = sqlite3.connect(f"file:{self.home}/fovea.sqlite3?mode=ro", uri=True, timeout=10)
        try:
            return connection.execute(sql, parameters).fetchall()
        finally:
            connection.close()

    def processes(self) -> dict[int, str]:
        """All processes of this home but our own: pid and command line."""
        found = {}
        mark = f"FOVEA_HOME={self.home}".encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                except OSError:
                    continue
        return found

    def pids(self, command: str) -> list[int]:
        return sorted(pid for pid, line in self.processes().items() if f"manage.py {command}" in line)

    def kill(self, command: str) -> None:
        """kill -9 of all processes of a command: "web", "worker", "up" (and with it all of them)."""
        for pid in self.pids(command):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def kill_everything(self) -> None:
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.ended()

    def remove(self) -> None:
        """Kill it and remove what it kept."""
        self.kill_everything()
        if self.database:
            self._on_server(os.environ["DATABASE_URL"], f"DROP DATABASE {self.database} WITH (FORCE)")
        shutil.rmtree(self.home, ignore_errors=True)

    @staticmethod
    def _on_server(url: str, statement: str) -> None:
        with psycopg.connect(f"{url.rpartition('/')[0]}/postgres", autocommit=True) as connection:
            connection.execute(statement)

    def ended(self) -> None:
        if self.process is not None:
            self.process.wait(timeout=15)
            self.process = None

    def stop(self) -> float:
        """SIGTERM, as Ctrl-C does; gives the seconds until all had ended."""
        started = time.monotonic()
        if self.process is not None:
            self.process.terminate()
            self.ended()
        return time.monotonic() - started

    def memory_pss(self) -> int:
        """Bytes of memory of all its processes, shared pages counted once."""
        total = 0
        for pid in self.processes():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        return total


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def session_of(fovea: Fovea, email: str) -> str:
    """The session cookie of a signed-in (new, if need be) user."""
    return fovea.shell(
        "from django.contrib.auth import SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY\n"
        "from django.contrib.sessions.backends.db import SessionStore\n"
        "from accounts.models import User\n"
        f"found = User.objects.filter(email={email!r}).first()\n"
        f"user = found or User.objects.create_user({email!r}, 'a long password')\n"
        "session = SessionStore()\n"
        "session[SESSION_KEY] = str(user.pk)\n"
        "session[BACKEND_SESSION_KEY] = 'django.contrib.auth.backends.ModelBackend'\n"
        "session[HASH_SESSION_KEY] = user.get_session_auth_hash()\n"
        "session.create()\n"
        "print(session.session_key)"
    ).splitlines()[-1]
