"""YAML as recipes and configurations hold it: mappings, lists and plain values, without what YAML can do besides.

A key stands once, an anchor does not hold itself, and aliases do not multiply a small text into a large tree.
"""

from __future__ import annotations

from typing import Any

import yaml

from unigrad.errors import ConfigError, one_line, shortened
from unigrad.files import is_utf8

LONGEST_TEXT = 2**18
"""Characters; the largest bundled recipe has a fiftieth of it."""
MOST_NODES, DEEPEST = 20_000, 32
_TAG = "tag:yaml.org,2002:"
_PLAIN = frozenset(f"{_TAG}{name}" for name in ("map", "seq", "str", "int", "float", "bool", "null"))
_MERGE = f"{_TAG}merge"


def read_yaml(text: str, where: str) -> Any:
    """What the text says. Raises ConfigError, one line that begins with `where`, where it is not YAML of this kind."""
    if len(text) > LONGEST_TEXT:
        raise ConfigError(f"{where}: {len(text):,} characters are too many for a configuration; at most {LONGEST_TEXT}")
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{where}{line}: not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{where}: not YAML: {one_line(error)}") from None


class _Loader(yaml.SafeLoader):
    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._sizes: dict[int, int] = {}  # of each node by its identity, aliases counted each time
        self._nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if not isinstance(event, yaml.AliasEvent):
            self._nodes += 1
            if self._nodes > MOST_NODES:
                raise _fault(f"it holds more than {MOST_NODES:,} values", event.start_mark)
        if self._depth == DEEPEST:
            raise _fault(f"it is nested more than {DEEPEST} deep", event.start_mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if id(node) not in self._sizes:
            if isinstance(event, yaml.AliasEvent):
                raise _fault(f"the anchor {event.anchor!r} holds itself", event.start_mark)
            self._sizes[id(node)] = 1 + sum(self._sizes[id(each)] for each in _children(node))
        if self._sizes[id(node)] > MOST_NODES:
            raise _fault(f"its aliases make more than {MOST_NODES:,} values of it", event.start_mark)
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        if node.tag not in _PLAIN:
            name = node.tag.replace(_TAG, "!!")
            raise _fault(f"a value of the tag {shortened(name, 60)!r} has no place here", node.start_mark)
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
        try:
            value = super().construct_object(node, deep=True)
        except (ValueError, OverflowError, TypeError, AttributeError) as error:
            raise _fault(one_line(error), node.start_mark) from None
        if isinstance(value, str) and not is_sound(value):
            raise _fault("a text holds a NUL or half a character (a lone surrogate)", node.start_mark)
        return value


# Days are texts here: nothing in a configuration is one.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def is_sound(text: str) -> bool:
    """Whether files and terminals can take the text: no NUL, and nothing that UTF-8 cannot say."""
    return "\0" not in text and is_utf8(text)


def _children(node: Any) -> list[Any]:
    if isinstance(node, yaml.MappingNode):
        return [each for pair in node.value for each in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _check_keys(node: Any) -> None:
    """Raises an error on a key that is no text, or there twice. A merge key's own mapping is checked as it is met."""
    seen = set[str]()
    for key, _ in node.value:
        if key.tag == _MERGE:
            continue
        if key.tag != f"{_TAG}str":
            shown = shortened(str(key.value), 60) if isinstance(key, yaml.ScalarNode) else f"a {key.id}"
            raise _fault(f"a key must be a text, not {shown}", key.start_mark)
        if key.value in seen:
            raise _fault(f"the key {shortened(key.value, 60)!r} stands there twice", key.start_mark)
        seen.add(key.value)


def _fault(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, mark)
