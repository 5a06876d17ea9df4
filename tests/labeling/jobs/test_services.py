import cv2
import numpy as np
import pytest

from core.errors import ConflictError, FieldError
from core.models import AuditEvent, WorkStatus
from core.work import InvalidTransitionError
from labeling.datasets.models import DatasetFile
from labeling.jobs import services
from labeling.jobs.models import StageRun
from tests.pipeline.stereo.stereo_networks import write_network

pytestmark = pytest.mark.django_db


def create(user, **given):
    parameters = given.pop("parameters", {"stages_to_run": ["extraction"]})
    return services.create_job(user=user, parameters=parameters, **given)


def complaint(user, **given):
    with pytest.raises(FieldError) as caught:
        create(user, **given)
    [(field, [sentence])] = caught.value.errors.items()
    return field, sentence


def test_a_job_on_a_path_gets_a_sequence_and_its_stage_runs(manager, recording):
    job = create(manager, input_paths=[str(recording)], parameters={"stages_to_run": ["extraction"], "frame_skip": 2})
    assert (job.status, job.name, job.stages) == (WorkStatus.PENDING, "test.svo2", ["extraction"])
    assert job.config["frame_skip"] == 2
    [sequence] = job.sequences.all()
    assert (sequence.name, sequence.metric, sequence.metadata["frame_count"]) == ("test", True, 12)
    assert [run.stage for run in sequence.stage_runs.all()] == ["extraction"]
    assert AuditEvent.objects.filter(action="job.created", object_id=str(job.pk)).exists()


def test_tracking_alone_runs_all_four_stages(manager, dataset, recording):
    job = create(manager, dataset=dataset, input_paths=[str(recording)], parameters={"stages_to_run": ["tracking"]})
    assert job.stages == ["extraction", "segmentation", "reconstruction", "tracking"]
    assert job.segmenter == "geometric"
    assert list(StageRun.objects.filter(sequence__job=job).values_list("stage", flat=True)) == job.stages


