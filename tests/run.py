"""Run every test this machine can run: quick ones, then slow and browser ones, then PostgreSQL.

A service or browser that is absent means skipped tests with a reason, never a red run.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
POSTGRES_URL = os.environ.get("FOVEA_TEST_POSTGRES_URL", "postgres://postgres@127.0.0.1:5432/postgres")
DATABASE_TESTS = ("tests/accounts", "tests/core", "tests/labeling", "tests/training", "tests/test_access_matrix.py")
SLOW = "(slow or browser) and not gpu and not zed"


def pytest(title: str, *arguments: str, **environment: str) -> bool:
    print(f"→ {title}", flush=True)
    command = [sys.executable, "-m", "pytest", "-q", *arguments]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=False).returncode in (0, 5)


def postgres_answers() -> bool:
    try:
        socket.create_connection(("127.0.0.1", 5432), timeout=1).close()
    except OSError:
        return "FOVEA_TEST_POSTGRES_URL" in os.environ
    return True


def main() -> int:
    passed = [
        pytest("Quick tests (SQLite, no Redis)", "-n", "2"),
        # A file's tests stay together: many share a running application.
        pytest("Slow and browser tests", "-m", SLOW, "-n", "2", "--dist=loadfile"),
    ]
    if postgres_answers():
        passed.append(pytest("Database tests on PostgreSQL", "-n", "2", *DATABASE_TESTS, DATABASE_URL=POSTGRES_URL))
    else:
        print("→ Skipped the database tests on PostgreSQL: no server on 127.0.0.1:5432 (FOVEA_TEST_POSTGRES_URL)")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
