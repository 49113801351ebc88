"""The settings of ``score``, checked."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path
from typing import Any

from novelty_metric.errors import InputError
from novelty_metric.protocol import SCOPES, Protocol
from novelty_metric.report.context import protocol_changes
from novelty_metric.samples.members import natural_key
from novelty_metric.scoring.sample_energies import SampleEnergies
from novelty_metric.screening.composition import OXIDATION_STATE_SETS, oxidation_states_name
from novelty_metric.settings.model_settings import ModelSettings
from novelty_metric.support.folders import user_path

MODEL_MARK = "{model}"
"""What stands for the model's name in ``samples=``."""
WANDB_MODES = ("online", "offline", "disabled")


@dataclass(frozen=True, kw_only=True)
class WandbSettings:
    """The run of W&B that a report is logged to, and how much of it is drawn."""

    project: str | None
    entity: str | None
    run: str | None
    group: str | None
    tags: tuple[str, ...]
    mode: str | None
    pictures: int


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    """What ``novelty-metric score`` was asked to do.

    Attributes
    ----------
    samples : tuple of path
        Files and folders; empty: the packaged sample.
    format, column, id_column : str or None
        None: to be found out.
    energies : str or None
        Column or key of the samples' own energies; None: those of the potential count.
    energies_per, energies_scale : str or None
        What they are, see `novelty_metric.SubstitutionNovelty`.
    allow_pickle : bool
    model : ModelSettings
        The model that made the samples.
    reference : str
        Name, or file.
    protocol : Protocol
        Named after its preset, with what was changed: ``fast (modified: fmax=0.02)``.
    relaxer, hull : str or mapping
        Name; or a mapping with ``_target_``, to be instantiated.
    relax_samples, exhaustive : bool
    scope : str
    limit, max_sites : int or None
    seed : int or None
        With which `limit` crystals are drawn; None: the first ones.
    out : path or None
        None: nothing is written.
    overwrite : bool
    workers : int or None
        None: as many as the machine has cores, one on a GPU.
    device : str or None
    smact_oxidation_states : str or None
        A set of SMACT's, or a file; None: the default of SMACT.
    cache : bool or path
    logger : WandbSettings or None
        None: the report goes to the terminal and to `out` alone.
    executor : mapping or None
        With ``_target_``: what opens a `novelty_metric.runs.pools.Pool`; None: this process.
    part : int or None
        Samples that are scored together; None: as fits the executor.
    progress : bool
        Say on standard error how far the run is.
    """

    samples: tuple[Path, ...]
    format: str | None
    column: str | None
    energies: str | None
    energies_per: str | None
    energies_scale: str | None
    id_column: str | None
    allow_pickle: bool
    model: ModelSettings
    reference: str
    protocol: Protocol
    relaxer: str | Mapping[str, Any]
    hull: str | Mapping[str, Any]
    relax_samples: bool
    scope: str
    exhaustive: bool
    limit: int | None
    seed: int | None
    out: Path | None
    overwrite: bool
    workers: int | None
    device: str | None
    max_sites: int | None
    smact_oxidation_states: str | None
    cache: bool | Path
    logger: WandbSettings | None
    executor: Mapping[str, Any] | None
    part: int | None
    progress: bool

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ScoreSettings:
        """Check a composed config.

        Raises
        ------
        InputError
            In one line, for the first setting that is missing, unknown or of the wrong kind.
        """
        own = {field.name for field in dataclasses.fields(cls)}
        _only_known(config, own, "")
        model = ModelSettings.from_config(_group(config, "model"))
        reference = _group(config, "reference")
        _only_known(reference, {"name", "path"}, "reference.")
        path = reference["path"]
        if path == "???":
            raise InputError("reference.path has no value; write reference=FILE")
        if path is None and reference["name"] is None:
            raise InputError(
                f"what {model.title} was trained on has no name here; name what is scored "
                "against: reference=NAME or reference=FILE"
            )
        settings = cls(
            samples=sample_paths(config["samples"], model.name),
            format=_text(config, "format") or model.format,
            column=_text(config, "column"),
            energies=_text(config, "energies"),
            energies_per=_text(config, "energies_per"),
            energies_scale=_text(config, "energies_scale"),
            id_column=_text(config, "id_column"),
            allow_pickle=_flag(config, "allow_pickle"),
            model=model,
            reference=str(reference["name"] if path is None else path),
            protocol=_protocol(_group(config, "protocol")),
            relaxer=_named(config, "relaxer"),
            hull=_named(config, "hull"),
            relax_samples=_flag(config, "relax_samples"),
            scope=str(config["scope"]),
            exhaustive=_flag(config, "exhaustive"),
            limit=_count(config, "limit"),
            seed=_seed(config),
            out=_path(config, "out"),
            overwrite=_flag(config, "overwrite"),
            workers=_count(config, "workers"),
            device=_text(config, "device"),
            max_sites=_count(config, "max_sites"),
            smact_oxidation_states=_oxidation_states(config),
            cache=_cache(config),
            logger=_logger(_group(config, "logger")),
            executor=_executor(config),
            part=_count(config, "part"),
            progress=_flag(config, "progress"),
        )
        if settings.scope not in SCOPES:
            raise InputError(f"scope is {settings.scope!r}; known: {', '.join(SCOPES)}")
        settings._check_energies()
        if settings.seed is not None and settings.limit is None:
            raise InputError("seed= draws limit=N crystals; add limit=N, or leave seed= out")
        return settings

    def _check_energies(self) -> None:
        own = SampleEnergies.asked(self.energies_per, self.energies_scale)
        if self.energies is None and own is not None:
            raise InputError(
                "energies_per= and energies_scale= say what the samples' own energies are; "
                "name their column or key: energies=NAME"
            )
        if self.energies is not None and own is None:
            raise InputError(
                f"energies={self.energies}: say what they are: energies_per=atom or cell, "
                "energies_scale=corrected, uncorrected or formation"
            )


