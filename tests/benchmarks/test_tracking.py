"""The tracker on real sequences, scored by TrackEval, against the numbers of the authors' implementation."""

import json

import numpy as np
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
    found = tracking.score_all("MOT15", sequence)["parity"]
    for metric in ("MOTA", "IDF1", "HOTA", "DetA", "AssA"):
        assert found[metric] == pytest.approx(expected[metric], abs=0.001), metric
    assert {key: found[key] for key in ("IDSW", "FP", "FN")} == {key: expected[key] for key in ("IDSW", "FP", "FN")}


@pytest.mark.slow
def test_every_sequence_is_within_a_hundredth_of_the_authors_tracker(data_folder, reference):
    for benchmark, name, sequence in tracking.sequences(data_folder):
        found = tracking.score(
            tracking.track(tracking.authors_tracker(sequence), tracking.read_detections(sequence)), benchmark, sequence
        )
        for metric in ("MOTA", "IDF1", "HOTA"):
            assert found[metric] == pytest.approx(reference[f"{benchmark}/{name}"][metric], abs=0.01), (name, metric)


@pytest.mark.parametrize("name", ["TUD-Campus", "TUD-Stadtmitte"])
def test_with_hindsight_a_small_sequence_scores_better_than_the_authors_tracker_does(data_folder, reference, name):
    sequence = data_folder / "mot15" / name
    found = tracking.score(tracking.with_hindsight(sequence, tracking.read_detections(sequence)), "MOT15", sequence)
    assert found["HOTA"] > reference[f"MOT15/{name}"]["HOTA"] + 0.01


@pytest.mark.slow
def test_on_average_hota_is_two_hundredths_above_the_authors_tracker(data_folder, reference):
    gains = []
    for benchmark, name, sequence in tracking.sequences(data_folder):
        found = tracking.score_all(benchmark, sequence)
        expected = reference[f"{benchmark}/{name}"]["HOTA"]
        gains.append([found[kind]["HOTA"] - expected for kind in ("online", "hindsight")])
        assert gains[-1][1] > 0, name
    assert (np.mean(gains, axis=0) >= 0.02).all()


def test_the_scorer_gives_the_published_numbers(data_folder):
    folder = data_folder / "mot_metric_conformance"
    expected = json.loads((folder / "expected.json").read_text())["trackeval"]["MOT17-09-FRCNN"]
    sequence = data_folder / "mot17_frcnn" / "MOT17-09-FRCNN"
    found = tracking.evaluate("MOT17", sequence, folder / "trackeval" / "MOT17-09-FRCNN.txt")
    for metric, value in expected.items():
        assert found[metric] == pytest.approx(value, abs=1e-4), metric


def test_the_tracker_with_an_object_per_track_follows_the_same_tracks():
    frames = tracking.crowd(objects=12, count=80)
    ours = tracking.track(tracking.ByteTracker(**tracking.AUTHORS), frames)
    theirs = tracking.track(PerObjectByteTracker(), frames)
    assert len(ours) == len(theirs) > 500
    for (frame, identity, box), (other_frame, other_identity, other_box) in zip(
        sorted(ours, key=lambda row: row[:2]), sorted(theirs, key=lambda row: row[:2]), strict=True
    ):
        assert (frame, identity) == (other_frame, other_identity)
        assert box == pytest.approx(other_box, rel=1e-6)
