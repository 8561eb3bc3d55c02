"""Child processes of a test run that end with it, also where it is killed."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)  # loaded before the fork, after which little is safe


def ending_with_parent(number: signal.Signals) -> Callable[[], None]:
    """A `preexec_fn` after which the child gets this signal when the thread that started it is gone (on Linux only).

    It runs after `user` and `group` have been set, which would clear it; a program that changes them itself (`runuser`) does.
    """

    def prepare() -> None:
        if sys.platform == "linux":
            _LIBC.prctl(_PR_SET_PDEATHSIG, number)

    return prepare
