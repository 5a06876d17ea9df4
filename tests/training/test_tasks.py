"""The export: what lands in the folder equals what the database holds, whatever interrupts it."""

import dataclasses
import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from core import work
from core.models import LiveEvent, WorkStatus
from labeling.jobs.models import Detection, DetectionMask, Frame
from labeling.review.filters import AnnotationFilter
from pipeline.geometry.kitti import KittiCalibration, read_labels
from pipeline.storage.layout import SequenceLayout
from training import services, tasks
from training.formats.masks import CroppedMask
from training.models import TrainingDataset, TrainingDatasetFrame
from training.places import ExportPlace

pytestmark = pytest.mark.django_db


def _export(owner, job, **parameters) -> tuple[TrainingDataset, Path]:
    row = services.create_training_dataset(user=owner, job=job, **parameters)
    work.advance("training.TrainingDataset", str(row.pk))
    row.refresh_from_db()
    assert row.error == ""
    assert row.status == WorkStatus.COMPLETED
    return row, ExportPlace(row).final


def _files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def _source(settings, frame: Frame) -> SequenceLayout:
    return SequenceLayout(settings.JOBS_ROOT / str(frame.job_id) / frame.sequence.name)


def test_kitti_labels_equal_the_database(owner, job):
    row, root = _export(owner, job, format="kitti")
    for item in row.dataset_frames.select_related("frame"):
        labels = read_labels(root / f"kitti/{item.split}/label_2/{item.number:06d}.txt")
        rows = list(item.frame.detections.select_related("label_class").order_by("instance"))
        assert item.annotation_count == len(rows) == len(labels)
        for label, detection in zip(labels, rows, strict=True):
            assert label.type == detection.label_class.name.replace(" ", "_")
            assert label.score is None
            x, y, w, h = detection.x, detection.y, detection.width, detection.height
            assert label.bbox_xyxy == pytest.approx((x, y, x + w, y + h), abs=0.006)
            box = [detection.location_x, detection.location_y, detection.location_z]
            box += [detection.height_m, detection.width_m, detection.length_m, detection.rotation_y]
            assert label.box == pytest.approx(box, abs=0.006)
            assert label.occluded == detection.occluded
            bearing = np.arctan2(detection.location_x, detection.location_z)
            assert np.cos(label.alpha - (detection.rotation_y - bearing)) == pytest.approx(1, abs=1e-3)


def test_every_kitti_line_has_fifteen_columns_and_unknown_values_without_3d(owner, job):
    _, root = _export(owner, job, format="kitti", include_3d_boxes=False)
    lines = [line.split() for path in root.rglob("label_2/*.txt") for line in path.read_text().splitlines()]
    assert len(lines) == Detection.objects.count()
    assert {len(line) for line in lines} == {15}
    assert {tuple(line[8:]) for line in lines} == {("-1.00",) * 3 + ("-1000.00",) * 3 + ("-10.00",)}
    assert {line[3] for line in lines} == {"-10.00"}


def test_files_are_linked_and_numbered_from_zero_in_each_split(owner, job, settings):
    row, root = _export(owner, job, include_velodyne=True)
    for split in ("train", "val", "test"):
        numbers = list(row.dataset_frames.filter(split=split).order_by("number").values_list("number", flat=True))
        assert numbers == list(range(len(numbers)))
        assert len(list((root / f"kitti/{split}/image_2").iterdir())) == len(numbers) > 0
    for item in row.dataset_frames.select_related("frame__sequence"):
        source, n, kitti = _source(settings, item.frame), item.frame.number, root / "kitti" / item.split
        stem = f"{item.number:06d}"
        assert (kitti / f"image_2/{stem}.png").samefile(source.image_left(n))
        assert (root / f"coco/{item.split}/images/{stem}.png").samefile(source.image_left(n))
        assert (kitti / f"depth/{stem}.npy").samefile(source.depth(n))
        assert (kitti / f"velodyne/{stem}.bin").samefile(source.velodyne(n))
        assert KittiCalibration.read(kitti / f"calib/{stem}.txt").p2[0, 0] == item.frame.sequence.camera["fx"]


def test_coco_reads_back_with_pycocotools_equal_to_the_database(owner, job):
    row, root = _export(owner, job, format="coco")
    for split in ("train", "val", "test"):
        coco = COCO(str(root / f"coco/{split}/annotations.json"))
        assert sorted(coco.getCatIds()) == [1, 2, 3]
        assert sorted(coco.imgs) == list(range(1, len(coco.imgs) + 1))
        assert sorted(coco.anns) == list(range(1, len(coco.anns) + 1))
        for item in row.dataset_frames.filter(split=split).select_related("frame"):
            (image,) = coco.loadImgs([item.number + 1])
            assert (root / f"coco/{split}/images" / image["file_name"]).is_file()
            assert (image["width"], image["height"]) == (item.frame.width, item.frame.height)
            anns = coco.loadAnns(coco.getAnnIds([image["id"]]))
            found = item.frame.detections.select_related("label_class", "mask", "track").order_by("instance")
            for n, (ann, detection) in enumerate(zip(anns, found, strict=True)):
                assert ann["category_id"] == detection.label_class.number
                assert ann["bbox"] == [detection.x, detection.y, detection.width, detection.height]
                assert ann["track_id"] == detection.track.number
                assert ann["score"] == detection.confidence
                assert ann["box_3d"]["location"][2] == detection.location_z
                m = detection.mask
                truth = CroppedMask(m.left, m.top, m.width, m.height, m.counts).full_frame_pixels(160, 90)
                assert np.array_equal(coco.annToMask(ann), truth)
                assert ann["area"] == truth.sum() == coco_mask.area(ann["segmentation"])
                png = cv2.imread(str(root / f"coco/{split}/masks/{item.number:06d}_{n}.png"), cv2.IMREAD_UNCHANGED)
                assert np.array_equal(png > 0, truth)


