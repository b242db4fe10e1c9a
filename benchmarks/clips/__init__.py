"""Videos rendered for benchmarks, with exact masks."""
