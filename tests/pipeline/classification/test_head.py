import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.classification.folds import deal
from pipeline.classification.head import ClassHead
from pipeline.errors import ClassHeadError
from pipeline.segmentation.base import ClassSpec

ROOT = Path(__file__).resolve().parents[3]
CLASSES = (ClassSpec(3, "crate"), ClassSpec(1, "person"), ClassSpec(2, "car"), ClassSpec(7, "cart"))
D = 40


def cloud(n, seed, ids=(1, 2, 3), spread=0.5):
    """Instances around the middles of classes, in turn; what a class's middle is does not depend on the seed."""
    middles = {each: np.random.default_rng(each).normal(0, 1, D) for each in range(12)}
    labels = np.array([ids[i % len(ids)] for i in range(n)])
    noise = np.random.default_rng([99, seed]).normal(0, spread, (n, D))
    return (np.stack([middles[each] for each in labels]) + noise).astype(np.float32), labels


def fitted(n, seed=0, **more):
    x, labels = cloud(n, seed, **more)
    return ClassHead.fit(x, labels, CLASSES, feature_kind="test/1")


def named(head, p):
    return np.array([*head.class_ids, 0])[p.argmax(axis=1)]


def test_from_one_label_on_like_is_told_from_unlike():
    x, labels = cloud(1, 0, ids=(2,))
    head = ClassHead.fit(x, labels, CLASSES, feature_kind="test/1")
    assert head.class_ids == (2,)
    assert head.meta["metrics"] is None
    alike, other = (head.predict_proba(cloud(40, 1, ids=(each,))[0])[:, 0] for each in (2, 9))
    assert alike.min() > other.max()


def test_one_label_does_not_give_everything_its_name():
    """Of five classes one has a label: what else there is, is likelier one of the others."""
    five = (*CLASSES, ClassSpec(9, "lamp"))
    x, labels = cloud(1, 0, ids=(2,))
    p = ClassHead.fit(x, labels, five, feature_kind="test/1").predict_proba(cloud(60, 1, ids=(1, 3, 9))[0])
    assert p[:, 0].mean() < 0.4
    many = ClassHead.fit(*cloud(40, 0, ids=(1, 2, 3, 9)), five, feature_kind="test/1")
    assert many.meta["none"]["prior"] < 0.15
    few = ClassHead.fit(*cloud(4, 0, ids=(1, 2)), five, feature_kind="test/1")
    assert 0.4 < few.meta["none"]["prior"] < 0.7


def test_from_three_labels_on_classes_are_told_apart():
    head = fitted(3)
    x, labels = cloud(60, 1)
    shares = head.predict_proba(x)[:, :-1]
    assert (np.array(head.class_ids)[shares.argmax(axis=1)] == labels).mean() > 0.95


@pytest.mark.parametrize("n", [20, 90])
def test_names_are_right_sure_and_calibrated(n):
    head = fitted(n)
    x, labels = cloud(300, 1)
    p = head.predict_proba(x)
    assert (named(head, p) == labels).mean() > 0.97
    assert p.max(axis=1).mean() > 0.85
    assert head.meta["metrics"]["samples"] == n
    assert head.meta["metrics"]["ece"] < 0.2


def test_classes_nobody_labelled_do_not_make_the_calibration_look_bad():
    x, labels = cloud(90, 0)
    many = [*CLASSES, *(ClassSpec(100 + each, f"other {each}") for each in range(12))]
    metrics = ClassHead.fit(x, labels, many, feature_kind="test/1").meta["metrics"]
    assert metrics["ece"] < 0.05
    assert metrics["reliability"][-1]["accuracy"] > 0.95


def test_what_is_like_no_class_is_none_of_these():
    head = fitted(60)
    stranger = head.predict_proba(cloud(100, 1, ids=(8, 9, 10))[0])
    assert (named(head, stranger) == 0).mean() > 0.9


def test_rejected_instances_teach_what_none_of_these_looks_like():
    """Two classes and junk that lies between them, so that only examples can tell."""
    x, labels = cloud(80, 0, ids=(1, 2))
    middle = x[labels == 1].mean(axis=0) / 2 + x[labels == 2].mean(axis=0) / 2
    junk = (middle + np.random.default_rng(5).normal(0, 0.5, (40, D))).astype(np.float32)
    without = ClassHead.fit(x, labels, CLASSES, feature_kind="test/1")
    everything, ids = np.concatenate([x, junk]), np.concatenate([labels, np.zeros(40, int)])
    head = ClassHead.fit(everything, ids, CLASSES, feature_kind="test/1")
    unseen = (middle + np.random.default_rng(6).normal(0, 0.5, (40, D))).astype(np.float32)
    assert (named(head, head.predict_proba(unseen)) == 0).mean() > 0.95
    assert head.predict_proba(unseen)[:, -1].mean() > without.predict_proba(unseen)[:, -1].mean()
    assert head.meta["none_labels"] == 40
    assert head.meta["metrics"]["per_class"][-1]["name"] == "none of these"


