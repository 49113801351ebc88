"""The registry of potentials: names, training energies, weights, and the class of each.

Whatever names a potential reads it here: reports, hulls, leaderboards, the command line and
`novelty_metric.SubstitutionNovelty`. A new potential is one entry of `POTENTIALS`, one module that
evaluates it, one config in ``configs/relaxer`` and one extra.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from novelty_metric.errors import InputError

if TYPE_CHECKING:
    from novelty_metric.relaxation.adapters import AseCalculator, TorchSim
    from novelty_metric.relaxation.base import PotentialInfo
    from novelty_metric.relaxation.chgnet import Chgnet
    from novelty_metric.relaxation.evaluators import Evaluator
    from novelty_metric.relaxation.mace import Mace
    from novelty_metric.relaxation.sevennet import SevenNet

__all__ = [
    "ADAPTERS",
    "CHGNET",
    "MACE",
    "PAPER_MODEL",
    "POTENTIALS",
    "SEVENNET",
    "AseCalculator",
    "Chgnet",
    "Mace",
    "Potential",
    "PublishedModel",
    "RegisteredPotential",
    "SevenNet",
    "TorchSim",
    "TrainedOn",
    "make_potential",
    "missing_package",
    "model_title",
    "published_model",
    "registered",
    "relaxer_of",
]


class Potential(Protocol):
    """A potential for relaxations. It must be picklable: each worker process loads its own copy."""

    @property
    def info(self) -> PotentialInfo:
        """Name, version and hash of the weights."""
        ...

    @property
    def device_name(self) -> str:
        """Kind of device that it works on, such as ``"cpu"``."""
        ...

    def evaluator(self) -> Evaluator:
        """Create a new evaluator."""
        ...


class TrainedOn(StrEnum):
    """Energies of the Materials Project with the MP2020 corrections, or without (raw DFT)."""

    CORRECTED = "corrected"
    UNCORRECTED = "uncorrected"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedModel:
    """Published weights of a potential.

    Attributes
    ----------
    name : str
        In `PotentialInfo`, and so in file names and cache keys.
    title : str
        The name that people read; the one of Matbench Discovery where it has one.
    setting : str
        Value of ``relaxer.model``: what the potential's package calls it.
    trained_on : TrainedOn
    weights_hash : str or None
        SHA-256 of the weights; None where they were not at hand.
    file : str
        Where the package keeps them, below its folder; empty where it keeps none.
    file_hash : str
        SHA-256 of that file: a file with it holds weights with `weights_hash`, which is then known
        without reading them.
    aliases : tuple of str
        Further names, also those of earlier reports.
    source : str
        Where the training energies are described.
    """

    name: str
    title: str
    setting: str
    trained_on: TrainedOn
    weights_hash: str | None
    file: str = ""
    file_hash: str = ""
    aliases: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredPotential:
    """A potential with its own name.

    Attributes
    ----------
    key : str
        ``relaxer=KEY``, and the config of this name.
    package : str
        The distribution that holds its code.
    module : str
        What is imported of it.
    extra : str or None
        The extra of this project that installs it; None: always installed.
    builder : str
        ``module:class`` of this package; called with ``device`` and the settings of the config.
    models : tuple of PublishedModel
        The default first.
    """

    key: str
    package: str
    module: str
    extra: str | None
    builder: str
    models: tuple[PublishedModel, ...]

    def model(self, setting: str) -> PublishedModel | None:
        """The published model for a value of ``relaxer.model``, if there is one."""
        plain = _plain(setting)
        return next((one for one in self.models if plain in _names(one)), None)


CHGNET = RegisteredPotential(
    key="chgnet",
    package="chgnet",
    module="chgnet",
    extra=None,
    builder="novelty_metric.relaxation.chgnet:Chgnet",
    models=(
        PublishedModel(
            name="chgnet",
            title="CHGNet",
            setting="0.3.0",
            trained_on=TrainedOn.CORRECTED,
            weights_hash="5c53271ac57b035eae409b8f356044ecc4d07cc3dbb85552f176ade598818b70",
            file="pretrained/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar",
            file_hash="d14ab7c0f093efe64b60a7bcd540bca10e74fb7f46c86108a079af60524659d1",
            source="Deng et al., Nat. Mach. Intell. 5, 1031 (2023)",
        ),
    ),
)

MACE = RegisteredPotential(
    key="mace",
    package="mace-torch",
    module="mace.calculators",
    extra="mace",
    builder="novelty_metric.relaxation.mace:Mace",
    models=(
        PublishedModel(
            name="mace-medium-mpa-0",
            title="MACE-MPA-0",
            setting="medium-mpa-0",
            trained_on=TrainedOn.UNCORRECTED,
            weights_hash=None,
            aliases=("mace-mpa-0", "mpa-0", "mace-mpa-0-medium", "mace-mace-mpa-0-medium"),
            source="Batatia et al., arXiv 2401.00096",
        ),
    ),
)

SEVENNET = RegisteredPotential(
    key="sevennet",
    package="sevenn",
    module="sevenn",
    extra="sevennet",
    builder="novelty_metric.relaxation.sevennet:SevenNet",
    models=(
        PublishedModel(
            name="sevennet-0",
            title="SevenNet-0",
            setting="7net-0",
            trained_on=TrainedOn.UNCORRECTED,
            weights_hash="b9a396769d93c7773feaa501dc88430c38d97740d0cf4f31770e52f1292d800f",
            file="pretrained_potentials/SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth",
            file_hash="7052cb42b7b3be42b40b97fa0d21077a48c54b5548948fc4dcf346629f813c36",
            source="Park et al., J. Chem. Theory Comput. 20, 4857 (2024)",
        ),
        PublishedModel(
            name="sevennet-l3i5",
            title="SevenNet-l3i5",
            setting="7net-l3i5",
            trained_on=TrainedOn.UNCORRECTED,
            weights_hash="a103ef733a8b67e9a39965d5c66af6784545f6da5ec861f4bac1dfe0ab8381e9",
            file="pretrained_potentials/SevenNet_l3i5/checkpoint_l3i5.pth",
            file_hash="a7ff190d41efe5b8317a03d20a468e4036a1a3e64e0b14fdbab64ac3f4bfc09d",
            source="Park et al., J. Chem. Theory Comput. 20, 4857 (2024)",
        ),
    ),
)

POTENTIALS: Mapping[str, RegisteredPotential] = MappingProxyType(
    {one.key: one for one in (CHGNET, MACE, SEVENNET)}
)
"""All potentials with their own name, by key."""

PAPER_MODEL = MACE.models[0]
"""The model of the paper, and so of ``protocol=paper``."""

ADAPTERS: Mapping[str, str] = MappingProxyType(
    {
        "ase": "novelty_metric.relaxation.adapters:AseCalculator",
        "torch_sim": "novelty_metric.relaxation.adapters:TorchSim",
    }
)
"""Adapters for user-defined potentials, by their ``relaxer=``: ``module:class``."""


def published_model(name: str) -> PublishedModel | None:
    """The published model with this name in a report or a setting; None if it is unknown.

    Capitals, and ``_`` in place of ``-``, make no difference.
    """
    found = (potential.model(name) for potential in POTENTIALS.values())
    return next((one for one in found if one is not None), None)


def model_title(name: str) -> str:
    """The display name of a `PotentialInfo.name`; the same name if it is not a published model."""
    found = published_model(name)
    return name if found is None else found.title


def relaxer_of(name: str) -> tuple[str, str] | None:
    """``relaxer=`` and ``relaxer.model=`` for the potential with this name, if it is known."""
    for potential in POTENTIALS.values():
        found = potential.model(name)
        if found is not None:
            return potential.key, found.setting
    return None


def registered(key: str) -> RegisteredPotential:
    """The registry entry of ``relaxer=KEY``.

    Raises
    ------
    InputError
        If there is none of that name, or it is one of `ADAPTERS`.
    """
    if key in ADAPTERS:
        name = ADAPTERS[key].rpartition(":")[2]
        raise InputError(
            f"relaxer={key} needs the potential itself; give {name}(...) of {__name__}"
        )
    if key not in POTENTIALS:
        known = ", ".join([*POTENTIALS, "none"])
        raise InputError(f"no relaxer named {key!r}; known: {known}")
    return POTENTIALS[key]


def make_potential(key: str, *, device: str | None = None, **settings: Any) -> Potential:
    """The potential of ``relaxer=KEY``, ready to be loaded.

    Parameters
    ----------
    key : str
    device : str, optional
        Default: what the machine has.
    **settings
        As in the config of this name, such as ``model``.

    Raises
    ------
    InputError
        If there is no potential of that name.
    """
    potential: Potential = _resolved(registered(key).builder)(device=device, **settings)
    return potential


def missing_package(potential: RegisteredPotential) -> InputError:
    """Installation hint for a potential whose package is missing."""
    wanted = potential.package if potential.extra is None else f"novelty-metric[{potential.extra}]"
    return InputError(
        f'relaxer={potential.key} needs {potential.package}; install it with pip install "{wanted}"'
    )


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def _names(model: PublishedModel) -> tuple[str, ...]:
    return tuple(map(_plain, (model.name, model.title, model.setting, *model.aliases)))


def _resolved(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def __getattr__(name: str) -> Any:
    """The classes that build potentials, loaded on first use."""
    places = [potential.builder for potential in POTENTIALS.values()] + list(ADAPTERS.values())
    for place in places:
        if place.rpartition(":")[2] == name:
            return _resolved(place)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
