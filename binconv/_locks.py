"""Locks that a fork does not break."""

from __future__ import annotations

import os
import threading


def brief_lock() -> threading.RLock:
    """A lock that lives as long as the process and that nobody holds for long: a fork waits for it.

    The child has one thread, and could never take a lock that another thread had left taken.
    """
    lock = threading.RLock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
        )
    return lock
