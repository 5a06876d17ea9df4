"""Images of frames: cacheable for ever, made once, for members only."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from django.conf import settings
from django.test import Client

from labeling.jobs.models import Frame
from labeling.review.pictures import color_depth
from pipeline.storage.layout import SequenceLayout
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def browser(owner) -> Client:
    client = Client()
    client.force_login(owner)
    return client


@pytest.fixture
def media(api, job):
    return api.get(f"/api/v1/frames/{Frame.objects.get(number=2, sequence__position=0).pk}").json()["media"]


def _image(response):
    assert response.status_code == 200
    return cv2.imdecode(np.frombuffer(response.content, np.uint8), cv2.IMREAD_COLOR)


@pytest.mark.parametrize("kind", ["left", "right", "depth", "thumbnail"])
def test_images_are_kept_by_the_browser_for_a_year(browser, media, kind):
    response = browser.get(media[kind])
    assert _image(response).shape == (90, 160, 3)
    assert response["Cache-Control"] == "private, max-age=31536000, immutable"
    assert response["X-Content-Type-Options"] == "nosniff"
    again = browser.get(media[kind], headers={"If-None-Match": response["ETag"]})
    assert again.status_code == 304


def test_without_its_revision_an_address_is_checked_again(browser, media):
    assert browser.get(media["left"].partition("?")[0])["Cache-Control"] == "private, no-cache"


def test_the_left_image_is_the_file_that_the_job_wrote(browser, media, job, settings):
    path = settings.JOBS_ROOT / str(job.pk) / "walk_0/image_left/000002.png"
    assert browser.get(media["left"]).content == path.read_bytes()


def test_a_thumbnail_is_made_once(browser, media, settings):
    browser.get(media["thumbnail"])
    (path,) = (settings.MEDIA_ROOT / "previews").rglob("thumbnails/*.jpg")
    before = path.stat().st_mtime_ns
    browser.get(media["thumbnail"])
    assert path.stat().st_mtime_ns == before


def test_near_is_warm_far_is_cool_and_holes_are_dark():
    depth = np.array([[1.0, 10.0, np.nan, 0.0]], np.float32)
    near, far, hole, zero = color_depth(depth, 1.0, 10.0)[0].astype(int)
    assert near[2] > near[0] + 80
    assert far[0] > far[2]
    assert max(hole) < 40
    assert np.array_equal(hole, zero)


def test_strangers_and_the_signed_out_get_nothing(media, job):
    stranger = Client()
    stranger.force_login(UserFactory())
    for address in filter(None, media.values()):
        assert stranger.get(address).status_code == 404
        assert Client().get(address).status_code == 401
    assert stranger.get(f"/review/{job.pk}/").status_code == 404
    assert Client().get(f"/review/{job.pk}/").status_code == 302


def test_an_eye_that_is_not_there_is_not_found(browser, job):
    frame = Frame.objects.first()
    Frame.objects.filter(pk=frame.pk).update(has_right=False, has_depth=False)
    for kind in ("right", "middle", "depth"):
        assert browser.get(f"/api/v1/frames/{frame.pk}/{kind}").status_code == 404


def test_an_uncertainty_map_is_black_where_the_model_is_sure_and_bright_where_not(browser, job):
    frame = Frame.objects.first()
    assert browser.get(f"/api/v1/frames/{frame.pk}/uncertainty").status_code == 404
    place = SequenceLayout(Path(settings.JOBS_ROOT) / str(job.pk) / frame.sequence.name).uncertainty(frame.number)
    place.parent.mkdir()
    level = np.zeros((24, 40), np.uint8)
    level[:, 20:] = 255
    cv2.imwrite(str(place), level)
    Frame.objects.filter(pk=frame.pk).update(uncertainty=0.5)
    address = browser.get(f"/api/v1/frames/{frame.pk}").json()["media"]["uncertainty"]
    picture = _image(browser.get(address))
    assert picture.shape == (24, 40, 3)
    assert picture[:, :16].max() < 40
    assert picture[:, 24:].mean() > 150
