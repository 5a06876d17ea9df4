import pytest

from core.errors import FieldError
from labeling.datasets.naming import check_pattern, filled, numbered, safe_filename


@pytest.mark.parametrize(
    ("given", "safe"),
    [
        ("a.svo2", "a.svo2"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows\\system32.svo2", "system32.svo2"),
        ("/absolute/b.mp4", "b.mp4"),
        ("C:\\videos\\c.mp4", "c.mp4"),
        ("d\x00.svo2", "d_.svo2"),
        (".hidden.svo2", "hidden.svo2"),
        ("..", "recording"),
        ("", "recording"),
        ("a b;rm -rf $HOME.svo2", "a b_rm -rf _HOME.svo2"),
        ("con.svo2", "_con.svo2"),
        ("Straße 1.svo2", "Straße 1.svo2"),
        ("new\nline.mp4", "new_line.mp4"),
    ],
)
def test_a_file_name_from_outside_is_made_harmless(given, safe):
    assert safe_filename(given) == safe


def test_a_name_of_any_length_fits_the_file_system():
    name = safe_filename("ü" * 5000 + ".svo2")
    assert len(name.encode()) <= 160
    assert name.endswith(".svo2")


def test_a_pattern_is_filled_in_and_keeps_the_suffix():
    values = {"name": "drive", "number": 7, "serial": "123", "kind": "svo2", "date": "2026-01-14", "dataset": "a/b"}
    assert filled("{date}_{serial}_{number:04d}", values, ".svo2") == "2026-01-14_123_0007.svo2"
    assert "/" not in filled("{dataset}-{name}", values, ".svo2")


@pytest.mark.parametrize(
    "pattern",
    [
        "{name.__class__}",
        "{name[0]}",
        "{name!r}",
        "{number:999999999d}",
        "{unknown}",
        "{0}",
        "{",
        "fixed",
        "../{name}",
        "{name:>99999999}",
    ],
)
def test_a_pattern_that_could_do_harm_or_mean_nothing_is_refused(pattern):
    with pytest.raises(FieldError) as error:
        check_pattern(pattern)
    assert "rename" in error.value.errors


def test_the_second_file_of_a_name_gets_a_number():
    assert numbered("drive.svo2", 2) == "drive-2.svo2"
