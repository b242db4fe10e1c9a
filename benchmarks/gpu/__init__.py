"""The memory read on a GPU: checked, then timed, one stage after another, each case in a process that may die."""
