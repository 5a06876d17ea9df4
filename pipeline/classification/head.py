"""The class head: features of instances and what people said they are, to calibrated class probabilities.

    kind = best_kind(models_folders)                                    # pipeline.classification.features
    features = sequence_features(layout, records, kind, models_folders) # (N, D) float32, NaN rows: not to be had
    head = ClassHead.fit(features, labels, classes, feature_kind=kind, groups=tracks)
    head.save(path)                                                     # atomic; equal labels give equal bytes
    head = ClassHead.load(path)
    probabilities = head.predict_proba(features)                        # (M, C + 1), the last: none of these

`labels` are class ids, 0 for "none of these" (instances that people rejected). Columns are `head.class_ids`: the
classes with at least one label, by id.

From the first label on classes are prototypes (`prototypes.py`); from 30 labels on a linear model is fitted
too (`linear.py`, its penalty chosen by cross-validation) and taken where it does better on labels it has not seen. The
temperature comes from the same held-out predictions. That an instance is none of the classes is told by the prototypes:
how much likelier than of a class never seen, on a scale fitted to held-out labels against labels of classes left out.

`head.meta`, JSON values only, is what a model page needs:
{"format": "fovea-class-head", "version": 1, "feature_kind": str, "dimension": D, "labels": N,
 "classes": [{"id", "name", "labels"}], "none_labels": N, "method": "prototypes" | "linear", "penalty": float | null,
 "temperature": float, "none": {"prior", "slope", "offset", "auroc": float | null},
 "segmenter_weight": float, "segmenter_weight_learned": bool,
 "metrics": null (too few labels to hold any back) or
   {"folds", "samples", "accuracy", "nll", "brier", "ece", "ece_uncalibrated", "risk" (area under risk over coverage),
    "reliability": [{"low", "high", "count", "confidence", "accuracy"}],
    "per_class": [{"id", "name", "labels", "precision": float | null, "recall": float | null}],
    "alternatives": {"prototypes": nll, "linear": nll}}}
All metrics come from predictions of labels held back. As long as no label says "none of these", ece and reliability
judge the choice among the classes alone. per_class ends with id 0, "none of these", where it has labels.
"""

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax
from threadpoolctl import threadpool_limits

from pipeline.classification import archive, training
from pipeline.classification.linear import Linear
from pipeline.classification.prototypes import Prototypes
from pipeline.errors import ClassHeadError
from pipeline.segmentation.base import ClassSpec

FORMAT: Final = "fovea-class-head"
VERSION: Final = 1
NONE_ID: Final = 0
"""The label, and in `meta` the id, of "none of these"."""
NONE_PRIOR: Final = 0.05
"""Share of instances that are of none of the classes once each has many labels; before, more (`unseen_prior`)."""


