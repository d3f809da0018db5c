"""The one exception that is binconv's own."""

from __future__ import annotations

__all__ = ["DataSourceError"]


class DataSourceError(ValueError):
    """A convolution data source failed to load, or delivered what its descriptor denies.  Not in
    MPS.

    The exception that the source raised, if it raised one, is the ``__cause__``.  It is a
    `ValueError` because a file of hostile bytes reaches a kernel through a data source too.
    """
