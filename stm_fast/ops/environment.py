"""Variables of the environment that say how reads run, each read once per process."""

import os
from functools import cache


@cache
def variable(name: str) -> str:
    """Return a variable as it was when it was first asked for; "" if it is not set."""
    return os.environ.get(name, "")
