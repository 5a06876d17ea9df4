"""Fit the weights of the disparity's confidence, and tell how far its probabilities hold on scenes it has not seen.

    python -m benchmarks.stereo_confidence [FOLDER]

FOLDER (default: FOVEA_TEST_DATA or ../shared/data) holds stereo_middlebury and stereo_aloe. For each group of scenes
the weights are fitted on all the others. ECE (expected calibration error): mean distance of the probability and the
share of right disparities, in 15 steps. AUC: how often a right disparity is trusted more than a wrong one. Skill: by
how much the squared error of the probability is below that of a constant (0 tells nothing, 1 tells all). The last line
is what `pipeline.stereo.confidence.WEIGHTS` should say; the benchmark fails where it says something else.
"""

import os
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks._stereo_scenes import Scene, aloe, middlebury, simulated
from pipeline.stereo.confidence import WEIGHTS, confidence_signs
from pipeline.stereo.matching import _grey

Values = NDArray[np.float64]
PENALTY = 1e-3
STEPS = 15
LARGEST_ECE = 0.03
TOLERANCE = 0.15


def samples(scene: Scene) -> tuple[Values, Values]:
    """The signs of every disparity with a known truth, (N, 5) with a constant first; and whether it is right, (N,)."""
    left, right = _grey(scene.left), _grey(scene.right)
    disparity, difference = scene.matcher._matched(left, right)
    signs = confidence_signs(left, right, disparity, difference)
    known = np.isfinite(disparity) & np.isfinite(scene.truth)
    right_ones = np.abs(disparity - scene.truth)[known] < 1
    return np.column_stack([np.ones(known.sum()), *(sign[known] for sign in signs)]), right_ones.astype(np.float64)


def fit(signs: Values, correct: Values, weights: Values) -> Values:
    """Logistic regression by Newton's method."""
    found = np.zeros(signs.shape[1])
    for _ in range(50):
        probability = predict(signs, found)
        curvature = weights * probability * (1 - probability)
        hessian = signs.T @ (signs * curvature[:, None]) + PENALTY * np.eye(len(found))
        step = np.linalg.solve(hessian, signs.T @ (weights * (correct - probability)) - PENALTY * found)
        found += step
        if np.abs(step).max() < 1e-8:
            break
    return found


def predict(signs: Values, weights: Values) -> Values:
    return 1 / (1 + np.exp(-signs @ weights))


def calibration_error(probability: NDArray[np.floating], correct: NDArray[np.floating]) -> float:
    """Mean over all samples of |mean probability - share that is right| within each of 15 equal steps."""
    step = np.minimum((probability * STEPS).astype(int), STEPS - 1)
    told, true = (np.bincount(step, weights=values, minlength=STEPS) for values in (probability, correct))
    return float(np.abs(told - true).sum() / len(probability))


def area_under_curve(probability: Values, correct: Values) -> float:
    order = np.argsort(probability, kind="stable")
    ranks = np.empty(len(order))
    ranks[order] = np.arange(len(order))
    right = correct.sum()
    return float((ranks[correct > 0].sum() - right * (right - 1) / 2) / (right * (len(correct) - right)))


def main(data: Path) -> int:
    scenes = [*middlebury(data), *aloe(data), *simulated()]
    groups = [scene.group for scene in scenes]
    found = [samples(scene) for scene in scenes]
    # Every group counts the same, however many scenes and pixels it has.
    shares = [
        np.full(len(correct), 1e4 / len(correct) / groups.count(group))
        for (_, correct), group in zip(found, groups, strict=True)
    ]

    def fitted(kept: list[int]) -> Values:
        return fit(
            *(
                np.concatenate(parts)
                for parts in ([found[i][0] for i in kept], [found[i][1] for i in kept], [shares[i] for i in kept])
            )
        )

    print(f"{'scene':<16}{'right':>8}{'ECE':>8}{'AUC':>8}{'skill':>8}")
    errors = []
    for group in dict.fromkeys(groups):
        others = [index for index, other in enumerate(groups) if other != group]
        weights = fitted(others)
        for index in (index for index, other in enumerate(groups) if other == group):
            signs, correct = found[index]
            probability = predict(signs, weights)
            errors.append(calibration_error(probability, correct))
            skill = 1 - np.mean((probability - correct) ** 2) / correct.var()
            print(
                f"{scenes[index].name:<16}{correct.mean():>8.1%}{errors[-1]:>8.3f}"
                f"{area_under_curve(probability, correct):>8.2f}{skill:>8.2f}"
            )
    weights = fitted(list(range(len(scenes))))
    print(f"mean ECE of unseen scenes: {np.mean(errors):.3f} (target: at most {LARGEST_ECE})")
    print(f"WEIGHTS = ({', '.join(f'{value:.2f}' for value in weights)})")
    stale = bool(np.abs(weights - WEIGHTS).max() > TOLERANCE)
    if stale:
        print(f"but pipeline.stereo.confidence says {WEIGHTS}")
    return int(stale or np.mean(errors) > LARGEST_ECE)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("FOVEA_TEST_DATA") or "../shared/data")))