def test_probabilities_sum_to_one_and_rows_without_features_are_none():
    head = fitted(30)
    x = cloud(9, 2)[0]
    x[4] = np.nan
    p = head.predict_proba(x)
    assert p.shape == (9, 4)
    assert p.sum(axis=1) == pytest.approx(np.ones(9))
    assert p[4].tolist() == [0, 0, 0, 1]
    assert head.predict_proba(np.empty((0, D), np.float32)).shape == (0, 4)


def test_an_instance_gets_the_same_answer_alone_and_in_company():
    head = fitted(60)
    x = cloud(30, 3)[0]
    alone = np.concatenate([head.predict_proba(x[i : i + 1]) for i in range(30)])
    assert np.array_equal(alone, head.predict_proba(x))


def test_meta_says_what_was_learned():
    head = fitted(60)
    meta, metrics = head.meta, head.meta["metrics"]
    assert meta == json.loads(json.dumps(meta, allow_nan=False))
    assert (meta["feature_kind"], meta["dimension"], meta["labels"]) == ("test/1", D, 60)
    assert [(each["id"], each["name"], each["labels"]) for each in meta["classes"]] == [
        (1, "person", 20),
        (2, "car", 20),
        (3, "crate", 20),
    ]
    assert set(metrics["alternatives"]) == {"prototypes", "linear"}
    assert metrics["alternatives"][meta["method"]] == min(metrics["alternatives"].values())
    assert sum(each["count"] for each in metrics["reliability"]) == 60
    assert metrics["accuracy"] == pytest.approx(
        np.mean([each["recall"] for each in metrics["per_class"]])  # as many labels of each class
    )


def test_the_same_thing_seen_twice_is_never_on_both_sides():
    """Labels without any rule in them, each seen ten times: only who looks it up gets them right."""
    rng = np.random.default_rng(0)
    things = np.repeat(rng.normal(0, 1, (12, D)), 10, axis=0) + rng.normal(0, 0.01, (120, D))
    labels, tracks = np.repeat(np.arange(12) % 2 + 1, 10), np.repeat(np.arange(12), 10)
    fooled = ClassHead.fit(things, labels, CLASSES, feature_kind="test/1").meta["metrics"]["accuracy"]
    honest = ClassHead.fit(things, labels, CLASSES, feature_kind="test/1", groups=tracks.tolist())
    assert fooled > 0.95
    assert honest.meta["metrics"]["accuracy"] < 0.75


