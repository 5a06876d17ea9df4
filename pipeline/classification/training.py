"""How a class head is fitted: which model, how sure, how open; all decided on labels held back."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit, softmax

from pipeline.classification import calibration, linear, mixing
from pipeline.classification.folds import deal
from pipeline.classification.linear import Directions, Linear
from pipeline.classification.prototypes import Prototypes
from pipeline.segmentation.base import ClassSpec

Floats = NDArray[np.float64]
Columns = NDArray[np.int64]

LINEAR_FROM: Final = 30
"""Labels from which a linear model is tried."""
SHARPNESS: Final = 24.0
"""How many independent dimensions features count as having, before a temperature says it better."""
_FEW: Final = 4.0
"""Labels from which on the prototypes know half of how things vary; with fewer, they must not be sure."""
_CAUTION: Final = 1.0
"""Labels' worth of trust in that, for the temperature; and in the gate as it is without labels."""
_BEFORE: Final = 2.0
"""How often a class without a label is taken to have been seen."""
_GATE_CAUTION: Final = 1.0


@dataclass(frozen=True, slots=True)
class Held:
    """Predictions of labels held back. column (n,): what they are; usable (n,): that their class was in training."""

    column: Columns
    usable: NDArray[np.bool_]
    shares: Floats
    known: Floats
    uncalibrated: Floats
    folds: int

    def probabilities(self, classes: int) -> Floats:
        """(n, C + 1), the last: none of these."""
        out = np.zeros((self.column.size, classes + 1))
        out[:, :classes] = self.shares[:, :classes] * self.known[:, None]
        out[:, classes] = 1 - out[:, :classes].sum(axis=1)
        return out


@dataclass(frozen=True, slots=True)
class Fitted:
    """What `head.ClassHead` is made of."""

    prototypes: Prototypes
    linear: Linear | None
    temperature: float
    gate: tuple[float, float]
    none_prior: float
    none_auroc: float
    penalty: float | None
    held: Held | None
    losses: dict[str, float] = field(default_factory=dict)
    segmenter_weight: float = mixing.WEIGHT
    segmenter_weight_learned: bool = False


def train(
    x: Floats,
    ids: Columns,
    class_ids: Sequence[int],
    groups: Sequence[Hashable] | None,
    segmenter_scores: Sequence[Mapping[int, float] | None] | None,
    none_prior: float,
) -> Fitted:
    """x (N, D); ids (N,), 0 for none; class_ids: ascending, each with a label. Columns beyond them: none."""
    place = {each: column for column, each in enumerate(class_ids)}
    classes = len(class_ids)
    column = np.array([place.get(int(each), classes) for each in ids], dtype=np.int64)
    columns = classes + bool(np.any(column == classes))
    fold = deal(column, groups)
    prototypes = Prototypes.fit(x, column, columns)
    sure = ids.size / (ids.size + _FEW)
    folds = int(fold.max()) + 1
    usable = _met(column, fold, columns)
    if folds < 2 or not usable.any():
        return Fitted(
            prototypes, None, 1 / sure, (sure, float(logit(1 - none_prior))), none_prior, float("nan"), None, None
        )

    scores, strangers = np.zeros((ids.size, columns)), np.full(ids.size, -np.inf)
    for each in range(folds):
        test = fold == each
        held = Prototypes.fit(x[~test], column[~test], columns).scores(x[test])
        absent = np.bincount(column[~test], minlength=columns) == 0
        held[:, absent] = -np.inf
        scores[test] = held
        own = column[test]
        held[np.arange(own.size), own] = -np.inf
        strangers[test] = held.max(axis=1)
    closed = scores * SHARPNESS * sure
    temperature = calibration.fit_temperature(closed[usable], column[usable], _CAUTION)
    best = SHARPNESS * sure / temperature * np.stack([scores.max(axis=1), strangers])
    gate, auroc = _gate(best[0], best[1], usable, column < classes, none_prior)
    losses = {"prototypes": _loss(closed[usable] / temperature, column[usable])}
    prototype_temperature = temperature
    chosen: Linear | None = None
    penalty: float | None = None
    raw = closed
    if ids.size >= LINEAR_FROM and columns > 1:
        seen = Directions.of(x)
        inputs = seen.seen(x)
        logits, t, at = _held_back(inputs, column, columns, fold, usable)
        losses["linear"] = _loss(logits[usable] / t, column[usable])
        if losses["linear"] < losses["prototypes"]:
            penalty = linear.PENALTIES[at]
            chosen = seen.back(*next(linear.path(inputs, column, columns, [penalty])))
            temperature, raw = t, logits
    shares = softmax(raw / temperature, axis=1)
    if chosen is None:
        temperature /= sure
    known = expit(gate[0] * best[0] + gate[1])
    gate = gate[0] * sure / prototype_temperature, gate[1]
    held_back = Held(column, usable, shares, known, softmax(raw, axis=1), folds)
    weight, learned = _segmenter_weight(held_back, class_ids, segmenter_scores)
    return Fitted(
        prototypes,
        chosen,
        temperature,
        gate,
        none_prior,
        auroc,
        penalty,
        held_back,
        losses,
        weight,
        learned,
    )


