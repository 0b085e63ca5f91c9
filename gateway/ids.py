"""Ids of inferences: unique over workers and restarts, roughly ordered by time, cheap to make."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from itertools import count


def id_maker() -> Callable[[], str]:
    """A maker of ids: milliseconds since 1970, eight random characters of this process, a counter; all hex."""
    process = os.urandom(4).hex()
    numbers = count()
    return lambda: f"{time.time_ns() // 1_000_000:011x}{process}{next(numbers):06x}"