def test_folds_keep_groups_whole_and_classes_even():
    labels = np.array([1] * 30 + [2] * 10)
    fold = deal(labels)
    assert [np.bincount(labels[fold == each], minlength=3).tolist() for each in range(5)] == [[0, 6, 2]] * 5
    groups = [i // 4 for i in range(40)]
    fold = deal(labels, groups)
    assert all(len(set(fold[i : i + 4])) == 1 for i in range(0, 40, 4))
    assert deal(np.array([1])).tolist() == [0]


def test_a_class_of_which_one_thing_was_seen_is_tested_on_other_views_of_it():
    labels = np.array([1] * 40 + [2] * 20)
    groups = [i // 10 for i in range(40)] + [9] * 20
    fold = deal(labels, groups)
    assert all(len(set(fold[i : i + 10])) == 1 for i in range(0, 40, 10))  # things of the other class stay whole
    assert [len(set(fold[i : i + 4])) for i in range(40, 60, 4)] == [1] * 5  # runs, not every fifth view
    assert sorted(set(fold[40:])) == [0, 1, 2, 3, 4]


def test_a_saved_head_answers_as_the_one_that_was_saved(tmp_path):
    for n in (5, 80):
        head = fitted(n)
        head.save(tmp_path / "head.npz")
        loaded = ClassHead.load(tmp_path / "head.npz")
        x = cloud(50, 4)[0]
        assert np.array_equal(loaded.predict_proba(x), head.predict_proba(x))
        assert loaded.meta == head.meta


TRAIN = """
import sys
from pathlib import Path
from tests.pipeline.classification.test_head import fitted
fitted(120).save(Path(sys.argv[1]))
"""


def test_the_file_has_the_same_bytes_on_any_number_of_threads(tmp_path):
    contents = []
    for threads in ("1", "4"):
        path = tmp_path / f"{threads}.npz"
        environment = os.environ | {"OPENBLAS_NUM_THREADS": threads, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", TRAIN, str(path)], check=True, env=environment, cwd=ROOT)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"not a head",
        lambda content: content[: len(content) // 2],
        lambda content: content[:3000] + bytes(each ^ 0x55 for each in content[3000:3040]) + content[3040:],
    ],
)
def test_a_damaged_file_is_named(tmp_path, damage):
    path = tmp_path / "head.npz"
    fitted(40).save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ClassHeadError, match=r"head\.npz is not a class head, or a damaged one"):
        ClassHead.load(path)


def test_a_missing_file_and_another_archive_are_named(tmp_path):
    with pytest.raises(ClassHeadError, match=r"head\.npz is not there"):
        ClassHead.load(tmp_path / "head.npz")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ClassHeadError, match=r"other\.npz is not a class head"):
        ClassHead.load(tmp_path / "other.npz")
    np.savez(tmp_path / "objects.npz", meta=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ClassHeadError, match=r"objects\.npz is not a class head"):
        ClassHead.load(tmp_path / "objects.npz")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 99}, "of version 99"),
        ({"format": "something else"}, "is not a class head"),
        ({"dimension": 41}, "centre"),
        ({"method": "linear"}, "weights"),
        ({"temperature": 0.0}, "temperature"),
        ({"classes": [{"id": 1, "name": "a"}]}, "middle"),
        ({"segmenter_weight": -1}, "segmenter"),
    ],
)
def test_a_file_that_does_not_fit_together_is_refused(tmp_path, change, said):
    from pipeline.classification import archive

    path = tmp_path / "head.npz"
    fitted(5).save(path)
    meta, arrays = archive.read(path, "fovea-class-head", 1)
    archive.write(path, meta | change, arrays)
    with pytest.raises(ClassHeadError, match=said) as refused:
        ClassHead.load(path)
    assert "head.npz" in str(refused.value)


X = np.zeros((2, D), np.float32)


@pytest.mark.parametrize(
    ("features", "labels", "classes", "said"),
    [
        (np.zeros((2, D)), [1], CLASSES, r"features and labels: \(2, 40\) and \(1,\)"),
        (np.zeros(D), [1], CLASSES, "features and labels"),
        (X, [1, 5], CLASSES, "labels: 5 is not the id"),
        (X, [0, 0], CLASSES, "not one class has a label"),
        (X, [1.5, 1.0], CLASSES, "labels: every one must be the id"),
        (X, [1, 1], (*CLASSES, ClassSpec(1, "again")), "classes: ids must be different"),
        (np.full((2, D), np.nan), [1, 2], CLASSES, "not one class has a label"),
        (np.zeros((0, D)), [], CLASSES, "not one class has a label"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_with_a_sentence(features, labels, classes, said):
    with pytest.raises(ClassHeadError, match=said):
        ClassHead.fit(features, labels, classes, feature_kind="test/1")


def test_features_of_another_kind_or_size_are_refused():
    head = fitted(5)
    with pytest.raises(ClassHeadError, match=r"kind test/1; these are other/1"):
        head.check_kind("other/1")
    with pytest.raises(ClassHeadError, match=r"\(3, 9\) is not \(M, 40\)"):
        head.predict_proba(np.zeros((3, 9), np.float32))


def test_labels_that_are_all_alike_or_constant_features_do_no_harm():
    flat = np.ones((8, D), np.float32)
    head = ClassHead.fit(flat, [1, 2] * 4, CLASSES, feature_kind="test/1")
    p = head.predict_proba(flat[:1])
    assert p[0, 0] == pytest.approx(p[0, 1], abs=0.05)
    assert ClassHead.fit(np.zeros((40, D)), [1] * 40, CLASSES, feature_kind="test/1").class_ids == (1,)


def test_the_weight_of_the_segmenters_word_is_learned():
    x, labels = cloud(60, 0, spread=2.5)
    right = [{int(each): 0.9} for each in labels]
    random = [{int(each): 0.9} for each in np.random.default_rng(1).permutation(labels)]
    trusted, ignored = (
        ClassHead.fit(x, labels, CLASSES, feature_kind="test/1", segmenter_scores=each) for each in (right, random)
    )
    assert trusted.segmenter_weight > 2 * ignored.segmenter_weight
    assert trusted.meta["segmenter_weight_learned"]
    unknown = ClassHead.fit(x, labels, CLASSES, feature_kind="test/1", segmenter_scores=[None] * 60)
    assert not unknown.meta["segmenter_weight_learned"]
