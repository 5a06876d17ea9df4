"""lineage.json: where a training dataset comes from, back to the recordings' SHA-256."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.formats.base import MANIFEST


def lineage_document(
    *,
    training_dataset_id: str | None,
    source_job_id: str | None,
    source_dataset_id: str | None,
    format: str,  # noqa: A002 - the specification's key
    filter_config: Mapping[str, Any],
    split_config: Mapping[str, Any],
    export_config: Mapping[str, Any],
    statistics: Mapping[str, Any],
    recordings: Sequence[Mapping[str, Any]],
    pipeline: Mapping[str, Any],
    created_at: str,
    exported_files: Mapping[str, Any],
    curated_dataset_id: str | None = None,
) -> dict[str, Any]:
    """The specification's keys, then ours.

    recordings: {"sequence", "path", "sha256", "calibration", "camera", …} each. pipeline: {"config", "code_version",
    "segmenter", "segmenter_sha256", …}. exported_files: `manifest_digest(...)`.
    """
    return {
        "training_dataset_id": training_dataset_id,
        "source_job_id": source_job_id,
        "source_dataset_id": source_dataset_id,
        "curated_dataset_id": curated_dataset_id,
        "filter_config": dict(filter_config),
        "split_config": dict(split_config),
        "format": format,
        "statistics": dict(statistics),
        "created_at": created_at,
        "export_config": dict(export_config),
        "recordings": [dict(recording) for recording in recordings],
        "pipeline": dict(pipeline),
        "exported_files": dict(exported_files),
    }


def manifest_digest(root: Path) -> dict[str, Any]:
    """The manifest lists the SHA-256 of every exported file; its own hash seals it."""
    digest, count = hashlib.sha256(), 0
    with (root / MANIFEST).open("rb") as stream:
        for line in stream:
            digest.update(line)
            count += 1
    return {"manifest": MANIFEST, "count": count, "sha256": digest.hexdigest()}
