"""Solids: models in three dimensions, which turn, move their limbs and come nearer, drawn with exact silhouettes."""
