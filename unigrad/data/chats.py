"""Chats, as data sets keep them: {role, content} or ShareGPT's {from, value}, text or parts of text."""

from __future__ import annotations

import json
from typing import Any

from unigrad.types import Message

_ROLES = {"human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant", "chatgpt": "assistant"}
_TOOLS = frozenset({"tool", "function", "ipython", "observation"})


def loaded(value: Any) -> Any:
    """A chat that a column of text keeps as JSON, as a chat; anything else as it is."""
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        try:
            chat = json.loads(value)
        except ValueError:
            return value
        return chat if is_chat(chat) else value
    return value


def is_chat(value: Any) -> bool:
    return isinstance(value, list) and all(_turn(message) is not None for message in value)


def question(value: Any) -> str | None:
    """Text as it is, or a chat's last user message, without outer space; None where there is neither."""
    return _last(value, "user")


def asked(value: Any) -> tuple[Message, ...]:
    """A chat up to its last user message; nothing of what is no chat."""
    turns = [turn for turn in map(_turn, value) if turn is not None] if is_chat(value) else []
    last = max((place for place, (role, _) in enumerate(turns) if role == "user"), default=-1)
    return tuple(turns[: last + 1])


def demonstration(value: Any) -> str | None:
    """Text as it is, or a chat's last assistant message, where no user message follows it; else None.

    Nor is an answer that leans on a tool's: the policy would not see what the tool said.
    """
    if is_chat(value):
        roles = [turn[0] for turn in map(_turn, value) if turn is not None]
        asked = max((place for place, role in enumerate(roles) if role == "user"), default=-1)
        if "assistant" not in roles[asked + 1 :] or _TOOLS.intersection(roles[asked + 1 :]):
            return None
    return _last(value, "assistant")


def _last(value: Any, role: str) -> str | None:
    if isinstance(value, str):
        return value.strip()
    if is_chat(value):
        said = [turn[1] for turn in map(_turn, value) if turn is not None and turn[0] == role]
        return said[-1].strip() if said else None
    return None


def _turn(message: Any) -> Message | None:
    """(role, text); None for what is no message, or holds more than text."""
    match message:
        case {"role": str(role), "content": content} | {"from": str(role), "value": content}:
            pass
        case _:
            return None
    match content:
        case str():
            return _ROLES.get(role, role), content
        case [*parts] if all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in parts):
            return _ROLES.get(role, role), "".join(part["text"] for part in parts)
        case None:
            return _ROLES.get(role, role), ""
    return None
