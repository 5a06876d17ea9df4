"""Clicks are answered by another process, which looks at an image once; what it is asked wrongly it says in words."""

import socket
import struct
import threading

import cv2
import numpy as np
import pytest

from pipeline.segmentation import model_server, rle
from pipeline.segmentation.base import Prompt, Proposal
from pipeline.segmentation.interactive import KEPT_EMBEDDINGS, Clicks, choose
from pipeline.segmentation.model_client import ModelServerError, ask, short_address


@pytest.fixture
def image(tmp_path):
    """A red disc on a grey, slightly noisy ground."""
    pixels = np.full((120, 160, 3), 120, np.uint8)
    pixels += np.random.default_rng(0).integers(0, 12, pixels.shape, dtype=np.uint8)
    cv2.circle(pixels, (80, 60), 30, (30, 30, 200), -1)
    path = tmp_path / "frames" / "000000.png"
    path.parent.mkdir()
    cv2.imwrite(str(path), pixels)
    return path


@pytest.fixture
def served(tmp_path, image):
    """A server in a thread of this process, at an address far too long for a socket's."""
    folder = tmp_path / ("deep" * 20) / ("deeper" * 10)
    folder.mkdir(parents=True)
    address = folder / "models.sock"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with short_address(address) as short:
        listener.bind(short)
    listener.listen(8)
    listener.setblocking(False)
    thread = threading.Thread(target=model_server.serve, args=(listener, image.parent, [tmp_path], 5.0), daemon=True)
    thread.start()
    yield address
    thread.join(15)
    assert not thread.is_alive()  # it ends by itself once nobody asks
    listener.close()


DISC = {"box": [45, 25, 70, 70]}


def test_a_box_becomes_the_mask_of_what_is_in_it_and_the_image_is_looked_at_once(served, image):
    first = ask(served, {"image": str(image), **DISC})
    second = ask(served, {"image": str(image), "points": [[80, 60], [5, 5]], "labels": [1, 0], **DISC})
    assert (first["segmenter"], first["embedded"], second["embedded"]) == ("classical", True, False)
    truth = np.zeros((120, 160), np.uint8)
    cv2.circle(truth, (80, 60), 30, 1, -1)
    best = first["masks"][0]
    found = rle.decode(best["rle"])
    assert np.count_nonzero(found & (truth > 0)) / np.count_nonzero(found | (truth > 0)) > 0.9
    assert best["area"] == np.count_nonzero(found)
    assert 0 < best["quality"] <= 1


def test_a_second_click_does_not_embed_again_and_only_the_last_images_are_kept(tmp_path, image):
    looked = []

    class Counting:
        name = "counting"

        def embed(self, pixels):
            looked.append(pixels.shape)
            return pixels

        def predict(self, embedding, prompt):
            return [Proposal(np.ones(embedding.shape[:2], np.float32), 0.5)]

    clicks = Clicks([tmp_path], load=lambda *_: Counting())
    prompt = Prompt(box_xyxy=np.array([0.0, 0, 10, 10]))
    assert [clicks.answer(image, prompt).embedded for _ in range(3)] == [True, False, False]
    for number in range(KEPT_EMBEDDINGS):
        other = image.with_name(f"{number + 1:06d}.png")
        other.write_bytes(image.read_bytes())
        clicks.answer(other, prompt)
    assert clicks.answer(image, prompt).embedded
    assert len(looked) == KEPT_EMBEDDINGS + 2
    image.write_bytes(image.read_bytes() + b" ")  # written anew: what was seen of it counts no more
    assert clicks.answer(image, prompt).embedded


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"image": "/etc/passwd", **DISC}, "outside the folder"),
        ({"image": "{folder}/../../secret.png", **DISC}, "outside the folder"),
        ({"image": "{folder}/gone.png", **DISC}, "gone.png cannot be read"),
        ({"image": "{folder}/000000.png"}, "Give a box"),
        ({"image": "{folder}/000000.png", "points": [[1, 2]], "labels": [1, 0]}, "a label each"),
        ({"image": "{folder}/000000.png", "points": [[1, 2, 3]]}, "not one for masks"),
        ({"image": "{folder}/000000.png", "box": ["a", 1, 2, 3]}, "not one for masks"),
        (
            {"image": "{folder}/000000.png", "segmenter": "yolo", **DISC},
            "'yolo' is not one of auto, sam2, sam3, classical",
        ),
        ({"image": "{folder}/000000.png", "segmenter": "sam2", **DISC}, "segmenter sam2"),
        ({}, "not one for masks"),
    ],
)
def test_what_is_wrong_is_said_and_the_server_goes_on(served, image, request_, told):
    request = {**request_, **({"image": request_["image"].format(folder=image.parent)} if "image" in request_ else {})}
    with pytest.raises(ModelServerError, match=told):
        ask(served, request)
    assert ask(served, {"image": str(image), **DISC})["masks"]


@pytest.mark.parametrize("content", [b"", b"\x00", struct.pack(">I", 1 << 31), struct.pack(">I", 4) + b"{{{{"])
def test_a_client_that_talks_nonsense_is_left(served, image, content):
    with short_address(served) as short, socket.socket(socket.AF_UNIX) as client:
        client.connect(short)
        client.sendall(content)
    assert ask(served, {"image": str(image), **DISC})["masks"]


def test_where_nobody_serves_the_error_says_what_to_do(tmp_path):
    with pytest.raises(ModelServerError, match="start a worker"):
        ask(tmp_path / "models.sock", {})


def test_without_weights_the_classical_one_is_taken(tmp_path):
    assert choose("auto", [tmp_path]) == "classical"
