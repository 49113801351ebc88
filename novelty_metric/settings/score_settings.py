"""The settings of ``score``, and those of the model in them, checked."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from glob import has_magic
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AllowInfNan,
    BeforeValidator,
    InstanceOf,
    Strict,
    ValidationInfo,
)

from novelty_metric.errors import InputError
from novelty_metric.protocol import Protocol, Scope
from novelty_metric.report.context import protocol_changes
from novelty_metric.samples.formats import FORMATS, ArrayConvention
from novelty_metric.samples.members import natural_key
from novelty_metric.scoring.sample_energies import SampleEnergies
from novelty_metric.screening.composition import OXIDATION_STATE_SETS, oxidation_states_name
from novelty_metric.support.folders import user_path
from novelty_metric.support.validation import (
    STRICT,
    AnyText,
    Count,
    Flag,
    Keys,
    MustBe,
    Number,
    OptionalText,
    Whole,
    validated,
)

GENERIC = "generic"
"""The default model."""


def _known_formats(names: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [name for name in names if name not in FORMATS]
    if unknown:
        raise InputError(f"formats names {unknown[0]!r}; known: {', '.join(FORMATS)}")
    return names


Names = Annotated[
    tuple[AnyText, ...],
    BeforeValidator(lambda given: given or ()),
    MustBe("a list of names"),
]


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """A config of the group ``model``; ``configs/model/generic.yaml`` describes the keys."""

    __pydantic_config__ = STRICT
    name: AnyText
    title: OptionalText = None
    writes: OptionalText = None
    formats: Annotated[Names, AfterValidator(_known_formats)] = ()
    format: OptionalText = None
    columns: Names = ()
    arrays: Annotated[ArrayConvention, BeforeValidator(lambda given: given or {})] = field(
        default_factory=ArrayConvention
    )
    samples: OptionalText = None
    reference: OptionalText = "aflow"
    relax_samples: Flag = True
    paper: OptionalText = None
    repository: OptionalText = None
    citation: OptionalText = None

    @classmethod
    def from_config(cls, content: Mapping[str, Any]) -> ModelSettings:
        """Check the composed config of a model.

        Raises
        ------
        InputError
            In one line, for the first key that is unknown or of the wrong kind.
        """
        given = {"name": None, **content}
        given["title"] = given.get("title") or given["name"]
        return validated(cls, given, inside="model", key="setting")


MODEL_MARK = "{model}"
"""Placeholder of the model's name in ``samples=``."""


