"""The tracker on real sequences, scored by TrackEval, against the numbers of the authors' implementation."""

import json

import pytest

pytest.importorskip("trackeval", reason="TrackEval is not installed: pip install --no-deps trackeval")

from benchmarks import tracking
from benchmarks._byte_track_per_object import PerObjectByteTracker


@pytest.fixture
def reference(data_folder):
    return json.loads((data_folder / "mot_bytetrack_reference.json").read_text())["results"]


@pytest.mark.parametrize("name", ["TUD-Campus", "TUD-Stadtmitte"])
def test_a_small_sequence_scores_as_the_authors_tracker_does(data_folder, reference, name):
    sequence = data_folder / "mot15" / name
    expected = reference[f"MOT15/{name}"]
    found = tracking.score(tracking.our_tracker(sequence), "MOT15", sequence)
    for metric in ("MOTA", "IDF1", "HOTA", "DetA", "AssA"):
        assert found[metric] == pytest.approx(expected[metric], abs=0.001), metric
    assert {key: found[key] for key in ("IDSW", "FP", "FN")} == {key: expected[key] for key in ("IDSW", "FP", "FN")}


@pytest.mark.slow
def test_every_sequence_is_within_a_hundredth_of_the_authors_tracker(data_folder, reference):
    for benchmark, name, sequence in tracking.sequences(data_folder):
        found = tracking.score(tracking.our_tracker(sequence), benchmark, sequence)
        for metric in ("MOTA", "IDF1", "HOTA"):
            assert found[metric] == pytest.approx(reference[f"{benchmark}/{name}"][metric], abs=0.01), (name, metric)


def test_the_scorer_gives_the_published_numbers(data_folder):
    folder = data_folder / "mot_metric_conformance"
    expected = json.loads((folder / "expected.json").read_text())["trackeval"]["MOT17-09-FRCNN"]
    sequence = data_folder / "mot17_frcnn" / "MOT17-09-FRCNN"
    found = tracking.evaluate("MOT17", sequence, folder / "trackeval" / "MOT17-09-FRCNN.txt")
    for metric, value in expected.items():
        assert found[metric] == pytest.approx(value, abs=1e-4), metric


def test_the_tracker_with_an_object_per_track_follows_the_same_tracks():
    frames = tracking.crowd(objects=12, count=80)
    ours = tracking.track(tracking.ByteTracker(), frames)
    theirs = tracking.track(PerObjectByteTracker(), frames)
    assert len(ours) == len(theirs) > 500
    for (frame, identity, box), (other_frame, other_identity, other_box) in zip(
        sorted(ours, key=lambda row: row[:2]), sorted(theirs, key=lambda row: row[:2]), strict=True
    ):
        assert (frame, identity) == (other_frame, other_identity)
        assert box == pytest.approx(other_box, rel=1e-6)
