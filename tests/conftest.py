"""Imported before any test imports torch: `unigrad` sets how OpenMP's threads wait, which torch reads as it loads."""

import signal

import unigrad  # noqa: F401

# Under nohup it would be ignored, which every process of a test would inherit, and a run heeds.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
