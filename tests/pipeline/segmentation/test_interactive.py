import cv2
import numpy as np
import pytest

from pipeline.errors import SegmenterUnavailableError
from pipeline.segmentation import device, interactive, weights
from pipeline.segmentation.base import Prompt
from pipeline.segmentation.interactive import Clicks
from pipeline.segmentation.warm import file_state
from tests.pipeline.segmentation.tiny_sam import save_sam2, save_sam3

CLICK = Prompt(points_xy=np.array([[60.0, 40.0]]), point_labels=np.array([1]))


@pytest.fixture(scope="module")
def sam_folder(tmp_path_factory):
    torch = pytest.importorskip("torch", reason="torch is not installed (extra `sam`)")
    pytest.importorskip("transformers", reason="transformers is not installed (extra `sam`)")
    return save_sam2(torch, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def sam3_folder(tmp_path_factory):
    torch = pytest.importorskip("torch", reason="torch is not installed (extra `sam`)")
    pytest.importorskip("transformers", reason="transformers is not installed (extra `sam`)")
    return save_sam3(torch, tmp_path_factory.mktemp("models"), tracker=True)


@pytest.fixture(autouse=True)
def _not_compiled(monkeypatch):
    monkeypatch.setenv("FOVEA_SAM_COMPILED", "no")
    monkeypatch.delenv("FOVEA_CACHE_DIR", raising=False)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    image = np.random.default_rng(0).integers(0, 255, (80, 120, 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), image)
    return path


def test_sam2_answers_clicks_and_is_loaded_once(sam_folder, picture):
    clicks = Clicks([sam_folder])
    first, second = (clicks.answer(picture, CLICK) for _ in range(2))
    assert (first.segmenter, first.embedded, second.embedded) == ("sam2", True, False)
    assert clicks.kept == 1
    assert [mask.rle for mask in first.masks] == [mask.rle for mask in second.masks]
    assert all(mask.rle["size"] == [80, 120] for mask in first.masks)


def test_a_size_that_is_not_here_is_stood_in_for(sam_folder, picture):
    assert Clicks([sam_folder]).answer(picture, CLICK, variant="large").segmenter == "sam2"


def test_without_weights_there_is_an_answer_all_the_same_unless_sam2_is_asked_for(tmp_path, picture):
    assert interactive.choose("auto", [tmp_path]) == "classical"
    with pytest.raises(SegmenterUnavailableError, match="FOVEA_MODELS_DIR"):
        Clicks([tmp_path]).answer(picture, CLICK, "sam2")


def test_what_is_derived_from_weights_does_not_make_them_new(sam_folder):
    before = file_state([sam_folder])
    assert any("model.safetensors" in name for name, _, _ in before)
    (sam_folder / ".cache").mkdir(exist_ok=True)
    (sam_folder / ".cache" / "derived.json").write_text("{}")
    weights.check(weights.find("sam2.1-tiny", [sam_folder]), [sam_folder])
    assert file_state([sam_folder]) == before
    (sam_folder / "new.pt").write_bytes(b"weights")
    assert file_state([sam_folder]) != before
    (sam_folder / "new.pt").unlink()


def test_sam3_answers_clicks_when_asked_to_and_of_itself_on_a_gpu(sam3_folder, picture, monkeypatch):
    answer = Clicks([sam3_folder]).answer(picture, CLICK, "sam3")
    assert answer.segmenter == "sam3"
    assert answer.masks
    assert all(mask.rle["size"] == [80, 120] for mask in answer.masks)
    monkeypatch.setattr(device, "runs_on_gpu", lambda: False)
    assert interactive.choose("auto", [sam3_folder]) == "classical"
    monkeypatch.setattr(device, "runs_on_gpu", lambda: True)
    assert interactive.choose("auto", [sam3_folder]) == "sam3"


def test_a_detector_without_its_tracker_takes_no_clicks(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch", reason="torch is not installed (extra `sam`)")
    pytest.importorskip("transformers", reason="transformers is not installed (extra `sam`)")
    save_sam3(torch, tmp_path)
    monkeypatch.setattr(device, "runs_on_gpu", lambda: True)
    assert interactive.choose("auto", [tmp_path]) == "classical"
    with pytest.raises(SegmenterUnavailableError, match="those of the detector alone"):
        interactive.choose("sam3", [tmp_path])
