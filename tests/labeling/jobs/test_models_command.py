"""`manage.py models`: what is here, what could use it, how to get the rest, and whether it really works."""

import json
import shutil

import pytest
from django.core.management import CommandError, call_command

from pipeline.segmentation.registry import DEEPLAB_FILE, DEEPLAB_SHA256


@pytest.fixture
def folder(settings, tmp_path):
    settings.MODELS_FOLDERS = [tmp_path / "models", tmp_path / "absent"]
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.fixture
def deeplab(folder, models_folder):
    return shutil.copy(models_folder / DEEPLAB_FILE, folder / DEEPLAB_FILE)


def run(capsys, *arguments):
    call_command("models", *arguments)
    return capsys.readouterr().out


def listed(capsys):
    overview = json.loads(run(capsys, "list", "--json"))
    return overview, {item["name"]: item for item in overview["checkpoints"]}


def test_without_any_weights_it_says_how_to_get_each(folder, capsys):
    overview, known = listed(capsys)
    assert [item["exists"] for item in overview["folders"]] == [True, False]
    assert {item["state"] for item in known.values()} == {"not here"}
    assert all("models get" in item["how_to_get"] for item in known.values())
    by_name = {item["name"]: item for item in overview["segmenters"]}
    assert by_name["geometric"]["available"]
    assert DEEPLAB_FILE in by_name["deeplab"]["reason"]
    text = run(capsys, "list")
    assert "sam2.1-tiny" in text
    assert "Apache-2.0" in text


def test_what_is_here_is_told_with_its_hash(deeplab, folder, capsys):
    (folder / "own.onnx").write_bytes(b"x" * 10)
    overview, known = listed(capsys)
    here = known["deeplab"]
    assert (here["state"], here["sha256"], here["path"]) == ("here", DEEPLAB_SHA256, str(deeplab))
    assert overview["other_files"] == [{"path": str(folder / "own.onnx"), "size_bytes": 10}]
    assert DEEPLAB_SHA256[:12] in run(capsys, "list")


def test_a_damaged_file_is_told_and_fails_the_check(deeplab, capsys):
    with open(deeplab, "r+b") as stream:  # noqa: PTH123 - a str from copy
        stream.seek(1000)
        stream.write(b"\xff" * 64)
    _, known = listed(capsys)
    assert known["deeplab"]["state"] == "damaged"
    assert "SHA-256" in known["deeplab"]["problem"]
    with pytest.raises(CommandError, match="Not all of it works"):
        run(capsys, "check")
    assert f"{DEEPLAB_FILE} is damaged" in capsys.readouterr().out


def test_a_check_loads_the_model_in_a_process_of_its_own_and_runs_it(deeplab, capsys):
    pytest.importorskip("ai_edge_litert")
    (result,) = json.loads(run(capsys, "check", "--json"))
    assert (result["name"], result["ok"], result["error"]) == ("deeplab", True, "")
    assert result["frame_s"] > 0


def test_a_check_of_what_is_not_here_says_how_to_get_it(folder, capsys):
    with pytest.raises(CommandError, match=r"sam2\.1-tiny is not here\. Run `manage.py models get sam2\.1-tiny`"):
        run(capsys, "check", "sam2.1-tiny")
    with pytest.raises(CommandError, match="'yolo' is not one of"):
        run(capsys, "check", "yolo")
    assert "no weights here" in run(capsys, "check")


def test_getting_what_is_here_already_fetches_nothing(deeplab, folder, capsys):
    assert DEEPLAB_SHA256 in run(capsys, "get", "deeplab")
    with pytest.raises(CommandError, match="invalid choice"):
        run(capsys, "get", "yolo")