def _only_known(content: Mapping[str, Any], known: set[str], prefix: str) -> None:
    for name in content:
        if name not in known:
            raise InputError(f"no setting named {prefix + name!r}; known: {_listed(known, prefix)}")
    for name in sorted(known):
        if name not in content:
            raise InputError(f"the setting {prefix + name!r} is missing; give it a value")


def _listed(names: set[str], prefix: str) -> str:
    return ", ".join(prefix + name for name in sorted(names))


def _group(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = config[name]
    if not isinstance(value, Mapping):
        raise InputError(f"{name} is {value!r}; it must be a config with keys of its own")
    return value


def _named(config: Mapping[str, Any], name: str) -> str | Mapping[str, Any]:
    group = _group(config, name)
    if "_target_" in group:
        for key, value in group.items():
            if value == "???" or (key == "file" and value is None):
                raise InputError(f"{name}.{key} has no value; write {name}.{key}=VALUE")
        return group
    _only_known(group, {"name"}, f"{name}.")
    return str(group["name"])


def _executor(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    found = _named(config, "executor")
    if isinstance(found, str) and found != "none":
        raise InputError(f"no executor named {found!r}; known: none, or a config with _target_")
    return None if isinstance(found, str) else found


def _text(config: Mapping[str, Any], name: str, prefix: str = "") -> str | None:
    value = config[name]
    if value is not None and not isinstance(value, str):
        raise InputError(f"{prefix}{name} is {value!r}; it must be text or null")
    return value


def _path(config: Mapping[str, Any], name: str) -> Path | None:
    value = _text(config, name)
    return None if value is None else _as_path(name, value)


def _as_path(name: str, value: str) -> Path:
    if "\0" in value:
        raise InputError(f"{name} is {value!r}, which can be no file name")
    return user_path(value)


def sample_paths(given: Any, model: str) -> tuple[Path, ...]:
    """The files and folders that ``samples=`` names, each once.

    Text in brackets is a list, such as ``[a.csv,b.zip]``, unless there is a file of that name; a
    name with a comma stands in quotes. A name that nothing has may be a pattern such as
    ``gen_*.cif``: it stands for all that it fits, ``gen_2`` before ``gen_10``. ``{model}`` is
    replaced by the model's name; a pattern with it has to fit one file or folder, so that no model
    is scored on what another one wrote.

    Parameters
    ----------
    given : str, sequence of str, or None
    model : str
        Name of the model's config.

    Raises
    ------
    InputError
        If it is nothing of the kind, or a pattern fits nothing, or several with ``{model}``.
    """
    names = _listed_names(given) if isinstance(given, str) else ([] if given is None else given)
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise InputError(f"samples is {given!r}; it must be text, a list of texts, or null")
    if not names and given is not None:
        raise InputError(f"samples={given} names no file")
    return tuple(dict.fromkeys(path for name in names for path in _fitting(name, model)))


def with_samples_together(words: Sequence[str]) -> list[str]:
    """Words of a command line as typed, but several ``samples=`` made one list."""
    given = [word for word in words if word.startswith("samples=")]
    if len(given) < 2:
        return list(words)
    names = [name for word in given for name in _listed_names(word.partition("=")[2])]
    quoted = (re.sub(r"(['\\])", r"\\\1", name) for name in names)
    together = "samples=[" + ",".join(f"'{name}'" for name in quoted) + "]"
    return [together, *(word for word in words if word not in given)]


_LISTED = re.compile(
    r"""\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^,]*?))\s*(?:,|$)""", re.DOTALL
)


def _listed_names(text: str) -> list[str]:
    if not (text.startswith("[") and text.endswith("]")) or _exists(Path(text)):
        return [text]
    names = []
    for double, single, bare in _LISTED.findall(text[1:-1]):
        names.append(bare or re.sub(r"\\(.)", r"\1", double or single, flags=re.DOTALL))
    return [name for name in names if name]


def _fitting(text: str, model: str) -> list[Path]:
    named = text.replace(MODEL_MARK, model)
    path = _as_path("samples", named)
    if _exists(path) or not (has_magic(named) or MODEL_MARK in text):
        return [path]
    anchor = Path(path.anchor or ".")
    try:
        found = list(anchor.glob(str(path.relative_to(anchor))))
    except ValueError as error:  # ** beside other characters
        raise InputError(f"samples={named} is no pattern: {error}") from error
    if not path.name.startswith("."):  # as in a shell
        found = [item for item in found if not item.name.startswith(".")]
    if not found:
        missing = "fits no file or folder" if has_magic(named) else "no such file or folder"
        raise InputError(f"samples={named}: {missing}")
    found.sort(key=lambda item: natural_key(str(item)))
    if len(found) > 1 and MODEL_MARK in text:
        listed = ", ".join(str(item) for item in found[:4])
        raise InputError(f"samples={named}: fits {len(found)} files ({listed}); it must fit one")
    return found


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long, or can be none
        return False


def _flag(config: Mapping[str, Any], name: str) -> bool:
    value = config[name]
    if not isinstance(value, bool):
        raise InputError(f"{name} is {value!r}; it must be true or false")
    return value


def _count(config: Mapping[str, Any], name: str) -> int | None:
    value = config[name]
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} is {value!r}; it must be a whole number above 0")
    return value


def _seed(config: Mapping[str, Any]) -> int | None:
    value = config["seed"]
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError(f"seed is {value!r}; it must be a whole number, 0 or more")
    return value


def _logger(content: Mapping[str, Any]) -> WandbSettings | None:
    if content.get("name") == "none":
        _only_known(content, {"name"}, "logger.")
        return None
    if content.get("name") != "wandb":
        raise InputError(f"no logger named {content.get('name')!r}; known: none, wandb")
    own = {field.name for field in dataclasses.fields(WandbSettings)}
    _only_known(content, own | {"name"}, "logger.")
    texts = {
        name: _text(content, name, "logger.")
        for name in ("project", "entity", "run", "group", "mode")
    }
    if texts["mode"] not in (None, *WANDB_MODES):
        raise InputError(f"logger.mode is {texts['mode']!r}; known: {', '.join(WANDB_MODES)}")
    tags, pictures = content["tags"], content["pictures"]
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise InputError(f"logger.tags is {tags!r}; it must be a list of texts")
    if isinstance(pictures, bool) or not isinstance(pictures, int) or pictures < 0:
        raise InputError(f"logger.pictures is {pictures!r}; it must be a whole number, 0 or more")
    return WandbSettings(**texts, tags=tuple(tags), pictures=pictures)


def _oxidation_states(config: Mapping[str, Any]) -> str | None:
    value = _text(config, "smact_oxidation_states")
    if value is not None and value not in OXIDATION_STATE_SETS:
        value = str(_as_path("smact_oxidation_states", value))
    oxidation_states_name(value)
    return value


def _cache(config: Mapping[str, Any]) -> bool | Path:
    value = config["cache"]
    if value is None or isinstance(value, bool):
        return bool(value)
    path = _path(config, "cache")
    assert path is not None  # null was handled
    return path


def _protocol(content: Mapping[str, Any]) -> Protocol:
    _only_known(content, {field.name for field in dataclasses.fields(Protocol)}, "protocol.")
    values: dict[str, Any] = {}
    for field in dataclasses.fields(Protocol):
        value, default = content[field.name], field.default
        if isinstance(default, str):
            value = str(value)
        elif isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InputError(f"protocol.{field.name} is {value!r}; it must be a number")
        elif not math.isfinite(value):
            raise InputError(f"protocol.{field.name} is {value!r}; it must be finite")
        elif isinstance(default, float):
            value = float(value)
        values[field.name] = value
    protocol = Protocol(**values)
    base, changes = protocol_changes(protocol)
    return dataclasses.replace(protocol, name=f"{base} (modified: {changes})" if changes else base)
