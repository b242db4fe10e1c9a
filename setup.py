"""Packages of stm-fast; everything else about the distribution is in pyproject.toml.

Nothing here imports torch, so that building and installing work where torch is not there yet.
"""

from setuptools import find_packages, setup

setup(packages=find_packages(include=["stm_fast", "stm_fast.*"]))