def sample_paths(given: Any, model: str) -> tuple[Path, ...]:
    """The files and folders of ``samples=``, each once.

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
    """The arguments of a command line as typed, with several ``samples=`` merged to a list."""
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


def _as_path(name: str, value: str) -> Path:
    if "\0" in value:
        raise InputError(f"{name} is {value!r}, which is not a valid file name")
    return user_path(value)


def _fitting(text: str, model: str) -> list[Path]:
    named = text.replace(MODEL_MARK, model)
    path = _as_path("samples", named)
    if _exists(path) or not (has_magic(named) or MODEL_MARK in text):
        return [path]
    anchor = Path(path.anchor or ".")
    try:
        found = list(anchor.glob(str(path.relative_to(anchor))))
    except ValueError as error:  # ** beside other characters
        raise InputError(f"samples={named} is not a pattern: {error}") from error
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


@dataclass(frozen=True, kw_only=True)
class WandbSettings:
    """The W&B run for the reports, and how much of a report is drawn."""

    __pydantic_config__ = STRICT
    name: Literal["wandb"] = "wandb"
    project: OptionalText
    entity: OptionalText
    run: OptionalText
    group: OptionalText
    tags: Annotated[tuple[AnyText, ...], MustBe("a list of texts")]
    mode: Literal["online", "offline", "disabled"] | None
    pictures: Annotated[int, Whole()]


_NUMBER = Annotated[
    Annotated[int, Strict()] | Annotated[float, Strict(), AllowInfNan(False)], MustBe("a number")
]
_PROTOCOL = Annotated[
    dict[str, Any],
    Keys(
        {
            item.name: Annotated[str, BeforeValidator(str)]
            if isinstance(item.default, str)
            else Number
            if isinstance(item.default, float)
            else _NUMBER
            for item in dataclasses.fields(Protocol)
        }
    ),
]


def _group(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"{name} is {value!r}; it must be a config with keys of its own")
    return value


def _reference(value: Any, info: ValidationInfo) -> str:
    group = validated(_REFERENCE, _group("reference", value), inside="reference", key="setting")
    name, path = group["name"], group["path"]
    if path == "???":
        raise InputError("reference.path has no value; write reference=FILE")
    if path is None and name is None:
        raise InputError(
            f"what {info.data['model'].title} was trained on has no name here; give the training "
            "set as reference=NAME or reference=FILE"
        )
    return str(name if path is None else path)


def _protocol(value: Any) -> Protocol:
    group = _group("protocol", value)
    protocol = Protocol(**validated(_PROTOCOL, group, inside="protocol", key="setting"))
    base, changes = protocol_changes(protocol)
    return dataclasses.replace(protocol, name=f"{base} (modified: {changes})" if changes else base)


def _named(value: Any, info: ValidationInfo) -> str | Mapping[str, Any] | None:
    """A relaxer, hull or executor: its name, or the config from which it is made."""
    name = str(info.field_name)
    group = _group(name, value)
    if "_target_" in group:
        for key, inside in group.items():
            if inside == "???" or (key == "file" and inside is None):
                raise InputError(f"{name}.{key} has no value; write {name}.{key}=VALUE")
        return group
    found: str = validated(_NAME, group, inside=name, key="setting")["name"]
    if name != "executor":
        return found
    if found != "none":
        raise InputError(f"no executor named {found!r}; known: none, or a config with _target_")
    return None


def _logger(value: Any) -> WandbSettings | None:
    group = _group("logger", value)
    name = group.get("name")
    if name == "none":
        validated(_NAME, group, inside="logger", key="setting")
        return None
    if name != "wandb":
        raise InputError(f"no logger named {name!r}; known: none, wandb")
    return validated(WandbSettings, group, inside="logger", key="setting")


def _file(value: Any, info: ValidationInfo) -> Any:
    return _as_path(str(info.field_name), value) if isinstance(value, str) else value


def _oxidation_states(value: Any) -> Any:
    if isinstance(value, str) and value not in OXIDATION_STATE_SETS:
        value = str(_as_path("smact_oxidation_states", value))
    if value is None or isinstance(value, str):
        oxidation_states_name(value)
    return value


_NAME = Annotated[dict[str, Any], Keys({"name": Annotated[str, BeforeValidator(str)]})]
_REFERENCE = Annotated[dict[str, Any], Keys({"name": Any, "path": Any})]
_Named = BeforeValidator(_named)


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    """The settings of ``novelty-metric score``, which ``configs/config.yaml`` describes.

    Without ``samples=``, `samples` is empty. `protocol` is named after its preset and what was
    changed, such as ``fast (modified: fmax=0.02)``. A mapping has a ``_target_`` to be
    instantiated; that of `executor` opens a `novelty_metric.runs.pools.Pool`.
    """

    __pydantic_config__ = STRICT
    model: Annotated[
        InstanceOf[ModelSettings],
        BeforeValidator(lambda value: ModelSettings.from_config(_group("model", value))),
    ]
    samples: Annotated[
        tuple[Path, ...],
        BeforeValidator(lambda value, info: sample_paths(value, info.data["model"].name)),
    ]
    format: Annotated[
        OptionalText, BeforeValidator(lambda value, info: value or info.data["model"].format)
    ]
    column: OptionalText
    energies: OptionalText
    energies_per: OptionalText
    energies_scale: OptionalText
    id_column: OptionalText
    allow_pickle: Flag
    reference: Annotated[str, BeforeValidator(_reference)]
    protocol: Annotated[InstanceOf[Protocol], BeforeValidator(_protocol)]
    relaxer: Annotated[str | Mapping[str, Any], _Named]
    hull: Annotated[str | Mapping[str, Any], _Named]
    second_potential: OptionalText
    relax_samples: Flag
    leave_one_out: Flag
    rediscover: Annotated[Path | None, BeforeValidator(_file), MustBe("text or null")]
    scope: Scope
    exhaustive: Flag
    limit: Count | None
    seed: Annotated[int, Whole()] | None
    out: Annotated[Path | None, BeforeValidator(_file), MustBe("text or null")]
    overwrite: Flag
    workers: Count | None
    device: OptionalText
    max_sites: Count | None
    smact_oxidation_states: Annotated[OptionalText, BeforeValidator(_oxidation_states)]
    cache: Annotated[
        bool | Path,
        BeforeValidator(lambda given: given or False),
        BeforeValidator(_file),
        MustBe("true, false or a file"),
    ]
    logger: Annotated[InstanceOf[WandbSettings] | None, BeforeValidator(_logger)]
    executor: Annotated[Mapping[str, Any] | None, _Named]
    part: Count | None
    progress: Flag
    detail: Literal["short", "full"]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ScoreSettings:
        """Check a composed config.

        Raises
        ------
        InputError
            In one line, for the first setting that is missing, unknown or of the wrong kind.
        """
        settings = validated(cls, config, key="setting")
        own = SampleEnergies.asked(settings.energies_per, settings.energies_scale)
        if settings.energies is None and own is not None:
            raise InputError(
                "energies_per= and energies_scale= say what the samples' own energies are; "
                "name their column or key: energies=NAME"
            )
        if settings.energies is not None and own is None:
            raise InputError(
                f"energies={settings.energies}: add energies_per=atom or cell, and "
                "energies_scale=corrected, uncorrected or formation"
            )
        if settings.seed is not None and settings.limit is None:
            raise InputError(
                "seed= selects limit=N crystals at random; add limit=N, or remove seed="
            )
        return settings
