"""Synthetic clips made from still pictures, with exact masks. The compact model is trained on them."""
