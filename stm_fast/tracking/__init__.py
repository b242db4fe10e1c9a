"""Whole videos: from files or frames and the masks of some of them to the masks of all, in Python or in a folder."""
