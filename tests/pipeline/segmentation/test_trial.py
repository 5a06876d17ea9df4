"""A segmenter is tried in a process of its own."""

from pipeline.segmentation.trial import attempt


def test_what_needs_no_weights_loads_and_runs(tmp_path):
    trial = attempt("geometric", [tmp_path])
    assert trial.error == ""
    assert trial.frame_s > 0


def test_what_cannot_load_says_why(tmp_path):
    assert "FOVEA_MODELS_DIR" in attempt("deeplab", [tmp_path]).error


def test_what_takes_too_long_is_ended(tmp_path):
    assert "within 0 seconds" in attempt("geometric", [tmp_path], timeout_s=0.01).error
