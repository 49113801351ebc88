"""YAML without repeated keys; PyYAML would use the last one."""

from __future__ import annotations

from typing import Any

from novelty_metric.errors import InputError


def load_yaml_once(text: str) -> Any:
    """Plain YAML, in which every key of a mapping is text and occurs once.

    Raises
    ------
    InputError
        If a key is repeated or no text.
    yaml.YAMLError
        If it is no YAML.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen: set[Any] = set()
            for key, _ in node.value:
                name = key.value if isinstance(key, yaml.ScalarNode) else None
                if name is None or name in seen:
                    message = (
                        "a key is not text" if name is None else f"the key {name!r} is given twice"
                    )
                    raise InputError(f"line {key.start_mark.line + 1}: {message}")
                seen.add(name)
            return super().construct_mapping(node, deep)

    return yaml.load(text, Loader)