def unseen_prior(none_prior: float, labels: int, labelled: int, classes: int) -> float:
    """Share of instances to be expected of no class with a label, of which there are `labelled` of all `classes`.

    Each class counts as if it had been seen _BEFORE times; that the next instance is of a kind nobody thought of is
    likelier the fewer have been seen (Good's and Turing's argument, with half a kind seen once assumed).
    """
    waiting = (classes - labelled) * _BEFORE / (labels + classes * _BEFORE)
    return 1 - (1 - none_prior) * (1 - waiting) * (1 - 0.5 / (labels + 2))


def _met(column: Columns, fold: Columns, columns: int) -> NDArray[np.bool_]:
    """Which labels (N,) are of a class that also has labels in other folds, where there is more than one such class."""
    usable = np.zeros(column.size, bool)
    total = np.bincount(column, minlength=columns)
    for each in np.unique(fold):
        test = fold == each
        usable[test] = (total - np.bincount(column[test], minlength=columns))[column[test]] > 0
    return usable


def _loss(logits: Floats, column: Columns) -> float:
    return calibration.negative_log_likelihood(softmax(logits, axis=1), column)


def _held_back(
    seen: Floats, column: Columns, columns: int, fold: Columns, usable: NDArray[np.bool_]
) -> tuple[Floats, float, int]:
    """Logits (N, C) of the linear model for labels held back, their temperature, and which of the penalties it has:
    from strong to weak, the last one before things get worse."""
    tests = [fold == each for each in range(int(fold.max()) + 1)]
    paths = [linear.path(seen[~test], column[~test], columns) for test in tests]
    best: tuple[float, Floats, float, int] | None = None
    for at in range(len(linear.PENALTIES)):
        logits = np.zeros((column.size, columns))
        for test, each in zip(tests, paths, strict=True):
            weights, bias = next(each)
            logits[test] = seen[test] @ weights + bias
        t = calibration.fit_temperature(logits[usable], column[usable], _CAUTION)
        loss = _loss(logits[usable] / t, column[usable])
        if best is not None and loss >= best[0]:
            break
        best = loss, logits, t, at
    assert best is not None  # noqa: S101 - there are penalties
    return best[1:]


def _gate(
    known: Floats, strangers: Floats, usable: NDArray[np.bool_], real: NDArray[np.bool_], none_prior: float
) -> tuple[tuple[float, float], float]:
    """Slope and offset of P(known) = σ(slope · score + offset), and how well scores tell the two apart.

    known (N,): best scores of labels held back; strangers (N,): the same had their class never been seen, where there
    are other classes. Platt's scaling with the two sides weighted by the prior of "none of these".
    """
    start = np.array([1.0, float(logit(1 - none_prior))])
    inside, outside = known[usable], strangers[usable & real & np.isfinite(strangers)]
    if inside.size < 4 or outside.size < 4:
        return (float(start[0]), float(start[1])), float("nan")
    score = np.concatenate([inside, outside])
    sign = np.concatenate([np.ones(inside.size), -np.ones(outside.size)])
    effective = min(inside.size, 200)
    weight = effective * np.concatenate(
        [np.full(inside.size, (1 - none_prior) / inside.size), np.full(outside.size, none_prior / outside.size)]
    )

    def loss(value: Floats) -> float:
        fit = float((weight * np.logaddexp(0, -sign * (value[0] * score + value[1]))).sum())
        return fit + _GATE_CAUTION * float(np.square((value - start) * (1.0, 0.3)).sum())

    found = minimize(loss, start, method="L-BFGS-B", bounds=((0.0, 5.0), (-30.0, 30.0))).x
    flags = np.concatenate([np.ones(inside.size, bool), np.zeros(outside.size, bool)])
    return (float(found[0]), float(found[1])), calibration.auroc(score, flags)


