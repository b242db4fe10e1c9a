"""Networks: the original STM, its compact sibling, and their weights."""
