"""Readers of video datasets, one file for each layout on disk. `stm_fast.data.layouts` lists them."""
