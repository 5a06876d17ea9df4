import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.diversity.hashing import dhash, hamming

hexadecimal = st.integers(0, 2**64 - 1).map(lambda value: f"{value:016x}")


def gradient(rising: bool) -> np.ndarray:
    ramp = np.linspace(0, 255, 320).astype(np.uint8)
    return np.repeat(np.tile(ramp if rising else ramp[::-1], (180, 1))[..., None], 3, axis=2)


@pytest.mark.parametrize(("rising", "expected"), [(True, "f" * 16), (False, "0" * 16)])
def test_each_bit_says_that_a_pixel_is_brighter_than_its_left_neighbour(rising, expected):
    assert dhash(gradient(rising)) == expected


def test_bits_run_row_by_row_from_the_highest():
    image = gradient(rising=False)
    image[: 180 // 8] = gradient(rising=True)[: 180 // 8]
    # The hash sees 8 rows: only the first one rises.
    assert dhash(image).startswith("ff")
    assert dhash(image)[4:] == "0" * 12


def test_a_change_of_exposure_changes_few_bits_and_another_picture_many():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 200, (9, 16, 3), np.uint8)
    image = np.kron(coarse, np.ones((40, 40, 1), np.uint8))
    other = np.kron(rng.integers(0, 200, (9, 16, 3), np.uint8), np.ones((40, 40, 1), np.uint8))
    assert hamming(dhash(image), dhash(image + np.uint8(20))) <= 2
    assert hamming(dhash(image), dhash(other)) > 12


@given(hexadecimal, hexadecimal)
def test_hamming_is_a_distance(a, b):
    assert hamming(a, a) == 0
    assert hamming(a, b) == hamming(b, a) == bin(int(a, 16) ^ int(b, 16)).count("1")
