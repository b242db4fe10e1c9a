"""Whole videos and other people's programs: time, memory and accuracy with everything around the read."""
