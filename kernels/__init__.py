"""Triton kernels of the memory read, for NVIDIA and AMD GPUs. All modules but `chips` and `layouts` import triton.

Kernels read keys and values in place, with tokens last or channels last, by 64-bit offsets. Programs are numbered such
that neighbours share memory tokens. No kernel uses atomics: results do not depend on the order in which programs run.
"""
