"""Clips synthesised from still pictures, with exact masks: what the compact model is trained on."""
