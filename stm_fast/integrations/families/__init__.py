"""Other people's reads, one module per family: how each is recognised, and what replaces it.

A family has `READS`, the names of its reads, and `find(target)`, which yields a `Replacement` for each read of the
target, or raises `IntegrationError` where one gives other results than the known one.
"""
