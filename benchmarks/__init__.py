"""Scripts that print the numbers in README and docs, of the read and of whole systems, and the clips they use."""
