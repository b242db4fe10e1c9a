"""Datasets of annotated clips, and clips made here."""