def _segmenter_weight(
    held: Held, class_ids: Sequence[int], scores: Sequence[Mapping[int, float] | None] | None
) -> tuple[float, bool]:
    if scores is None:
        return mixing.WEIGHT, False
    rows = [at for at, each in enumerate(scores) if each and held.usable[at]]
    if not rows:
        return mixing.WEIGHT, False
    told = np.stack([mixing.shares(each, None, class_ids) for at in rows if (each := scores[at])])
    own = np.minimum(held.column[rows], len(class_ids))
    return mixing.fit_weight(held.probabilities(len(class_ids))[rows], told, own), True


def told(fitted: Fitted, named: Sequence[ClassSpec]) -> dict[str, Any]:
    """The part of the head's `meta` that comes from the fit."""
    auroc = None if np.isnan(fitted.none_auroc) else round(fitted.none_auroc, 6)
    return {
        "penalty": fitted.penalty,
        "none": {
            "prior": fitted.none_prior,
            "slope": round(fitted.gate[0], 6),
            "offset": round(fitted.gate[1], 6),
            "auroc": auroc,
        },
        "segmenter_weight": round(fitted.segmenter_weight, 6),
        "segmenter_weight_learned": fitted.segmenter_weight_learned,
        "metrics": None if fitted.held is None else _metrics(fitted.held, named, fitted.losses),
    }


def _metrics(held: Held, named: Sequence[ClassSpec], losses: Mapping[str, float]) -> dict[str, Any]:
    classes = len(named)
    p = held.probabilities(classes)
    column = np.minimum(held.column, classes)
    chosen = p.argmax(axis=1)
    right = chosen == column
    sure = np.clip(p.max(axis=1), 0, 1)
    # Where nobody has said "none of these" yet, no label can tell how often that is right: then what is judged is the
    # choice among the classes, with the openness left out of both what it claims and what it says.
    closed = held.shares if not np.any(column == classes) else p
    claimed, kept = closed.max(axis=1), closed.argmax(axis=1) == column
    before = held.uncalibrated
    per_class = []
    for at, (number, name) in enumerate([*((each.id, each.name) for each in named), (0, "none of these")]):
        labels, said = int(np.count_nonzero(column == at)), int(np.count_nonzero(chosen == at))
        if number == 0 and not labels:
            continue
        hits = int(np.count_nonzero((column == at) & right))
        per_class.append(
            {
                "id": number,
                "name": name,
                "labels": labels,
                "precision": round(hits / said, 6) if said else None,
                "recall": round(hits / labels, 6) if labels else None,
            }
        )
    return {
        "folds": held.folds,
        "samples": int(column.size),
        "accuracy": round(float(right.mean()), 6),
        "nll": round(calibration.negative_log_likelihood(p, column), 6),
        "brier": round(calibration.brier(p, column), 6),
        "risk": round(calibration.risk_coverage(sure, right)[2], 6),
        "ece": round(calibration.expected_calibration_error(claimed, kept), 6),
        "ece_uncalibrated": round(
            calibration.expected_calibration_error(before.max(axis=1), before.argmax(axis=1) == held.column), 6
        ),
        "reliability": [
            {name: round(value, 6) for name, value in asdict(each).items()}
            for each in calibration.reliability(claimed, kept)
        ],
        "per_class": per_class,
        "alternatives": {name: round(value, 6) for name, value in losses.items()},
    }