def test_polygons_decode_to_nearly_the_same_masks(owner, job):
    _, root = _export(owner, job, format="coco", segmentation="polygons")
    coco = COCO(str(root / "coco/train/annotations.json"))
    ious = []
    for ann in coco.anns.values():
        assert isinstance(ann["segmentation"], list)
        (place,) = {n for n, other in enumerate(coco.imgToAnns[ann["image_id"]]) if other["id"] == ann["id"]}
        png = cv2.imread(str(root / f"coco/train/masks/{ann['image_id'] - 1:06d}_{place}.png"), cv2.IMREAD_UNCHANGED)
        mask = coco.annToMask(ann)
        ious.append((mask & (png > 0)).sum() / (mask | (png > 0)).sum())
    assert min(ious) > 0.9
    assert np.mean(ious) > 0.99


def test_the_filter_leaves_out_what_it_says_and_counts_the_rest(owner, job):
    frame = Frame.objects.first()
    annotation = Detection.objects.filter(label_class__number=1).exclude(frame=frame).first()
    filters = AnnotationFilter((2,), (annotation.pk,), (str(frame.pk),), 0.55)
    row, root = _export(owner, job, filters=filters)
    kept = Detection.objects.exclude(label_class__number=2).exclude(pk=annotation.pk).exclude(frame=frame)
    kept = kept.filter(confidence__gte=0.55)
    assert row.statistics["total_annotations"] == kept.count() > 0
    assert row.statistics["total_frames"] == Frame.objects.count() - 1
    assert sum(row.dataset_frames.values_list("annotation_count", flat=True)) == kept.count()
    assert not row.dataset_frames.filter(frame=frame).exists()
    categories = json.loads((root / "coco/train/annotations.json").read_text())["categories"]
    assert [item["id"] for item in categories] == [1, 3]


def test_a_mask_that_a_person_changed_is_drawn_anew(owner, job):
    detection = Detection.objects.get(frame__number=3, frame__sequence__position=0, instance=0)
    changed = np.zeros((90, 160), bool)
    changed[5:9, 5:25] = True
    m = CroppedMask.from_pixels(changed)
    DetectionMask.objects.filter(pk=detection.pk).update(**dataclasses.asdict(m))
    Detection.objects.filter(pk=detection.pk).update(version=2, source="human")
    row, root = _export(owner, job)
    item = row.dataset_frames.get(frame=detection.frame)
    for name in ("kitti", "coco"):
        path = root / name / item.split / f"masks/{item.number:06d}_0.png"
        assert np.array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED) > 0, changed)


def test_the_manifest_names_every_file_and_lineage_seals_it(owner, job):
    row, root = _export(owner, job)
    manifest = (root / "manifest-sha256.txt").read_bytes()
    listed = dict(line.split("  ", 1)[::-1] for line in manifest.decode().splitlines())
    files = _files(root)
    assert set(listed) == set(files) - {"manifest-sha256.txt", "lineage.json"}
    assert all(hashlib.sha256(files[name]).hexdigest() == digest for name, digest in listed.items())
    assert row.size_bytes == sum(len(files[name]) for name in listed)
    lineage = json.loads(files["lineage.json"])
    assert lineage["exported_files"] == {
        "manifest": "manifest-sha256.txt",
        "count": len(listed),
        "sha256": hashlib.sha256(manifest).hexdigest(),
    }
    assert lineage["training_dataset_id"] == str(row.pk)
    assert lineage["source_job_id"] == str(job.pk)
    assert lineage["source_dataset_id"] == str(job.dataset_id)
    assert lineage["curated_dataset_id"] is None
    assert lineage["format"] == "both"
    assert lineage["statistics"] == row.statistics
    assert lineage["statistics"]["total_frames"] == 20
    assert [item["sha256"] for item in lineage["recordings"]] == [f"{n:064x}" for n in range(2)]
    assert lineage["pipeline"]["segmenter"] == "geometric"
    assert lineage["split_config"]["seed"] == 0


