"""Other people's reads, one module per family: how to recognise each and what replaces it.

A family has `READS`, the names of its reads, and `find(target)`, which yields a `Replacement` for each read of the
target, or raises `IntegrationError` if one gives results that differ from those of the known read.
"""
