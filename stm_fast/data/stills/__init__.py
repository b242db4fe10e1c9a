"""Stills: single images with masks, from which training makes clips."""