def test_stage_runs_are_ordered_by_stage_and_then_by_sequence(manager, dataset, recording):
    other = recording.with_name("second.svo2")
    other.write_bytes(recording.read_bytes())
    job = create(
        manager,
        dataset=dataset,
        input_paths=[str(recording), str(other)],
        parameters={"stages_to_run": ["segmentation"]},
    )
    runs = StageRun.objects.filter(sequence__job=job).values_list("stage", "sequence__name")
    assert list(runs) == [
        ("extraction", "test"), ("extraction", "second"), ("segmentation", "test"), ("segmentation", "second"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("parameters", "field", "sentence"),
    [
        ({"stages_to_run": []}, "stages_to_run", "Choose at least one stage."),
        ({"stages_to_run": ["dreaming"]}, "stages_to_run", "'dreaming' is not one of"),
        ({"frame_skip": 0}, "frame_skip", "0 is not a number from 1 to 1000."),
        ({"confidence_threshold": 1.5}, "confidence_threshold", "1.5 is not a number from 0 to 1."),
        ({"batch_size": 65}, "batch_size", "65 is not"),
        ({"similarity_threshold": -1}, "similarity_threshold", "-1 is not"),
        ({"motion_threshold": 2}, "motion_threshold", "2 is not"),
        ({"segmenter": "magic"}, "segmenter", "'magic' is not one of"),
        ({"sam3_variant": "huge"}, "sam3_variant", "'huge' is not one of"),
        ({"depth_method": "guess"}, "depth_method", "'guess' is not one of auto, sgbm, neural."),
        ({"image_format": "bmp"}, "image_format", "'bmp' is not one of"),
        ({"colour": 1}, "colour", "There is no such parameter."),
        ({"object_class_ids": [1, 9]}, "object_class_ids.1", "There is no class 9 in “Yard”."),
    ],
)
def test_a_wrong_parameter_is_named(manager, dataset, recording, parameters, field, sentence):
    found = complaint(manager, dataset=dataset, input_paths=[str(recording)], parameters=parameters)
    assert (found[0], found[1][: len(sentence)]) == (field, sentence)


def test_depth_by_a_network_that_is_not_there_names_the_file_and_the_setting(manager, dataset, recording, settings):
    parameters = {"stages_to_run": ["extraction"], "depth_method": "neural"}
    field, sentence = complaint(manager, dataset=dataset, input_paths=[str(recording)], parameters=parameters)
    assert field == "depth_method"
    assert "stereo_*.onnx" in sentence
    assert "FOVEA_MODELS_DIR" in sentence

    settings.MODELS_FOLDERS[0].mkdir(exist_ok=True)
    (settings.MODELS_FOLDERS[0] / "stereo_cut.onnx").write_bytes(b"\x08\x08\x12")
    field, sentence = complaint(manager, dataset=dataset, input_paths=[str(recording)], parameters=parameters)
    assert field == "depth_method"
    assert "stereo_cut.onnx" in sentence


def test_depth_by_a_network_that_is_there_is_accepted(manager, dataset, recording, settings):
    settings.MODELS_FOLDERS[0].mkdir(exist_ok=True)
    write_network(settings.MODELS_FOLDERS[0] / "stereo_small.onnx")
    parameters = {"stages_to_run": ["extraction"], "depth_method": "neural"}
    job = create(manager, dataset=dataset, input_paths=[str(recording)], parameters=parameters)
    assert job.config["depth_method"] == "neural"


def test_depth_of_a_recording_with_one_eye_is_refused_where_it_was_asked_for(manager, recording):
    images = recording.parent / "images"
    images.mkdir()
    cv2.imwrite(str(images / "000000.png"), np.zeros((48, 64, 3), np.uint8))
    given = {"input_paths": [str(images)]}
    field, sentence = complaint(manager, **given, parameters={"stages_to_run": ["extraction"], "depth_method": "sgbm"})
    assert (field, "needs a stereo recording" in sentence) == ("depth_method", True)
    create(manager, **given, parameters={"stages_to_run": ["extraction"]})


def test_an_unreadable_recording_is_named(manager, recording):
    broken = recording.with_name("broken.svo2")
    broken.write_bytes(b"not a recording at all" * 100)
    field, sentence = complaint(manager, input_paths=[str(recording), str(broken)])
    assert field == "input_paths.1"
    assert "broken.svo2" in sentence


def test_a_path_outside_the_folders_that_may_be_read_is_refused(manager):
    field, sentence = complaint(manager, input_paths=["/etc/passwd"])
    assert field == "input_paths.0"
    assert "outside" in sentence


def test_a_recording_named_twice_is_refused(manager, recording):
    assert complaint(manager, input_paths=[str(recording)] * 2) == ("input_paths.1", "test.svo2 is named twice.")


def test_a_job_over_nothing_is_refused(manager, dataset):
    assert complaint(manager)[0] == "input_paths"
    field, sentence = complaint(manager, dataset=dataset)
    assert (field, sentence) == ("dataset_id", "“Yard” has no readable recordings yet: scan its folder first.")


def test_a_dataset_gives_its_readable_files_with_what_the_scan_found(manager, dataset, recording):
    facts = {"frame_count": 12, "stereo": True, "metric": True, "size_bytes": recording.stat().st_size}
    good = DatasetFile.objects.create(
        dataset=dataset, name="test.svo2", path=recording, status="ready", sha256="ab" * 32, **facts
    )
    DatasetFile.objects.create(dataset=dataset, name="b.svo2", path=f"{recording}.gone", status="broken", error="Cut.")
    job = create(manager, dataset=dataset)
    [sequence] = job.sequences.all()
    assert (sequence.file, sequence.sha256, sequence.metadata["frame_count"]) == (good, "ab" * 32, 12)


def test_a_broken_file_that_is_asked_for_is_refused_with_its_own_error(manager, dataset, recording):
    file = DatasetFile.objects.create(
        dataset=dataset, name="b.svo2", path=recording, status="broken", error="It is empty."
    )
    assert complaint(manager, dataset=dataset, file_ids=[file.pk]) == (
        "file_ids",
        "b.svo2 cannot be used: It is empty.",
    )


def test_a_file_that_is_gone_is_named(manager, dataset, recording):
    file = DatasetFile.objects.create(dataset=dataset, name="b.svo2", path=recording.with_name("b.svo2"))
    field, sentence = complaint(manager, dataset=dataset, file_ids=[file.pk])
    assert field == "file_ids"
    assert sentence.startswith("b.svo2: ")
    assert sentence.endswith("does not exist.")


def test_a_segmenter_that_cannot_run_here_is_refused_at_once(manager, dataset, recording):
    parameters = {"segmenter": "deeplab"}
    field, sentence = complaint(manager, dataset=dataset, input_paths=[str(recording)], parameters=parameters)
    assert field == "segmenter"
    assert "deeplabv3_mnv2_pascal_quant.tflite" in sentence
    assert "FOVEA_MODELS_DIR" in sentence


def test_the_classes_asked_for_are_kept_as_they_were(manager, dataset, recording):
    job = create(
        manager,
        dataset=dataset,
        input_paths=[str(recording)],
        parameters={"stages_to_run": ["segmentation"], "object_class_ids": [2]},
    )
    dataset.label_classes.filter(number=2).update(name="armchair")
    assert [(item["number"], item["name"], item["typical_size_hwl"]) for item in job.classes] == [
        (2, "chair", [0.9, 0.5, 0.55])
    ]


def test_names_of_sequences_are_safe_and_unlike_each_other(tmp_path):
    names, taken = [], set()
    for name in ("a b.svo2", "A_B.svo2", "ä/../x.svo2", "…", "con.svo2", f"{'l' * 200}.mp4"):
        names.append(services.sequence_name(tmp_path / name, taken))
    assert names[:3] == ["a_b", "A_B_2", "x"]
    assert names[3] == "sequence"
    assert len(names[5]) == 100


def test_starting_twice_starts_once(manager, recording, hints, django_capture_on_commit_callbacks):
    job = create(manager, input_paths=[str(recording)])
    with django_capture_on_commit_callbacks(execute=True):
        services.start_job(job=job, user=manager)
        with pytest.raises(InvalidTransitionError):
            services.start_job(job=job, user=manager)
    assert hints == [("jobs.ProcessingJob", str(job.pk), "default")]


def test_a_running_job_cannot_be_deleted_and_a_deleted_one_is_hidden(manager, recording, hints):
    job = create(manager, input_paths=[str(recording)], start=True)
    with pytest.raises(ConflictError):
        services.delete_job(job=job, user=manager)
    services.cancel_job(job=job, user=manager)
    services.delete_job(job=job, user=manager)
    assert not type(job).objects.for_user(manager).exists()
