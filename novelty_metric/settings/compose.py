"""Composition of the settings from the arguments after the verb.

Hydra reads ``key=value`` with a grammar of its own, in which parentheses, commas, brackets and a
few more characters mean something. File names may hold any of them, so the values that are free
text are quoted here before Hydra sees them, and reach the program as they were typed.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from novelty_metric.errors import InputError
from novelty_metric.settings.run_folder import flat
from novelty_metric.settings.score_settings import with_samples_together

GROUPS = ("model", "reference", "protocol", "relaxer", "hull", "logger", "executor", "recipe")
_FREE_TEXT = (
    "samples",
    "format",
    "column",
    "energies",
    "id_column",
    "out",
    "device",
    "cache",
    "reference.path",
    "hull.file",
    "relaxer.model",
)
_NOT_TEXT = ("null", "true", "false")
_ASSIGNMENT = re.compile(r"(?P<plus>\+{0,2})(?P<key>[^=\s]+)=(?P<value>.*)", re.DOTALL)
_FILE_REFERENCE = "file"
_NOT_NAMED = (_FILE_REFERENCE, "of_model")
"""References that are not selected by their own name."""


@contextlib.contextmanager
def own_hydra() -> Iterator[None]:
    """Use Hydra without changing its global state in the surrounding application.

    Hydra has one state for a process. An application that is itself run by Hydra has it in use
    while it calls this command, and finds it again afterwards, also where the call fails.
    """
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.singleton import Singleton
    from hydra.core.utils import JobRuntime
    from hydra.version import VersionBase

    own = (GlobalHydra, HydraConfig, JobRuntime, VersionBase)
    outer = {kind: Singleton._instances.pop(kind, None) for kind in own}
    try:
        yield
    finally:
        for kind, instance in outer.items():
            Singleton._instances.pop(kind, None)
            if instance is not None:
                Singleton._instances[kind] = instance


def config_folder() -> Path:
    """The folder of the packaged configs: in the package, or at the top of a checkout.

    Raises
    ------
    InputError
        If they were not installed.
    """
    found = find_spec("novelty_metric.configs")
    folders = list(found.submodule_search_locations or ()) if found is not None else []
    # A checkout that was not installed keeps them beside the package.
    folders.append(str(Path(__file__).resolve().parents[2] / "configs"))
    for folder in folders:
        if Path(folder, "config.yaml").is_file():
            return Path(folder)
    raise InputError("the configs of novelty-metric are missing; install the package again")


def choices(group: str, config_dir: Path | None = None) -> list[str]:
    """Names of the configs of a group, including the user's own."""
    folders = [config_folder()] + ([config_dir] if config_dir is not None else [])
    names = {path.stem for folder in folders for path in folder.glob(f"{group}/*.yaml")}
    return sorted(names.difference(_NOT_NAMED) if group == "reference" else names)


def compose_config(overrides: Sequence[str], config_dir: Path | None = None) -> Any:
    """The composed settings of ``score``.

    Parameters
    ----------
    overrides : sequence of str
        As typed: ``key=value``, or a name of a group's config.
    config_dir : path, optional
        Folder with configs of the user's own, laid out like the packaged one.

    Returns
    -------
    omegaconf.DictConfig

    Raises
    ------
    InputError
        In one line, if a word is not an override, a key or a group's config is unknown, or a value
        can't be read.
    """
    if config_dir is not None and not config_dir.is_dir():
        raise InputError(f"--config-dir {config_dir}: no such folder")
    translated: list[str] = []
    for word in with_samples_together(overrides):
        translated += translate(word, config_dir)

    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    search = search_path(config_dir)
    with (
        own_hydra(),
        initialize_config_dir(str(config_folder()), version_base="1.3", job_name="novelty-metric"),
    ):
        try:
            config = compose("config", overrides=[*search, *translated])
            OmegaConf.to_container(config, resolve=True)
        except (HydraException, OmegaConfBaseException) as error:
            unknown = re.search(r"Could not override '([^']+)'", str(error))
            if unknown is None:
                raise InputError(_hydra_message(error)) from error
            is_choice = re.compile(rf"(?:{'|'.join(GROUPS)})=")
            groups = [word for word in translated if is_choice.match(word)]
            known = compose("config", overrides=[*search, *groups])
            content: Any = OmegaConf.to_container(known, resolve=False)
            keys = list(dict.fromkeys([*content, *flat(content)]))
            raise InputError(_unknown("setting", unknown.group(1), keys)) from error
    return config