def test_killed_between_any_two_commits_the_export_is_the_same_to_the_byte(owner, job, monkeypatch):
    monkeypatch.setattr(tasks, "CHUNK_FRAMES", 3)
    _, whole = _export(owner, job)
    expected = _files(whole)
    second = services.create_training_dataset(user=owner, job=job)
    kills = 0
    while True:
        second.refresh_from_db()
        if second.status != WorkStatus.RUNNING:
            break
        kills += 1
        _advance_and_die_after(second, commits=1)
    assert second.status == WorkStatus.COMPLETED
    assert kills > 7
    found = _files(ExportPlace(second).final)
    expected.pop("lineage.json")
    found.pop("lineage.json")
    assert found == expected
    assert not ExportPlace(second).partial.exists()
    assert not ExportPlace(second).parts.exists()


class Killed(BaseException):
    pass


def _advance_and_die_after(row, commits):
    """Work as a worker does that is killed right after its `commits`th commit, in the middle of the next."""
    taken = [0]
    step = work.Lease.step

    def counted(self, **fields):
        if taken[0] == commits:
            raise Killed
        taken[0] += 1
        return step(self, **fields)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work.Lease, "step", counted)
        try:
            work.advance("training.TrainingDataset", str(row.pk))
        except Killed:
            TrainingDataset.objects.filter(pk=row.pk).update(lease_owner="")


def test_a_restarted_export_begins_anew(owner, job, monkeypatch):
    monkeypatch.setattr(tasks, "CHUNK_FRAMES", 3)
    row = services.create_training_dataset(user=owner, job=job)
    _advance_and_die_after(row, commits=3)
    services.move_training_dataset(user=owner, row=row, verb="cancel")
    stray = ExportPlace(row).partial / "kitti/train/image_2/999999.png"
    stray.write_bytes(b"from the first attempt")
    services.move_training_dataset(user=owner, row=row, verb="restart")
    work.advance("training.TrainingDataset", str(row.pk))
    row.refresh_from_db()
    assert row.status == WorkStatus.COMPLETED
    assert row.statistics["total_frames"] == 20
    assert TrainingDatasetFrame.objects.filter(training_dataset=row).count() == 20
    assert not list(ExportPlace(row).final.rglob("999999.png"))


def test_a_paused_export_stops_and_goes_on(owner, job, monkeypatch):
    monkeypatch.setattr(tasks, "CHUNK_FRAMES", 3)
    row = services.create_training_dataset(user=owner, job=job)
    add = tasks.Export.add_batch

    def pause_then_add(self, batch):
        if TrainingDataset.objects.get(pk=row.pk).cursor == 6:
            services.move_training_dataset(user=owner, row=TrainingDataset.objects.get(pk=row.pk), verb="pause")
            monkeypatch.setattr(tasks.Export, "add_batch", add)
        add(self, batch)

    monkeypatch.setattr(tasks.Export, "add_batch", pause_then_add)
    work.advance("training.TrainingDataset", str(row.pk))
    row.refresh_from_db()
    assert (row.status, row.cursor) == (WorkStatus.PAUSED, 6)
    services.move_training_dataset(user=owner, row=row, verb="resume")
    work.advance("training.TrainingDataset", str(row.pk))
    row.refresh_from_db()
    assert row.status == WorkStatus.COMPLETED
    assert row.statistics["total_frames"] == 20


def test_progress_is_told_live(owner, job):
    row, _ = _export(owner, job)
    payloads = list(LiveEvent.objects.filter(topic=f"trainingdataset:{row.pk}").values_list("payload", flat=True))
    assert {"type", "progress", "message", "cursor", "total"} <= set(payloads[1])
    assert payloads[-1]["status"] == "completed"


def test_a_missing_image_fails_the_export_with_its_name(owner, job, settings):
    frame = Frame.objects.select_related("sequence").get(sequence__position=1, number=4)
    _source(settings, frame).image_left(4).unlink()
    row = services.create_training_dataset(user=owner, job=job)
    work.advance("training.TrainingDataset", str(row.pk))
    row.refresh_from_db()
    assert row.status == WorkStatus.FAILED
    assert row.error == "walk_1/image_left/000004.png cannot be exported: No such file or directory."


def test_the_same_seed_divides_the_same_way_and_another_otherwise(owner, job):
    def splits(seed):
        row, _ = _export(owner, job, seed=seed)
        return {item.frame_id: item.split for item in row.dataset_frames.all()}

    assert splits(1) == splits(1)
    assert splits(1) != splits(2)


def test_by_sequence_no_recording_is_in_two_splits(owner, job):
    row, _ = _export(owner, job, split_by="sequence", train_ratio=0.5, val_ratio=0.5, test_ratio=0)
    pairs = set(row.dataset_frames.values_list("frame__sequence", "split"))
    assert len(pairs) == 2
    assert {split for _, split in pairs} == {"train", "val"}


def test_reading_frames_costs_the_same_number_of_queries_however_many(owner, job, django_assert_num_queries):
    from training.streaming import FrameReader

    reader = FrameReader(job, AnnotationFilter())
    ids = list(Frame.objects.values_list("pk", flat=True))
    for count in (2, 20):
        with django_assert_num_queries(2):
            assert len(list(reader.read(ids[:count]))) == count
