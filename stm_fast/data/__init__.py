"""Datasets of annotated clips, and synthetic clips."""
