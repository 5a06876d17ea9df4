import numpy as np
import pytest

from pipeline.geometry.boxes3d import iou_3d
from pipeline.simulation import figures
from pipeline.simulation.scene import CLASSES, street_corner


@pytest.mark.parametrize("seed", [1, 7, 42])
def test_nobody_walks_through_anything(seed):
    scene = street_corner(seed)
    for time in np.arange(0, 4.8, 0.2):
        boxes = []
        for actor in scene.actors:
            x, z, heading = actor.path.at(time)
            boxes.append([x, 0, z, *actor.size_hwl, heading])
        overlap = iou_3d(np.array(boxes), np.array(boxes)) - np.eye(len(boxes))
        assert overlap.max() < 1e-9, f"at {time} s"


def test_everyone_moves_as_fast_as_such_things_do():
    scene = street_corner()
    for actor in scene.actors:
        metres_per_second = actor.path.distance(4.8) / 4.8
        assert metres_per_second < {"person": 2.2, "car": 4, "cart": 1, "crate": 0.5}[actor.class_name]


@pytest.mark.parametrize("actor", street_corner().actors, ids=lambda actor: f"{actor.class_name}-{actor.id}")
def test_a_figure_fills_the_box_that_is_its_ground_truth(actor):
    low, high = figures.extents(actor.parts(1.3))
    length, height, width = high - low
    # A walker's stride opens and closes; things are rigid.
    slack = 0.35 if actor.class_name == "person" else 0.08
    assert np.allclose([height, width, length], actor.size_hwl, atol=slack)
    assert high[1] == pytest.approx(0, abs=0.06)


def test_every_actor_has_a_label_class_with_a_size():
    names = {each.name for each in CLASSES if each.typical_size_hwl}
    assert {actor.class_name for actor in street_corner().actors} <= names


def test_a_path_heads_where_it_goes():
    for actor in street_corner().actors:
        if actor.path.heading is not None:
            continue
        x0, z0, heading = actor.path.at(1.0)
        x1, z1, _ = actor.path.at(1.02)
        ahead = np.array([np.cos(heading), -np.sin(heading)])
        moved = np.array([x1 - x0, z1 - z0])
        assert ahead @ moved / np.linalg.norm(moved) > 0.999
