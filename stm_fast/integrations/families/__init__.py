"""The reads of others, one family a module: how each is recognised, and what takes its place.

A family has `READS`, the names its reads have, and `find(modules)`, which yields a `Replacement` for each read that
these modules name, or raises `IntegrationError` where one behaves otherwise than the one known.
"""
