"""Benchmarks of the memory read on a GPU, in stages that check first and then time.

A case that crashes ends only its process.
"""
