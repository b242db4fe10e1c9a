"""Triton kernels of the memory read, for NVIDIA and AMD GPUs. Modules of kernels import triton; `chips` does not.

Every kernel reads keys and values where they lie, channel first, tokens last or the other way round, by 64-bit offsets.
Programs are numbered so that neighbours share tokens. No kernel uses atomics: results do not depend on the order in
which programs run.
"""
