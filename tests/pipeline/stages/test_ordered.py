import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.stages.ordered import ordered_map, read_ahead


def test_results_come_in_order_whatever_finishes_first():
    with ThreadPoolExecutor(4) as pool:
        assert list(ordered_map(pool, lambda n: time.sleep((n % 3) / 200) or n * n, range(20), 4)) == [
            n * n for n in range(20)
        ]


def test_no_more_than_the_look_ahead_is_taken():
    taken = []

    def items():
        for n in range(100):
            taken.append(n)
            yield n

    with ThreadPoolExecutor(2) as pool:
        results = ordered_map(pool, str, items(), 3)
        assert next(results) == "0"
        assert len(taken) == 3
        results.close()


def test_an_exception_comes_at_its_place():
    with ThreadPoolExecutor(2) as pool:
        results = ordered_map(pool, lambda n: 1 // (n - 2), range(5), 3)
        assert [next(results), next(results)] == [-1, -1]
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_reading_ahead_yields_everything_and_then_the_failure():
    def items():
        yield 1
        yield 2
        raise OSError("unplugged")

    ahead = read_ahead(items(), 2)
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(OSError, match="unplugged"):
        next(ahead)


def test_closing_ends_the_thread_before_it_returns():
    def items():
        n = 0
        while True:
            yield n
            n += 1

    before = threading.active_count()
    ahead = read_ahead(items(), 2)
    assert next(ahead) == 0
    ahead.close()
    assert threading.active_count() == before
