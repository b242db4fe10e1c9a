"""Benchmarks of the memory read alone: on CPUs here, on GPUs in `gpu`."""
