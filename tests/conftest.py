"""Imported before any test imports torch: `unigrad` sets how OpenMP's threads wait, which torch reads as it loads."""

import unigrad  # noqa: F401
