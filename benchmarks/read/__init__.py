"""The memory read by itself, on CPUs and, in `gpu`, on GPUs."""
