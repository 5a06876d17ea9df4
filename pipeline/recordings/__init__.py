"""Readers, one per kind of recording; `open_recording` chooses."""
