"""Implementations of the ops, one module each; the registry chooses among them."""
