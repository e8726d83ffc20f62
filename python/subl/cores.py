"""How many cores this process may use."""

from __future__ import annotations

import os
import sys


def cores() -> int:
    """Those that it is bound to, where the system tells; else all of the machine's."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
