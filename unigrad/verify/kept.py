"""What the workers said of each pair, kept for a run: the same pair gets the same verdict, also after a resumption."""

from __future__ import annotations

import json
import threading
from itertools import islice
from pathlib import Path

from unigrad.errors import ConfigError
from unigrad.files import json_lines, replace_text
from unigrad.types import Reason
from unigrad.world import World

Pair = tuple[str, str]
"""The extracted answer and the gold one, both as `notation.normalise` leaves them."""


class KeptVerdicts:
    """Verdicts by pair, in memory, and in a file once there is a place for it. From any thread."""

    def __init__(self) -> None:
        self._reasons: dict[Pair, Reason] = {}
        self._told = 0
        self._path: Path | None = None
        self._lock = threading.Lock()

    def get(self, pair: Pair) -> Reason | None:
        return self._reasons.get(pair)

    def add(self, pair: Pair, reason: Reason) -> None:
        with self._lock:
            self._reasons[pair] = reason
            if self._path is not None:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(_line(pair, reason))

    def exchange(self, world: World) -> None:
        """Take over what other ranks have kept since the last exchange, so that a pair is the same to all of them. Of
        what several checked meanwhile, the lowest rank's counts. To be called while nothing is checked."""
        if world.size == 1:
            return
        told: dict[Pair, Reason] = {}
        for pair, reason in world.gather(list(islice(self._reasons.items(), self._told, None))):
            told.setdefault(pair, reason)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.writelines(_line(pair, reason) for pair, reason in told.items() if pair not in self._reasons)
        self._reasons |= told
        self._told = len(self._reasons)

    def read(self, path: Path) -> None:
        """Take over what a file holds, if it is there. Raises ValueError on a line that is no verdict."""
        if not path.is_file():
            return
        try:
            for number, line in enumerate(json_lines(path), start=1):
                try:
                    self._reasons[line["extracted"], line["gold"]] = Reason(line["reason"])
                except (TypeError, KeyError, ValueError):
                    expected = "expected a verdict with extracted, gold and reason"
                    raise ConfigError(f"{path}, line {number}: {expected}") from None
        except ConfigError as error:
            raise ConfigError(f"{error}; without the file, all is verified again") from None
        self._told = len(self._reasons)

    def write_to(self, path: Path) -> None:
        """From now on each verdict is in this file as soon as it is kept. What the file held before goes."""
        with self._lock:
            replace_text(path, "".join(_line(*item) for item in self._reasons.items()))
            self._path = path


def _line(pair: Pair, reason: Reason) -> str:
    # An answer may hold a lone surrogate, which only an escape can carry: ensure_ascii, the default.
    return json.dumps({"extracted": pair[0], "gold": pair[1], "reason": reason}) + "\n"
