"""The whole way on a recording: film, extract, segment, label a few, train, name the rest."""

import json

import numpy as np
import pytest

from pipeline.classification.features import DESCRIPTOR, sequence_features
from pipeline.classification.head import ClassHead
from pipeline.simulation.scene import CLASSES
from pipeline.stages.base import StageContext
from pipeline.stages.extraction import Extraction
from pipeline.stages.run import run_stage
from pipeline.stages.segmentation import Segmentation
from pipeline.storage.layout import SequenceLayout
from pipeline.storage.sequence import read_detections, read_frames


def overlap(a, b):
    left, top = max(a[0], b[0]), max(a[1], b[1])
    right, bottom = min(a[0] + a[2], b[0] + b[2]), min(a[1] + a[3], b[1] + b[3])
    both = max(right - left, 0) * max(bottom - top, 0)
    return both / (a[2] * a[3] + b[2] * b[3] - both)


@pytest.mark.slow
def test_twenty_labels_name_nine_of_ten_instances_of_the_demo_scene(street, tmp_path):
    layout = SequenceLayout(tmp_path)
    context = StageContext(
        layout, street.recording, classes=CLASSES, calibration_folders=(street.calibration.parent,), workers=1
    )
    for stage in (Extraction(), Segmentation("geometric", confidence_threshold=0.3)):
        for _ in run_stage(stage, context):
            pass
    source = {frame.number: frame.source_index for frame in read_frames(layout)}
    truth = {each["index"]: each["objects"] for each in json.loads(street.ground_truth.read_text())["frames"]}
    records, labels = [], []
    for record in read_detections(layout):
        visible = [each for each in truth[source[record.number]] if each["bbox_xywh"]]
        best = max(visible, key=lambda each: overlap(record.bbox_xywh, each["bbox_xywh"]))
        if overlap(record.bbox_xywh, best["bbox_xywh"]) >= 0.5:
            records.append(record)
            labels.append(best["class_id"])
    assert len(records) >= 40
    features, ids = sequence_features(layout, records, DESCRIPTOR), np.array(labels)
    taught = np.zeros(len(records), bool)
    taught[:20] = True  # the first frames
    shown = np.array([each.number > records[19].number for each in records])
    assert len(set(ids[taught])) >= 3
    head = ClassHead.fit(features[taught], ids[taught], CLASSES, feature_kind=DESCRIPTOR)
    p = head.predict_proba(features[shown])
    said = np.array([*head.class_ids, 0])[p.argmax(axis=1)]
    known = np.isin(ids[shown], ids[taught])
    assert (said == ids[shown])[known].mean() >= 0.9
