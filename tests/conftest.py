"""Imported before any test imports torch: `unigrad` sets how OpenMP's threads wait, which torch reads as it loads."""

import signal
from collections.abc import Iterator

import pytest

import unigrad  # noqa: F401
from unigrad.verify import Verifier

# In the background, or under nohup, they would be ignored, which every process of a test would inherit.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def workers_start_when_needed() -> Iterator[None]:
    """Hundreds of tests' runs end before a verifier's processes would be ready; one that needs them starts them."""
    # Not by the fixture `monkeypatch`, which would then outlive every test's other fixtures.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Verifier, "start_workers", lambda _: None)
        yield
