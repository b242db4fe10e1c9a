"""The memory of a video: which frames are kept, and where."""