@dataclass(frozen=True, slots=True)
class ClassHead:
    """See the module. temperature: what logits are divided by; gate: slope and offset of what makes a score against
    "never seen" a probability."""

    feature_kind: str
    class_ids: tuple[int, ...]
    prototypes: Prototypes
    linear: Linear | None
    temperature: float
    gate: tuple[float, float]
    meta: dict[str, Any]

    @property
    def dimension(self) -> int:
        return self.prototypes.centre.size

    @property
    def segmenter_weight(self) -> float:
        """The exponent of the segmenter's own class probabilities where both are mixed (`mixing.py`)."""
        return float(self.meta["segmenter_weight"])

    @classmethod
    def fit(
        cls,
        features: NDArray[np.float32],
        labels: Sequence[int] | NDArray[np.int64],
        classes: Sequence[ClassSpec],
        *,
        feature_kind: str,
        groups: Sequence[Hashable] | None = None,
        segmenter_scores: Sequence[Mapping[int, float] | None] | None = None,
        none_prior: float = NONE_PRIOR,
    ) -> Self:
        """Train on features (N, D) and labels (N,): ids of `classes`, or 0.

        groups: for each label what it shares with others (its track, say), so that the same thing is never in training
        and test. segmenter_scores: what the segmenter alone said of each (class id to probability; None: not known),
        from which the weight of its word is learned. Rows of features that are not finite are left out. Deterministic.
        Raises ClassHeadError saying what is wrong with which argument.
        """
        x, ids, keep = _checked(features, labels, classes)
        named = tuple(each for each in sorted(classes, key=lambda each: each.id) if np.any(ids == each.id))
        if not named:
            raise ClassHeadError("labels: not one class has a label yet, there is nothing to learn.")
        owners = None if groups is None else [each for each, k in zip(groups, keep, strict=True) if k]
        scores = None
        if segmenter_scores is not None:
            scores = [each for each, k in zip(segmenter_scores, keep, strict=True) if k]
        class_ids = tuple(each.id for each in named)
        prior = training.unseen_prior(none_prior, int(ids.size), len(class_ids), len(classes))
        # The same sums in the same order, whatever the number of cores.
        with threadpool_limits(limits=1, user_api="blas"):
            fitted = training.train(x, ids, class_ids, owners, scores, prior)
        counts = {each.id: int(np.count_nonzero(ids == each.id)) for each in named}
        meta = {
            "format": FORMAT,
            "version": VERSION,
            "feature_kind": feature_kind,
            "dimension": int(x.shape[1]),
            "labels": int(ids.size),
            "classes": [{"id": each.id, "name": each.name, "labels": counts[each.id]} for each in named],
            "none_labels": int(np.count_nonzero(ids == NONE_ID)),
            "method": "prototypes" if fitted.linear is None else "linear",
            "temperature": fitted.temperature,
            **training.told(fitted, named),
        }
        # What is saved in single precision is used in single precision: a loaded head answers as the one that was fit.
        arrays = _arrays(fitted.prototypes, fitted.linear, fitted.gate)
        return cls._made(json.loads(json.dumps(meta, allow_nan=False)), archive.rounded(arrays))

    def predict_proba(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(M, C + 1) probabilities of instances with features (M, D); rows sum to 1; the last column: none of these.

        An instance without features (a row that is not finite) is "none of these". Rounded to six digits.
        """
        x = np.asarray(features, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != self.dimension:
            raise ClassHeadError(
                f"features: {x.shape} is not (M, {self.dimension}), what this class head was trained on "
                f"({self.feature_kind})."
            )
        columns = len(self.class_ids)
        usable = np.isfinite(x).all(axis=1)
        out = np.zeros((x.shape[0], columns + 1))
        if usable.any():
            scores = self.prototypes.scores(x[usable])
            logits = scores * training.SHARPNESS if self.linear is None else self.linear.logits(x[usable])
            shares = softmax(logits / self.temperature, axis=1)
            known = expit(self.gate[0] * training.SHARPNESS * scores.max(axis=1) + self.gate[1])
            out[usable, :columns] = np.round(shares[:, :columns] * known[:, None], 6)
        out[:, columns] = np.clip(1 - out[:, :columns].sum(axis=1), 0, 1)
        return out

    def check_kind(self, feature_kind: str) -> None:
        """Raises ClassHeadError if features of that kind are not what this head was trained on."""
        if feature_kind != self.feature_kind:
            raise ClassHeadError(
                f"The class head was trained on features of the kind {self.feature_kind}; these are {feature_kind}. "
                "Train it again on these."
            )

    def save(self, path: Path) -> None:
        """Write the head to `path` (.npz, atomic). Equal heads give equal bytes."""
        arrays = _arrays(self.prototypes, self.linear, self.gate)
        archive.write(path, self.meta, archive.rounded(arrays))

    @classmethod
    def load(cls, path: Path) -> Self:
        """The head saved at `path`. Raises ClassHeadError naming the file: missing, damaged, another's."""
        meta, arrays = archive.read(path, FORMAT, VERSION)
        try:
            return cls._made(meta, arrays)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ClassHeadError(f"{path.name} is not a class head, or a damaged one: {error}.") from error

    @classmethod
    def _made(cls, meta: dict[str, Any], arrays: dict[str, NDArray[np.float32]]) -> Self:
        """Raises ValueError, KeyError or TypeError for what does not fit together."""
        values = {name: array.astype(np.float64) for name, array in arrays.items()}
        classes, dimension = len(meta["classes"]), int(meta["dimension"])
        columns = classes + (meta["none_labels"] > 0)
        shapes = {
            "centre": (dimension,),
            "scale": (1,),
            "middle": (columns, dimension),
            "variance": (dimension,),
            "unseen": (dimension,),
            "gate": (2,),
        }
        if meta["method"] == "linear":
            shapes |= {"weights": (dimension, columns), "bias": (columns,)}
        for name, shape in shapes.items():
            if values[name].shape != shape or not np.isfinite(values[name]).all():
                raise ValueError(f"{name} is not {shape} finite numbers")
        if not (meta["temperature"] > 0 and values["scale"][0] > 0 and values["variance"].min() > 0):
            raise ValueError("a variance or a temperature is not above 0")
        if not values["unseen"].min() > 0 or not 0 <= meta["segmenter_weight"] <= 10:
            raise ValueError("a variance is not above 0, or the segmenter's weight not within 0 and 10")
        prototypes = Prototypes(
            values["centre"], float(values["scale"][0]), values["middle"], values["variance"], values["unseen"]
        )
        linear = Linear(values["weights"], values["bias"]) if meta["method"] == "linear" else None
        return cls(
            feature_kind=str(meta["feature_kind"]),
            class_ids=tuple(int(each["id"]) for each in meta["classes"]),
            prototypes=prototypes,
            linear=linear,
            temperature=float(meta["temperature"]),
            gate=(float(values["gate"][0]), float(values["gate"][1])),
            meta=meta,
        )


def _arrays(prototypes: Prototypes, linear: Linear | None, gate: tuple[float, float]) -> dict[str, NDArray[Any]]:
    """What a file holds, by name."""
    arrays = {
        "centre": prototypes.centre,
        "scale": np.array([prototypes.scale]),
        "middle": prototypes.middle,
        "variance": prototypes.variance,
        "unseen": prototypes.unseen,
        "gate": np.array(gate),
    }
    return arrays if linear is None else arrays | {"weights": linear.weights, "bias": linear.bias}


def _checked(
    features: NDArray[np.float32], labels: Sequence[int] | NDArray[np.int64], classes: Sequence[ClassSpec]
) -> tuple[NDArray[np.float64], NDArray[np.int64], list[bool]]:
    """Features and labels of the usable rows, and which of all rows they are."""
    x, ids = np.asarray(features, dtype=np.float64), np.asarray(labels)
    if x.ndim != 2 or ids.shape != x.shape[:1] or not x.shape[1]:
        raise ClassHeadError(f"features and labels: {x.shape} and {ids.shape} are not (N, D) and (N,).")
    if ids.size and not np.issubdtype(ids.dtype, np.integer):
        raise ClassHeadError("labels: every one must be the id of a class, or 0 for none of these.")
    known = {each.id for each in classes}
    if len(known) != len(classes) or NONE_ID in known:
        raise ClassHeadError("classes: ids must be different and not 0, which means none of these.")
    stranger = next((int(each) for each in ids if int(each) not in known and each != NONE_ID), None)
    if stranger is not None:
        raise ClassHeadError(f"labels: {stranger} is not the id of one of the classes.")
    usable = np.atleast_1d(np.isfinite(x).all(axis=1))
    return x[usable], ids[usable].astype(np.int64), usable.tolist()
