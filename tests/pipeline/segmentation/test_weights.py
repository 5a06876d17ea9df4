import json
import struct

import pytest

from pipeline.errors import SegmenterUnavailableError
from pipeline.segmentation import weights


def safetensors(path, tensors=None):
    """A file of that format, written by hand: the header, then the numbers."""
    tensors = tensors or {"weight": [4]}
    header, end = {}, 0
    for name, shape in tensors.items():
        size = 4 * shape[0]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))
    return path


@pytest.fixture
def folder(tmp_path):
    """A models folder with SAM 2.1 tiny as the hub gives it: the right files, four numbers instead of 39 million."""
    safetensors(tmp_path / "sam2.1-hiera-tiny" / "model.safetensors")
    (tmp_path / "sam2.1-hiera-tiny" / "config.json").write_text('{"model_type": "sam2_video"}')
    return tmp_path


def test_every_sam_has_a_name_a_size_a_place_and_a_licence():
    for name, each in weights.CATALOGUE.items():
        assert each.name == name
        assert each.size in ("tiny", "small", "base", "large")
        assert each.licence
        assert each.megabytes > 0
        assert each.places
        assert (each.url and each.sha256[each.file]) or each.repository
        assert name in weights.how_to_get(name)
    assert {each.name for each in weights.of_family(("sam2.1", "sam2"), "base")} == {"sam2.1-base", "sam2-base"}


def test_a_checkpoint_is_found_as_a_folder_and_as_a_file(folder, tmp_path_factory):
    found = weights.find("sam2.1-tiny", [tmp_path_factory.mktemp("empty"), folder])
    assert found.weights == folder / "sam2.1-hiera-tiny" / "model.safetensors"
    other = tmp_path_factory.mktemp("other")
    (other / "sam2.1_hiera_tiny.pt").write_bytes(b"")
    assert weights.find("sam2.1-tiny", [other, folder]).weights == other / "sam2.1_hiera_tiny.pt"
    assert weights.find("sam2.1-small", [other, folder]) is None


def test_half_a_folder_is_none(folder):
    (folder / "sam2.1-hiera-tiny" / "config.json").unlink()
    assert weights.find("sam2.1-tiny", [folder]) is None


def test_a_hash_is_computed_once_and_again_when_the_file_changes(folder):
    found = weights.find("sam2.1-tiny", [folder])
    first = weights.check(found, [folder])
    register = folder / ".cache" / "sha256.json"
    entry = json.loads(register.read_text())
    assert [each[2] for each in entry.values()] == [first]
    register.write_text(json.dumps({key: [*each[:2], "remembered"] for key, each in entry.items()}))
    assert weights.check(found, [folder]) == "remembered"
    safetensors(found.weights, {"weight": [5]})
    assert weights.check(found, [folder]) not in ("remembered", first)


def test_a_lost_or_spoilt_register_costs_nothing_but_time(folder):
    found = weights.find("sam2.1-tiny", [folder])
    first = weights.check(found, [folder])
    for content in (b"", b"{", b"[1]", b'{"a": 3}', b"\xff\xfe"):
        (folder / ".cache" / "sha256.json").write_bytes(content)
        assert weights.check(found, [folder]) == first


@pytest.mark.parametrize("cut", [3, 8, 20, -1])
def test_a_file_that_is_cut_short_is_refused(folder, cut):
    found = weights.find("sam2.1-tiny", [folder])
    found.weights.write_bytes(found.weights.read_bytes()[:cut])
    with pytest.raises(SegmenterUnavailableError, match=r"sam2.1-hiera-tiny/model.safetensors is damaged or cut short"):
        weights.check(found, [folder])


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, struct.pack("<Q", 40) + b"{]" * 30, bytes(64)])
def test_what_is_no_safetensors_file_is_refused(folder, content):
    found = weights.find("sam2.1-tiny", [folder])
    found.weights.write_bytes(content)
    with pytest.raises(SegmenterUnavailableError, match="damaged or cut short"):
        weights.check(found, [folder])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"model_type": "bert"}', r"belongs to another model: its model_type is 'bert', sam2.1-tiny has sam2_video"),
        ("[]", "not the configuration of a model"),
        ("{", "not the configuration of a model"),
        ("{}", "not the configuration of a model"),
    ],
)
def test_the_configuration_of_another_model_is_refused(folder, text, sentence):
    (folder / "sam2.1-hiera-tiny" / "config.json").write_text(text)
    with pytest.raises(SegmenterUnavailableError, match=sentence):
        weights.check(weights.find("sam2.1-tiny", [folder]), [folder])


def test_a_single_file_must_be_what_its_authors_published(tmp_path):
    path = tmp_path / "sam2.1_hiera_tiny.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(SegmenterUnavailableError, match=r"sam2.1_hiera_tiny.pt is damaged or cut short"):
        weights.check(weights.find("sam2.1-tiny", [tmp_path]), [tmp_path])
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(SegmenterUnavailableError, match=r"damaged or another version.*7402e0d8"):
        weights.check(weights.find("sam2.1-tiny", [tmp_path]), [tmp_path])


def test_what_is_derived_lies_below_the_models_or_where_the_setting_says(tmp_path, monkeypatch):
    monkeypatch.delenv("FOVEA_CACHE_DIR", raising=False)
    assert weights.cache_folder([tmp_path / "absent", tmp_path]) == tmp_path / ".cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert weights.cache_folder([]) == tmp_path / "fovea"
    monkeypatch.setenv("FOVEA_CACHE_DIR", str(tmp_path / "chosen"))
    assert weights.cache_folder([tmp_path]) == tmp_path / "chosen"
