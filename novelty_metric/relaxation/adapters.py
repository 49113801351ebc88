"""Adapters for user-defined potentials: any ASE calculator, any model of torch-sim."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from novelty_metric.crystal import first_line
from novelty_metric.errors import InputError
from novelty_metric.relaxation.base import PotentialInfo
from novelty_metric.relaxation.evaluators import AseEvaluator, Evaluator, TorchSimEvaluator
from novelty_metric.relaxation.loading import quiet


@dataclass
class AseCalculator:
    """Any ASE calculator with energy, forces and stress, one crystal at a time.

    Parameters
    ----------
    calculator : mapping
        How to make one: ``{"_target_": "package.module.Class", **arguments}``, for Hydra's
        ``instantiate``. Each worker process makes its own.
    name, version : str
        What a report calls the potential. Name it anew whenever its energies change: finished
        relaxations are found again under name, version, weights and arguments.
    weights : path, optional
        File of the weights; its content goes into the hash.
    device : str
        What it works on: on ``"cpu"`` there is a worker per core.
    """

    calculator: Mapping[str, Any]
    name: str = "ase"
    version: str = "unknown"
    weights: str | Path | None = None
    device: str = "cpu"

    @cached_property
    def info(self) -> PotentialInfo:
        """Name, version, and SHA-256 of the weights' file and of the arguments."""
        return _described(self.name, self.version, self.calculator, self.weights)

    @property
    def device_name(self) -> str:
        """Kind of device on which it runs."""
        return self.device.split(":")[0]

    def evaluator(self) -> Evaluator:
        """Create the calculator."""
        return AseEvaluator(_made("relaxer.calculator", self.calculator))


@dataclass
class TorchSim:
    """Any model of torch-sim, many crystals at once.

    Parameters
    ----------
    model : mapping
        How to make one: ``{"_target_": "package.module.Class", **arguments}``, for Hydra's
        ``instantiate``. It must give forces and stress.
    name, version, weights, device
        As for `AseCalculator`.
    sites : int
        Sites that are evaluated together.
    """

    model: Mapping[str, Any]
    name: str = "torch-sim"
    version: str = "unknown"
    weights: str | Path | None = None
    device: str = "cpu"
    sites: int = 500

    @cached_property
    def info(self) -> PotentialInfo:
        """Name, version, and SHA-256 of the weights' file and of the arguments."""
        return _described(self.name, self.version, self.model, self.weights)

    @property
    def device_name(self) -> str:
        """Kind of device on which it runs."""
        return self.device.split(":")[0]

    def evaluator(self) -> Evaluator:
        """Create the model."""
        if importlib.util.find_spec("torch_sim") is None:
            raise InputError(
                "relaxer=torch_sim needs torch-sim; install it with "
                'pip install "novelty-metric[torch-sim]"'
            )
        return TorchSimEvaluator(_made("relaxer.model", self.model), float(self.sites))


def _described(
    name: str, version: str, arguments: Mapping[str, Any], weights: str | Path | None
) -> PotentialInfo:
    plain = {str(key): value for key, value in arguments.items()}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode())
    if weights is not None:
        try:
            digest.update(Path(weights).read_bytes())
        except OSError as error:
            raise InputError(
                f"relaxer.weights={weights} can't be read ({error.strerror})"
            ) from error
    return PotentialInfo(name=name, version=version, weights_hash=digest.hexdigest())


def _made(what: str, arguments: Mapping[str, Any]) -> Any:
    """Create a user's object from its ``_target_``."""
    from hydra.utils import instantiate

    if "_target_" not in arguments:
        raise InputError(f"{what} needs _target_, the class to create")
    with quiet():
        try:
            return instantiate({str(key): value for key, value in arguments.items()})
        except Exception as error:  # anything may be wrong with it
            raise InputError(
                f"{what}={arguments['_target_']} can't be made: {first_line(error)}"
            ) from error
