"""YAML as people write it, and no more: libyaml's parser with bounds, so that no file costs minutes or gigabytes.

PyYAML's own loaders take a key that stands twice and keep the last, expand nested merge keys without end, and libyaml's
composer overflows the C stack on brackets without end. Here each is an error with its line.
"""

from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import ConstructorError, SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.resolver import Resolver

MAX_MERGED = 10_000  # keys that merge keys (<<) may copy in one file
_MERGE = "tag:yaml.org,2002:merge"


class _Bounds(SafeConstructor):
    """Mappings with each key once, and with a bound on what merge keys copy."""

    def __init__(self) -> None:
        SafeConstructor.__init__(self)  # not super(): the parser and the composer take other arguments
        self.merged = 0
        self.flat: set[int] = set()  # ids of the nodes that merge keys were taken out of

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        """The value of a node. Raises ConstructorError, with its line, for a text that its type cannot have.

        PyYAML's constructors let through what Python raises for `!!bool x`, `!!int ""` or a date such as 2024-13-45.
        """
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, ArithmeticError, AttributeError, TypeError) as fault:
            kind = str(node.tag).rpartition(":")[2]
            problem = f'{str(node.value)[:50]!r} is no {kind}: put a text in "quotes"'
            raise ConstructorError(None, None, problem, node.start_mark) from fault

    def flatten_mapping(self, node: MappingNode) -> None:
        """Put what merge keys name into the node itself. Raises ConstructorError for a key twice, and for too many."""
        if id(node) in self.flat:
            return
        self.flat.add(id(node))
        seen: set[tuple[str, str]] = set()
        for key, value in node.value:
            if key.tag == _MERGE:
                for base in _mappings(value):
                    self.flatten_mapping(base)
                    self.merged += len(base.value)
            elif isinstance(key, ScalarNode) and (key.tag, key.value) in seen:
                raise ConstructorError(None, None, f"the key {key.value!r:.60} stands here twice", key.start_mark)
            elif isinstance(key, ScalarNode):
                seen.add((key.tag, key.value))
        if self.merged > MAX_MERGED:
            problem = f"the merge keys copy more than {MAX_MERGED:,} keys"
            raise ConstructorError(None, None, problem, node.start_mark)
        super().flatten_mapping(node)


def _mappings(node: Node) -> list[MappingNode]:
    nodes = node.value if isinstance(node, SequenceNode) else [node]
    return [inner for inner in nodes if isinstance(inner, MappingNode)]


class _Plain(_Bounds, yaml.SafeLoader):
    """The loader where PyYAML comes without libyaml."""

    def __init__(self, stream: str) -> None:
        yaml.SafeLoader.__init__(self, stream)
        _Bounds.__init__(self)


def _loader() -> type[Any]:
    if not yaml.__with_libyaml__:
        return _Plain
    from yaml._yaml import CParser  # only there with libyaml

    class Fast(_Bounds, Composer, CParser, SafeConstructor, Resolver):
        """libyaml's events, composed in Python, whose recursion has a bound."""

        def __init__(self, stream: str) -> None:
            CParser.__init__(self, stream)
            Composer.__init__(self)
            _Bounds.__init__(self)
            Resolver.__init__(self)

    return Fast


Loader = _loader()
