"""The fixtures of a small STM that follows colours."""

from tests.colours import ids, model, paint

__all__ = ["ids", "model", "paint"]
