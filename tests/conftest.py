"""Settings that hold for every test."""

from hypothesis import settings

settings.register_profile("stm_fast", deadline=None, derandomize=True)
settings.load_profile("stm_fast")
