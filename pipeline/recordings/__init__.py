"""Readers, one per kind of recording; `open_recording` chooses."""

from pipeline.recordings.base import ImuSample, Kind, Recording, RecordingMetadata, StereoFrame
from pipeline.recordings.opening import fingerprint, kind_of, open_recording, probe

__all__ = [
    "ImuSample",
    "Kind",
    "Recording",
    "RecordingMetadata",
    "StereoFrame",
    "fingerprint",
    "kind_of",
    "open_recording",
    "probe",
]
