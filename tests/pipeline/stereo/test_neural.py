import cv2
import numpy as np
import pytest

from benchmarks._stereo_scenes import middlebury
from pipeline.errors import DepthUnavailableError
from pipeline.stereo.camera import RectifiedCamera
from pipeline.stereo.matching import SemiGlobalMatcher
from pipeline.stereo.methods import check_depth_method, find_stereo_model, matcher_for, provenance
from pipeline.stereo.neural import NeuralMatcher, main
from tests.pipeline.stereo.stereo_networks import write_network

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

CAMERA = RectifiedCamera(640, 480, 400.0, 400.0, 320.0, 240.0, baseline=0.12, metric=True)
FIXED = (128, 256)


def shifted_pair(shift: int, height: int = 128, width: int = 256) -> tuple[np.ndarray, np.ndarray]:
    texture = np.random.default_rng(1).integers(0, 255, (height, width + shift, 3), dtype=np.uint8)
    texture = cv2.GaussianBlur(texture, (5, 5), 0)
    return texture[:, :width].copy(), texture[:, shift:].copy()


@pytest.mark.parametrize(
    "kind",
    [
        {"inputs": 2, "channels": 3},
        {"inputs": 2, "channels": 3, "size": FIXED, "output_channels": 2},
        {"inputs": 2, "channels": 1, "channels_last": True},
        {"inputs": 1, "channels": 1, "size": FIXED},
        {"inputs": 1, "channels": 3, "channels_last": True},
        {"inputs": 1, "channels": 3, "metadata": {"input_range": "255"}, "sharpness": 2.0},
    ],
)
def test_every_kind_of_network_gives_the_shift_of_a_shifted_pair(tmp_path, kind):
    matcher = NeuralMatcher(write_network(tmp_path / "stereo_small.onnx", **kind))
    match = matcher.measure(*shifted_pair(9))
    assert match.disparity.dtype == match.confidence.dtype == np.float32
    assert match.disparity.shape == match.confidence.shape == (128, 256)
    seen = np.s_[8:-8, 24:-24]
    assert np.nanmedian(match.disparity[seen]) == pytest.approx(9, abs=0.1)
    assert np.isfinite(match.disparity[seen]).mean() > 0.95
    assert np.median(match.confidence[seen]) > 0.95
    assert np.array_equal(match.confidence > 0, np.isfinite(match.disparity))


def test_what_only_one_eye_sees_has_no_disparity(tmp_path):
    matcher = NeuralMatcher(write_network(tmp_path / "stereo_small.onnx"))
    disparity = matcher.measure(*shifted_pair(20)).disparity
    assert np.isfinite(disparity[:, :12]).mean() < 0.1


def test_disparities_of_a_network_of_another_size_are_told_in_pixels_of_the_image(tmp_path):
    matcher = NeuralMatcher(write_network(tmp_path / "stereo_small.onnx", size=FIXED))
    left, right = (cv2.resize(image, (512, 256), interpolation=cv2.INTER_CUBIC) for image in shifted_pair(8))
    match = matcher.measure(left, right)
    assert match.disparity.shape == (256, 512)
    assert np.nanmedian(match.disparity) == pytest.approx(16, abs=0.3)


def test_sizes_that_are_no_multiple_of_64_are_filled_up_and_cut_off_again(tmp_path):
    matcher = NeuralMatcher(write_network(tmp_path / "stereo_small.onnx"))
    match = matcher.measure(*shifted_pair(7, 101, 203))
    assert match.disparity.shape == (101, 203)
    assert np.nanmedian(match.disparity) == pytest.approx(7, abs=0.1)


def test_a_real_pair_gives_mostly_right_disparities_and_the_wrong_ones_are_trusted_less(tmp_path, data_folder):
    scene = middlebury(data_folder)[1]
    matcher = NeuralMatcher(write_network(tmp_path / "stereo_small.onnx", sharpness=1.5))
    match = matcher.measure(scene.left, scene.right)
    known = np.isfinite(match.disparity) & np.isfinite(scene.truth)
    right = np.abs(match.disparity - scene.truth)[known] < 1
    assert known.mean() > 0.5
    assert right.mean() > 0.8
    assert match.confidence[known][right].mean() > match.confidence[known][~right].mean() + 0.1