def search_path(config_dir: Path | None) -> list[str]:
    """The override by which Hydra finds the user's own configs."""
    if config_dir is None:
        return []
    return [f"hydra.searchpath=[{quoted(f'file://{config_dir.resolve()}')}]"]


def checked_sweep(word: str, config_dir: Path | None) -> str | None:
    """An argument that sweeps over configs of a group, with checked names; None for others.

    Raises
    ------
    InputError
        If one of the names is unknown, or is a file.
    """
    match = _ASSIGNMENT.fullmatch(word)
    if match is None or match["key"] not in GROUPS or "," not in match["value"]:
        return None
    if "(" in match["value"]:  # choice(…) or glob(…), which Hydra reads
        return word
    names = []
    for value in match["value"].split(","):
        translated = translate(f"{match['key']}={value.strip()}", config_dir)
        if len(translated) > 1:
            raise InputError(
                f"{word}: {value!r} is not a name; a file can't be one of several: name it in "
                "a config of your own"
            )
        names.append(translated[0].split("=", 1)[1])
    return f"{match['plus']}{match['key']}={','.join(names)}"


def translate(word: str, config_dir: Path | None) -> list[str]:
    """The argument for Hydra that corresponds to one argument as typed.

    Raises
    ------
    InputError
        If it is not an override, or a group has no config of that name.
    """
    if word.startswith("~"):
        raise InputError(f"{word}: a setting can't be removed; write {word[1:]}=null for none")
    match = _ASSIGNMENT.fullmatch(word)
    if match is None:
        hint = f"; is it samples={word}?" if Path(word).exists() else ""
        raise InputError(f"{word!r} is not of the form key=value{hint}")
    plus, key, value = match["plus"], match["key"], match["value"]
    if key in _FREE_TEXT:
        if not value:
            raise InputError(f"{key}= has no value; write {key}=null for none")
        plain = value == "null" or (key == "cache" and value in _NOT_TEXT)
        plain = plain or (key == "relaxer.model" and value.startswith("{"))  # of relaxer=torch_sim
        if key == "hull.file" and value == "???":  # to OmegaConf a value that is missing
            value = "./???"
        return [f"{plus}{key}={value if plain else quoted(value)}"]
    if key not in GROUPS:
        return [word]
    known = choices(key, config_dir)
    if key == "reference" and value in _NOT_NAMED:
        return [word]
    if key == "model":
        value = model_choice(value, known)
    if value in known:
        return [f"{plus}{key}={value}"]
    if key == "reference":
        if not value:
            raise InputError(f"reference= has no value; known: {', '.join(known)}, or a file")
        # To OmegaConf ??? is a value that is missing, whatever the quotes.
        path = "./???" if value == "???" else value
        return [f"{plus}reference={_FILE_REFERENCE}", f"reference.path={quoted(path)}"]
    raise InputError(_unknown(key, value, known))


def model_choice(name: str, known: Iterable[str]) -> str:
    """The config of a model by the name that its authors use: ``DiffCSP++``, ``CrystaLLM-π``.

    What is not recognised is given back as it is.
    """
    known = list(known)
    if name in known:
        return name
    plain = {_plain(choice): choice for choice in known}
    return plain.get(_plain(name), name)


def _plain(name: str) -> str:
    spelled = name.casefold().replace("++", "pp").replace("π", "pi")
    return re.sub(r"[\W_]", "", spelled)


def quoted(value: str) -> str:
    """A value in a form that Hydra and OmegaConf read without change."""
    from hydra.core.override_parser.types import Quote, QuotedString

    # ${ would begin an interpolation; a backslash before it takes that meaning away.
    value = re.sub(r"(\\*)\$\{", lambda found: 2 * found.group(1) + r"\${", value)
    return QuotedString(text=value, quote=Quote.single).with_quotes()


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    known = list(known)
    close = [key for key in known if key.endswith(f".{name}")]
    close = close or difflib.get_close_matches(name, known, n=1)
    if close:
        return f"no {what} named {name!r}; did you mean {close[0]!r}?"
    shown = [key for key in known if "." not in key]
    return f"no {what} named {name!r}; known: {', '.join(shown)}"


def _hydra_message(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = lines[0] if lines else type(error).__name__
    quoted = re.match(r"(?:Error parsing override|Ambiguous value for argument) '(.*)'$", message)
    if quoted is not None:
        return f"{quoted.group(1)!r} can't be read; put the value in quotes if it is text"
    return f"the settings can't be read: {message}"
