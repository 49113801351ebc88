"""The page of the settings: every config with its comments, every field of `Protocol`, all else.

Read from the code and the configs themselves, so that nothing is written twice.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import griffe
import yaml
from tables import code, escaped, prose, table

from novelty_metric.protocol import PRESETS, Protocol
from novelty_metric.settings.compose import GROUPS, config_folder
from novelty_metric.support.quiet import DEBUG_VARIABLE
from novelty_metric.testing.declarations import add_options, add_short_names

_ABOUT = """\
# Settings

This page lists every setting of `novelty-metric score` with its default. The settings are a
[Hydra](https://hydra.cc) config: `key=value` on the command line changes a setting, `group=name`
selects a config of a group, and `--config-dir DIR` adds your own configs (`DIR/model/mine.yaml`).
`novelty-metric score --cfg job …` prints the resulting settings of a command. The page
[Python API](api.md) describes the arguments of the Python classes.
"""
GROUP_TITLES = {
    "model": "The model that made the samples: how its files are read, and its training set.",
    "reference": "The crystals to compare with; `reference=FILE` takes a prepared file.",
    "protocol": "The tolerances and limits of the method.",
    "relaxer": "The potential that relaxes.",
    "hull": "The hull for energies above hull: [hulls](hulls.md).",
    "logger": "Loggers that receive the report, in addition to the files.",
    "executor": "Processes or machines that score parts of the samples: [cluster](cluster.md).",
    "recipe": "Sets of settings.",
}
ENVIRONMENT = {
    "NOVELTY_METRIC_CACHE": "Folder for finished relaxations and named references, instead of "
    "the user's cache folder of the operating system.",
    DEBUG_VARIABLE: "`1`: show the traceback of an error, and the output of libraries.",
}
_INTERNAL = ("defaults", "hydra")
_HYDRA = ("_recursive_", "_convert_")
_TARGET = "The class; the other keys at this level are its arguments."
_SELECT = re.compile(r"\$\{oc\.select:(?P<key>[^,}]+),(?P<other>[^}]+)\}")


@dataclass(frozen=True, slots=True)
class Setting:
    """A key of a config: its dotted name, its value as text, the comment above it."""

    name: str
    value: str
    comment: str


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A config: its first comment, its defaults, and its keys."""

    name: str
    about: str
    starts_from: tuple[str, ...]
    settings: tuple[Setting, ...]


def read_config(path: Path) -> ConfigFile:
    """Read a config with its comments.

    A comment is for the keys below it, up to an empty line or the next comment. The one that the
    file begins with is about the file.
    """
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    about = []
    for line in lines:
        if not line.startswith("#"):
            break
        about.append(line)
    root = yaml.compose(text)
    content = yaml.safe_load(text) or {}
    settings = tuple(_settings(root, lines, len(about), text))
    starts = tuple(_words(item) for item in content.get("defaults", []) if item != "_self_")
    return ConfigFile(path.stem, _plain(about), starts, settings)


def _settings(
    node: Any, lines: list[str], top: int, text: str, prefix: str = ""
) -> Iterator[Setting]:
    for key, value in node.value:
        if not prefix and key.value in _INTERNAL:
            continue
        name = prefix + key.value
        if isinstance(value, yaml.MappingNode) and value.value:
            yield from _settings(value, lines, top, text, f"{name}.")
            continue
        written = text[value.start_mark.index : value.end_mark.index].strip()
        shown = value.value if isinstance(value, yaml.ScalarNode) else written
        yield Setting(name, shown, _comment(lines, key.start_mark.line, top))


def _comment(lines: list[str], line: int, top: int) -> str:
    start = line
    while start > 0 and lines[start - 1].strip() and not lines[start - 1].lstrip().startswith("#"):
        start -= 1
    end = start
    while start > 0 and lines[start - 1].lstrip().startswith("#"):
        start -= 1
    # The first lines of a file are about all of it.
    return "" if start < top else _plain(lines[start:end])


def _plain(comment: list[str]) -> str:
    """The text of a comment; an indented command gets backticks."""
    words = []
    for line in comment:
        text = line.strip().removeprefix("#")
        if not text.strip().startswith("@package"):
            words.append(f"`{text.strip()}`" if text.startswith("   ") else text.strip())
    return " ".join(words)


def _words(default: Any) -> str:
    """An entry of a list of defaults, as it would be written on the command line."""
    if isinstance(default, str):
        return default
    ((group, name),) = default.items()
    return f"{group.removeprefix('override /')}={name}"


def meaning(setting: Setting) -> str:
    """The purpose of a key."""
    is_target = setting.name.rpartition(".")[2] == "_target_"
    return _TARGET if is_target and not setting.comment else setting.comment


def configs(group: str) -> list[ConfigFile]:
    """The configs of a group, by name."""
    return [read_config(path) for path in sorted((config_folder() / group).glob("*.yaml"))]


def protocol_fields() -> dict[str, tuple[str, str]]:
    """Type and meaning of each field of `Protocol`, from its docstring."""
    found: dict[str, tuple[str, str]] = {}
    docstring = griffe.Docstring(Protocol.__doc__ or "", lineno=1)
    for section in docstring.parse("numpy"):
        if section.kind is griffe.DocstringSectionKind.attributes:
            for item in section.value:
                for name in item.name.split(", "):
                    found[name] = (str(item.annotation), item.description)
    return found


def markdown() -> str:
    """The page."""
    parts = [_ABOUT, _top(), *(_group(group) for group in GROUPS), _pytest()]
    rows = [[code(name), prose(about)] for name, about in ENVIRONMENT.items()]
    parts += ["## Environment\n", table(["variable", "meaning"], rows)]
    return "\n".join(parts)


def _top() -> str:
    main = read_config(config_folder() / "config.yaml")
    return "## In general\n\n" + _table(main)


def _group(group: str) -> str:
    parts = [f"## {group}=\n", f"{GROUP_TITLES[group]}\n"]
    if group == "model":
        return "\n".join([*parts, _models()])
    found = configs(group)
    if all({item.name for item in config.settings} <= {"name", "path"} for config in found):
        rows = [[code(f"{group}={config.name}"), prose(config.about)] for config in found]
        return "\n".join([*parts, table(["", "meaning"], rows)])
    for config in found:
        parts += [f"### {group}={config.name}\n", f"{prose(config.about)}\n"]
        if config.starts_from:
            named = ", ".join(code(name) for name in config.starts_from)
            parts.append(f"Starts from {named}.\n")
        has_more = any(item.name != "name" for item in config.settings)
        if group != "protocol" and has_more:
            parts.append(_table(config, prefix="" if group == "recipe" else f"{group}."))
    if group == "protocol":
        parts.append(_protocol())
    return "\n".join(parts)


def _models() -> str:
    """The settings of a model once, and what each model sets."""
    found = {config.name: config for config in configs("model")}
    generic = found.pop("generic")
    parts = [f"### model=generic\n\n{prose(generic.about)}\n", _table(generic, prefix="model.")]
    parts.append("### Published models\n\nSettings of each model; the rest is as in `generic`.\n")
    parts[-1] += "\nTheir sources and their files: [models](models.md).\n"
    left_out = ("name", "title", "writes", "paper", "repository", "citation")
    rows = []
    for config in found.values():
        values = {item.name: item.value for item in config.settings}
        set_here = "<br>".join(
            code(f"{name}: {value}") for name, value in values.items() if name not in left_out
        )
        starts = [name for name in config.starts_from if name != "generic"]
        start = f"as {', '.join(map(code, starts))}, with<br>" if starts else ""
        rows.append(
            [code(f"model={config.name}"), escaped(values.get("title", "")), start + set_here]
        )
    parts.append(table(["", "model", "sets"], rows))
    return "\n".join(parts)


def _table(config: ConfigFile, prefix: str = "") -> str:
    # The name of a config stands in its heading, unless a class or a model of one's own takes it.
    is_own = prefix == "model." or any(item.name == "_target_" for item in config.settings)
    hidden = _HYDRA if is_own else (*_HYDRA, "name")
    rows = [
        [code(prefix + item.name), _value(item.value), prose(meaning(item))]
        for item in config.settings
        if item.name not in hidden
    ]
    return table(["setting", "default", "meaning"], rows)


def _value(text: str) -> str:
    """A description of a default that comes from another setting."""
    if text == "???":
        return "required"
    selected = _SELECT.fullmatch(text)
    if selected is not None:
        return f"that of {code(selected['key'])}, else {code(selected['other'])}"
    same = re.fullmatch(r"\$\{([^}:]+)\}", text)
    return f"that of {code(same[1])}" if same is not None else code(text)


def _protocol() -> str:
    presets = list(PRESETS)
    fields = protocol_fields()
    rows = []
    for field in dataclasses.fields(Protocol):
        kind, about = fields[field.name]
        values = [code(str(getattr(PRESETS[name], field.name))) for name in presets]
        rows.append([code(f"protocol.{field.name}"), code(kind), *values, prose(about)])
    head = ["setting", "type", *(code(name) for name in presets), "meaning"]
    about = 'From Python: `Protocol(…)`, or `dataclasses.replace(Protocol.named("fast"), k=5)`.'
    return f"### The fields of a protocol\n\n{about}\n\n{table(head, rows)}"


class _Recorder:
    """Stands in for pytest when the plugin declares its options."""

    def __init__(self) -> None:
        self.options: list[tuple[str, str]] = []
        self.ini: list[tuple[str, str]] = []

    def getgroup(self, name: str, description: str = "") -> _Recorder:
        return self

    def addoption(self, *names: str, help: str = "", metavar: str = "", **more: Any) -> None:
        self.options.append((" ".join([*names, metavar]).strip(), help.replace("%%", "%")))

    def addini(
        self, name: str, help: str = "", type: str | None = None, default: Any = None
    ) -> None:
        self.ini.append((name, help))


def _pytest() -> str:
    recorder = _Recorder()
    add_options(recorder)  # type: ignore[arg-type]
    add_short_names(recorder)  # type: ignore[arg-type]
    parts = ["## pytest\n", "How they are used: [pytest](pytest.md).\n"]
    for head, found in (("option", recorder.options), ("ini file", recorder.ini)):
        rows = [[code(name), prose(about)] for name, about in found]
        parts.append(table([head, "meaning"], rows))
    return "\n".join(parts)
