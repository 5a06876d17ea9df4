"""Formats of training datasets. No Django in here: frames and annotations in, files out."""
