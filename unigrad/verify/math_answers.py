"""What a completion gives as its answer, and the verdict on it where that needs no algebra.

Whatever `compare` leaves open (None) goes to a worker process. Nothing here can raise or take long: every text is cut
to a bounded length before a pattern sees it, and no pattern's time explodes with its length.
"""

from __future__ import annotations

from unigrad.types import Reason
from unigrad.verify.boxed import is_cut, last_boxed
from unigrad.verify.comparing import NeedsAlgebraError, TextAlone, judge
from unigrad.verify.unboxed import final_answer

MAX_ANSWER_CHARS = 2_000
"""A longer answer is not read: no benchmark has one, and a parser of formulas takes very long over one."""


def extract(completion: str) -> str | None:
    r"""What `completion` gives as its answer: the last complete box, else `unboxed.final_answer`, else None.

    An empty box, or one of more than `MAX_ANSWER_CHARS`, is no answer; nor is a text whose only box was never closed.
    """
    boxed = last_boxed(completion)
    if boxed is not None:
        return boxed if boxed and len(boxed) <= MAX_ANSWER_CHARS else None
    if is_cut(completion):
        return None
    answer = final_answer(completion)
    return answer if answer and len(answer) <= MAX_ANSWER_CHARS else None


def compare(extracted: str, gold: str) -> Reason | None:
    """The verdict on two answers where their texts alone decide it, else None."""
    try:
        return judge(extracted, gold, TextAlone())
    except NeedsAlgebraError:
        return None
