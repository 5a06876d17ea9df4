"""Models of transformers, read from a folder with the hub's files."""

from pathlib import Path
from typing import Any, Final

from pipeline.errors import SegmenterUnavailableError

MISFITS: Final = (RuntimeError, ValueError, TypeError, KeyError, AttributeError, OSError)
"""What building a model from a configuration that is not its own ends in."""


def quiet() -> None:
    """Let transformers say what is an error, and nothing else: what does not fit is said here, in a sentence."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def from_folder(kind: Any, folder: Path, **settings: Any) -> Any:
    """A model of transformers from the hub's files, safetensors alone, never over the network.

    Raises SegmenterUnavailableError where a tensor is missing or has another shape. settings: for the
    class's `from_pretrained`.
    """
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    quiet()
    try:
        model, told = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            dtype=torch.float32,
            **settings,
        )
    except (*MISFITS, StrictDataclassError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise SegmenterUnavailableError(f"{folder.name}: the weights do not fit its config.json: {reason}") from error
    if missing := sorted(told["missing_keys"]):
        raise SegmenterUnavailableError(
            f"{folder.name}: the weights belong to another model: {len(missing)} of its tensors are missing "
            f"({missing[0]} first)."
        )
    return model
