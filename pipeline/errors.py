"""What can go wrong in the engine. Each message is one sentence a user understands, naming the file or the field."""


class PipelineError(Exception):
    """Base of everything the engine raises on purpose; `code` is stable and machine-readable."""

    code = "pipeline_error"


class RecordingError(PipelineError):
    """A recording cannot be read (or not any further)."""

    code = "recording_unreadable"


class UnsupportedRecordingError(RecordingError):
    """A recording is well-formed, but of a kind, codec or version that cannot be read here."""

    code = "recording_unsupported"


class CalibrationError(PipelineError):
    """A calibration file is missing a value, malformed, or does not belong to the recording."""

    code = "calibration_invalid"


class ConfigurationError(PipelineError):
    """A parameter is out of range; `field` names it."""

    code = "configuration_invalid"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class SegmenterUnavailableError(PipelineError):
    """The chosen segmenter cannot run here; the message names the missing file and the setting that points to it."""

    code = "segmenter_unavailable"


class ClassHeadError(PipelineError):
    """A class head cannot be trained, read or used here; the message names the file or what is missing."""

    code = "class_head_invalid"


class DepthUnavailableError(PipelineError):
    """The chosen way of measuring depth cannot run here; the message names the missing file and the setting."""

    code = "depth_unavailable"


class TooManyBadFramesError(PipelineError):
    """More frames failed than the job allows."""

    code = "too_many_bad_frames"


class Stopped(Exception):  # noqa: N818 - not an error: someone asked for it
    """Work was asked to stop between two frames; everything committed so far stands."""
