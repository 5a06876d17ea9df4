"""Models of transformers, read from a folder with the hub's files."""

from pathlib import Path
from typing import Any

from pipeline.errors import SegmenterUnavailableError


def from_folder(kind: Any, folder: Path, **settings: Any) -> Any:
    """A model of transformers from the hub's files, safetensors alone, never over the network.

    Raises SegmenterUnavailableError where a tensor is missing or has another shape. settings: for the
    class's `from_pretrained`.
    """
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model, told = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            dtype=torch.float32,
            **settings,
        )
    except Exception as error:
        # A configuration that is not one raises errors of huggingface_hub's that have no base of their own.
        if not isinstance(error, (RuntimeError, ValueError, TypeError, KeyError, OSError)) and "Strict" not in repr(
            type(error)
        ):
            raise
        reason = str(error).strip().partition("\n")[0]
        raise SegmenterUnavailableError(f"{folder.name}: the weights do not fit its config.json: {reason}") from error
    if missing := sorted(told["missing_keys"]):
        raise SegmenterUnavailableError(
            f"{folder.name}: the weights belong to another model: {len(missing)} of its tensors are missing "
            f"({missing[0]} first)."
        )
    return model
