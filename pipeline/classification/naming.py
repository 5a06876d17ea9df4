"""A trained class head at work: what a segmenter found in a frame gets its names.

An instance's confidence is (that there is one whole thing) x (that it is of its class), the latter from both opinions
(`mixing.py`). "None of these" is no class: it takes its share, so that an instance which is likelier none than all
classes together falls below any threshold from 0.5 on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.classification import features, mixing
from pipeline.classification.features import FeatureExtractor
from pipeline.classification.head import ClassHead
from pipeline.errors import ClassHeadError
from pipeline.segmentation.base import ClassSpec, Instance, View

_LEAST: Final = 1e-4
"""Probabilities below are not told."""
_WORTH: Final = 0.05
"""Evidence of one whole thing from which an instance is worth a look: its confidence cannot be more."""


@dataclass(frozen=True)
class Namer:
    """Gives instances the head's classes. segmenter_kind: of the features that come with the instances."""

    head: ClassHead
    class_ids: tuple[int, ...]
    segmenter_kind: str
    extractor: FeatureExtractor | None

    @classmethod
    def load(
        cls, path: Path, classes: Sequence[ClassSpec], segmenter_kind: str, models_folders: Sequence[Path]
    ) -> "Namer":
        """Raises ClassHeadError where the head cannot be read, knows none of the classes, or its features cannot be had
        of this segmenter or here."""
        head = ClassHead.load(path)
        if not {each.id for each in classes} & set(head.class_ids):
            names = ", ".join(each["name"] for each in head.meta["classes"])
            raise ClassHeadError(f"{path.name} knows other classes than this job has: {names}.")
        if features.is_segmenters(head.feature_kind):
            head.check_kind(segmenter_kind)
            extractor = None
        else:
            extractor = features.extractor(head.feature_kind, models_folders)
            if extractor.dimension != head.dimension:
                raise ClassHeadError(f"{path.name} does not belong to features of the kind {head.feature_kind}.")
        return cls(head, tuple(each.id for each in classes), segmenter_kind, extractor)

    def named(self, view: View, instances: Sequence[Instance]) -> list[Instance]:
        """The instances with new class scores, class and confidence, most confident first."""
        worth = [each for each in instances if mixing.evidence(each.class_scores, each.objectness) >= _WORTH]
        rest = [each for each in instances if mixing.evidence(each.class_scores, each.objectness) < _WORTH]
        if worth:
            told = self.head.predict_proba(self._features(view, worth))
            worth = [self._one(each, row) for each, row in zip(worth, told, strict=True)]
        return sorted([*worth, *rest], key=lambda each: -each.confidence)

    def _features(self, view: View, instances: Sequence[Instance]) -> NDArray[np.float32]:
        if self.extractor is not None:
            return self.extractor.of(view, [each.mask for each in instances])
        missing = np.full(self.head.dimension, np.nan, np.float32)
        rows = [missing if each.features is None else features.stored(each.features) for each in instances]
        if any(row.shape != missing.shape for row in rows):
            raise ClassHeadError(f"The segmenter's features are not the {missing.size} numbers the class head learned.")
        return np.stack(rows)

    def _one(self, instance: Instance, told: NDArray[np.float64]) -> Instance:
        there = mixing.evidence(instance.class_scores, instance.objectness)
        own = mixing.shares(instance.class_scores, instance.objectness, self.class_ids)
        head = mixing.extended(told, self.head.class_ids, self.class_ids, own)
        chance = there * mixing.mixed(head, own, self.head.segmenter_weight)[:-1]
        scores = {
            each: round(float(value), 6) for each, value in zip(self.class_ids, chance, strict=True) if value >= _LEAST
        }
        best = self.class_ids[int(np.argmax(chance))]
        return replace(instance, class_id=best, confidence=scores.get(best, 0.0), class_scores=scores)
