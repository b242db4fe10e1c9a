"""Training of STM networks."""
