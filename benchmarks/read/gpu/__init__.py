"""The memory read on a GPU: check, then time, one stage after another, each case in a process that may die."""
