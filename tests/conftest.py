"""Imported before any test imports torch: `unigrad` sets how OpenMP's threads wait, and torch reads that when it loads."""

import unigrad  # noqa: F401
