"""Segmenting a video frame by frame."""
