"""Work spread over threads whose results come back in order, a bounded number ahead of whoever takes them."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_END = object()


def ordered_map(
    executor: Executor, function: Callable[[Item], Result], items: Iterable[Item], look_ahead: int
) -> Generator[Result, None, None]:
    """`map` over `executor`, at most `look_ahead` items ahead of the caller. Closing it cancels what has not begun."""
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(executor.submit(function, item))
            if len(pending) >= look_ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def read_ahead(items: Iterator[Item], capacity: int) -> Generator[Item, None, None]:
    """Run an iterator in a thread of its own, at most `capacity` items ahead. Its exception is raised here, in turn.

    Closing this waits until the thread has ended, so that whatever `items` reads from may be closed afterwards.
    """
    slots: queue.Queue[object] = queue.Queue(capacity)
    stop = threading.Event()
    failure: list[BaseException] = []

    def put(item: object) -> bool:
        while not stop.is_set():
            try:
                slots.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(item):
                    return
        except BaseException as error:  # noqa: BLE001 - raised again where the items are taken
            failure.append(error)
        finally:
            put(_END)

    thread = threading.Thread(target=work, name="read-ahead", daemon=True)
    thread.start()
    try:
        while (item := slots.get()) is not _END:
            yield item  # type: ignore[misc]
        if failure:
            raise failure[0]
    finally:
        stop.set()
        thread.join()
