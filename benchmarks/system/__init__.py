"""Benchmarks of whole videos and other people's programs: time, memory and accuracy."""
