"""Progress in the terminal: a bar for each step; where there is no terminal, a line for each step that ended."""

import sys
import time
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

WIDTH = 26


class ProgressBars:
    """One bar after the other. `show` is told what is done, how much of it, and out of how much."""

    def __init__(self) -> None:
        self._what = ""
        self._began = 0.0
        self._bar: tqdm[Any] | None = None

    def show(self, what: str, done: float, total: float, note: str = "") -> None:
        if what != self._what:
            self.close()
            self._what, self._began = what, time.monotonic()
            if sys.stdout.isatty():
                self._bar = tqdm(
                    total=total,
                    desc=f"→ {_title(what)}",
                    bar_format="{desc} {bar:30} {percentage:3.0f} %  {elapsed}  {postfix}",
                    ascii=" ━",
                    file=sys.stdout,
                )
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """End the step under way."""
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()
            self._bar = None
        elif self._what:
            print(f"→ {_title(self._what)} {time.monotonic() - self._began:6.1f} s", flush=True)  # noqa: T201
        self._what = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _title(what: str) -> str:
    return f"{what[:1].upper()}{what[1:]}".ljust(WIDTH)
