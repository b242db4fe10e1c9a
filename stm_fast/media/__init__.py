"""Reading video and masks; writing masks, overlays and contact sheets."""
