"""A small STM that follows colours, and its colours as masks and pictures."""

from tests.colours import ids, model, paint

__all__ = ["ids", "model", "paint"]