def test_the_same_pair_gives_the_same_bytes(tmp_path):
    path = write_network(tmp_path / "stereo_small.onnx")
    pair = shifted_pair(5)
    first, second = (NeuralMatcher(path).measure(*pair) for _ in range(2))
    assert first.disparity.tobytes() == second.disparity.tobytes()
    assert first.confidence.tobytes() == second.confidence.tobytes()


def test_images_of_different_sizes_are_refused(tmp_path):
    matcher = NeuralMatcher(write_network(tmp_path / "stereo_small.onnx"))
    with pytest.raises(ValueError, match="left is"):
        matcher.measure(np.zeros((64, 64), np.uint8), np.zeros((64, 65), np.uint8))


def test_a_file_that_is_not_there_damaged_or_another_network_is_named(tmp_path):
    with pytest.raises(DepthUnavailableError, match=r"stereo_gone\.onnx is not there"):
        NeuralMatcher(tmp_path / "stereo_gone.onnx")

    cut = write_network(tmp_path / "stereo_cut.onnx")
    cut.write_bytes(cut.read_bytes()[:2000])
    with pytest.raises(DepthUnavailableError, match=r"stereo_cut\.onnx is damaged"):
        NeuralMatcher(cut)

    odd = write_network(tmp_path / "stereo_odd.onnx", channels=4)
    with pytest.raises(DepthUnavailableError, match=r"stereo_odd\.onnx is no stereo network: its inputs are left"):
        NeuralMatcher(odd)

    told = write_network(tmp_path / "stereo_told.onnx", metadata={"input_range": "7"})
    with pytest.raises(DepthUnavailableError, match=r"stereo_told\.onnx: input_range is '7'"):
        NeuralMatcher(told)

    wide = write_network(tmp_path / "stereo_wide.onnx", output_channels=5)
    with pytest.raises(DepthUnavailableError, match=r"stereo_wide\.onnx does not run: its output is \(1, 5"):
        NeuralMatcher(wide)


def test_a_network_whose_eyes_want_different_sizes_is_refused(tmp_path):
    path = write_network(tmp_path / "stereo_uneven.onnx", size=FIXED)
    model = onnx.load(path)
    model.graph.input[1].type.tensor_type.shape.dim[3].dim_value = 128
    onnx.save(model, path)
    with pytest.raises(DepthUnavailableError, match=r"stereo_uneven\.onnx"):
        NeuralMatcher(path)


def test_the_method_neural_is_checked_in_another_process_and_says_what_is_missing(tmp_path):
    check_depth_method("auto", [tmp_path])
    with pytest.raises(DepthUnavailableError, match=r"no stereo_\*\.onnx in any folder of FOVEA_MODELS_DIR"):
        check_depth_method("neural", [tmp_path])
    (tmp_path / "stereo_a.onnx").write_bytes(b"not a network")
    with pytest.raises(DepthUnavailableError, match=r"stereo_a\.onnx is damaged"):
        check_depth_method("neural", [tmp_path])
    write_network(tmp_path / "stereo_a.onnx")
    check_depth_method("neural", [tmp_path])


def test_the_first_network_by_folder_and_name_is_used_and_its_hash_is_told(tmp_path):
    for name in ("one/stereo_b.onnx", "one/stereo_a.onnx", "two/stereo_0.onnx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_network(tmp_path / name)
    folders = [tmp_path / "none", tmp_path / "one", tmp_path / "two"]
    assert find_stereo_model(folders) == tmp_path / "one/stereo_a.onnx"
    matcher = matcher_for("neural", CAMERA, folders)
    assert isinstance(matcher, NeuralMatcher)
    assert matcher.path.name == "stereo_a.onnx"
    assert isinstance(matcher_for("sgbm", CAMERA, folders), SemiGlobalMatcher)
    told = provenance("neural", folders)
    assert (told["model"], len(told["sha256"])) == ("stereo_a.onnx", 64)


def test_the_module_tells_on_the_command_line_what_is_wrong_with_a_file(tmp_path, capsys):
    assert main([str(write_network(tmp_path / "stereo_good.onnx"))]) == 0
    (tmp_path / "stereo_bad.onnx").write_bytes(b"")
    assert main([str(tmp_path / "stereo_bad.onnx")]) == 1
    assert capsys.readouterr().out.startswith("stereo_bad.onnx is damaged")
