"""User-given paths reach nothing outside the configured folders."""

from pathlib import Path

import pytest

from core.paths import PathError, list_folder, resolve_allowed, resolve_stored


@pytest.fixture
def recordings(settings) -> Path:
    return settings.DATA_ROOTS[0]


@pytest.fixture
def outside(tmp_path) -> Path:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    return secret


def test_what_lies_below_a_root_is_found_by_its_absolute_or_relative_path(recordings):
    (recordings / "drive").mkdir()
    (recordings / "drive" / "a.svo2").touch()
    assert resolve_allowed(recordings / "drive" / "a.svo2") == recordings / "drive" / "a.svo2"
    assert resolve_allowed("drive/a.svo2") == recordings / "drive" / "a.svo2"
    assert resolve_allowed(str(recordings)) == recordings


def test_a_link_between_two_places_inside_is_followed(recordings):
    (recordings / "real.svo2").touch()
    (recordings / "link.svo2").symlink_to(recordings / "real.svo2")
    assert resolve_allowed("link.svo2") == recordings / "real.svo2"


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("", "Give a path"),
        ("../secret.txt", "climb"),
        ("drive/../../secret.txt", "climb"),
        ("/etc/passwd", "outside"),
        ("a\x00b", "characters"),
        ("a\ud800b", "characters"),
        ("missing.svo2", "does not exist"),
        ("x" * 5000, "cannot be followed|does not exist"),
        ("~root/x", "does not exist"),
    ],
)
def test_hostile_paths_get_one_sentence_that_names_the_field(recordings, path, complaint):
    with pytest.raises(PathError, match=complaint) as refused:
        resolve_allowed(path, field="source_folder")
    assert list(refused.value.errors) == ["source_folder"]


def test_links_that_lead_outside_are_refused(recordings, outside):
    (recordings / "file.svo2").symlink_to(outside)
    (recordings / "folder").symlink_to(outside.parent)
    (recordings / "loop").symlink_to(recordings / "loop")
    for path in ("file.svo2", "folder/secret.txt", "folder", "loop"):
        with pytest.raises(PathError):
            resolve_allowed(path)


def test_a_sibling_whose_name_begins_alike_is_outside(recordings):
    sibling = recordings.with_name(recordings.name + "-private")
    sibling.mkdir()
    with pytest.raises(PathError, match="outside"):
        resolve_allowed(sibling)


def test_what_is_outside_is_refused_in_the_same_words_whether_or_not_it_exists(recordings, outside):
    with pytest.raises(PathError) as there:
        resolve_allowed(outside)
    with pytest.raises(PathError) as absent:
        resolve_allowed(outside.with_name("nothing.txt"))
    assert there.value.detail.replace("secret", "nothing") == absent.value.detail


def test_own_media_is_reached_through_rows_but_not_by_a_path_someone_types(settings):
    upload = settings.UPLOADS_ROOT / "a.svo2"
    upload.parent.mkdir(parents=True)
    upload.touch()
    assert resolve_stored(upload) == upload
    with pytest.raises(PathError, match="outside"):
        resolve_allowed(upload)


def test_folders_list_folders_first_without_hidden_entries_or_links_outside(recordings, outside):
    (recordings / "b.svo2").write_bytes(b"123")
    (recordings / "A.svo2").touch()
    (recordings / "drive").mkdir()
    (recordings / ".hidden").touch()
    (recordings / "leak.txt").symlink_to(outside)
    (recordings / "broken").symlink_to(recordings / "nowhere")
    listing = list_folder(str(recordings))
    assert [entry.name for entry in listing.entries] == ["drive", "A.svo2", "b.svo2"]
    assert [entry.size_bytes for entry in listing.entries] == [0, 0, 3]
    assert (listing.parent, listing.truncated) == (None, False)
    assert list_folder("drive").parent == recordings


def test_no_path_lists_the_roots_that_exist(recordings, settings):
    settings.DATA_ROOTS = [recordings, recordings / "absent"]
    assert [entry.path for entry in list_folder().entries] == [recordings]


def test_a_long_folder_is_cut_and_says_so(recordings):
    for number in range(5):
        (recordings / f"{number}.svo2").touch()
    listing = list_folder(recordings, limit=3)
    assert (len(listing.entries), listing.truncated) == (3, True)
    assert not list_folder(recordings, limit=5).truncated


def test_a_file_is_no_folder_to_list(recordings):
    (recordings / "a.svo2").touch()
    with pytest.raises(PathError, match="is not a folder"):
        list_folder("a.svo2")
