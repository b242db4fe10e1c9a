"""Running the segmenter over annotated clips and scoring it."""
