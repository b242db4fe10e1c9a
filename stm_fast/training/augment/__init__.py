"""Random changes of training clips: affine maps, crops and colours."""
