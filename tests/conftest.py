"""Imported before any test imports torch: `unigrad` sets how OpenMP's threads wait, which torch reads as it loads."""

import signal

import unigrad  # noqa: F401

# In the background, or under nohup, they would be ignored, which every process of a test would inherit.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
