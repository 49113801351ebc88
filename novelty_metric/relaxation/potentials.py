"""Interatomic potentials: how each is loaded, and how its weights are named."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from novelty_metric.crystal import first_line
from novelty_metric.errors import InputError
from novelty_metric.relaxation.base import PotentialInfo
from novelty_metric.relaxation.evaluators import AseEvaluator, Evaluator, TorchSimEvaluator

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator


class Potential(Protocol):
    """A potential that relaxes. Must be picklable: worker processes load their own copy."""

    @property
    def info(self) -> PotentialInfo:
        """Name, version and hash of the weights."""
        ...

    @property
    def device_name(self) -> str:
        """Kind of device that it works on, such as ``"cpu"``."""
        ...

    def evaluator(self) -> Evaluator:
        """A fresh evaluator."""
        ...


@dataclass
class Chgnet:
    """CHGNet with the weights that its wheel carries; works offline.

    Parameters
    ----------
    device : str, optional
        ``"cpu"``, ``"cuda"`` or ``"mps"``. Default: CHGNet's choice of what the machine has.
    batched : bool
        Many crystals in one pass; False takes CHGNet's own ASE calculator, one by one.

    Notes
    -----
    CHGNet was trained on MP2020-corrected energies, so a hull beside it must hold such energies.
    Source: Deng et al., Nat. Mach. Intell. 5, 1031 (2023).
    """

    device: str | None = None
    batched: bool = True

    @cached_property
    def _model(self) -> Any:
        # Or cuBLAS may add up in another order each time; read when it is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        with quiet():
            from chgnet.model import CHGNet

            try:
                return CHGNet.load(use_device=self.device, verbose=False)
            except (RuntimeError, NotImplementedError, AssertionError) as error:
                reason = str(error).splitlines()[0]
                raise InputError(f"CHGNet can't use device {self.device!r}: {reason}") from error

    @cached_property
    def info(self) -> PotentialInfo:
        """Name, version and SHA-256 of the weights, tensor by tensor in order of name."""
        return PotentialInfo(
            name="chgnet", version=str(self._model.version), weights_hash=weights_hash(self._model)
        )

    @property
    def device_name(self) -> str:
        """Kind of device that the weights are on, such as ``"cpu"``."""
        return str(next(self._model.parameters()).device.type)

    def evaluator(self) -> Evaluator:
        """Batched, or CHGNet's own calculator."""
        if not self.batched:
            return AseEvaluator(self.calculator())
        from novelty_metric.relaxation.chgnet_batch import BatchedChgnet

        return BatchedChgnet(self._model)

    def calculator(self) -> Calculator:
        """CHGNet's own calculator, asked for energy, forces and stress only.

        An atom with no neighbour within CHGNet's 6 Å is an error: its energy would mean nothing.
        """
        with quiet():
            from chgnet.model.dynamics import CHGNetCalculator

            class _Calculator(CHGNetCalculator):
                def calculate(
                    self,
                    atoms: Any = None,
                    properties: Any = None,
                    system_changes: Any = None,
                    task: Any = "efs",
                ) -> None:
                    super().calculate(atoms, properties, system_changes, task=task)

            return _Calculator(self._model, use_device=self.device, on_isolated_atoms="error")

    def __getstate__(self) -> dict[str, Any]:
        return {"device": self.device, "batched": self.batched}


@dataclass
class Mace:
    """MACE through ``mace-torch``, one crystal at a time; by default MACE-MPA-0, the paper's.

    Parameters
    ----------
    model : str
        A name that ``mace.calculators.mace_mp`` knows, or the file of a model. A name is
        downloaded once by ``mace-torch``.
    device : str, optional
        Default: ``"cuda"`` where there is one, else ``"cpu"``.
    dtype : str
        ``"float64"``, which ``mace-torch`` advises for relaxations, or ``"float32"``.

    Notes
    -----
    MACE-MPA-0 was trained on uncorrected energies of the Materials Project: its hull must hold
    such energies. Source: Batatia et al., arXiv 2401.00096.
    """

    model: str = "medium-mpa-0"
    device: str | None = None
    dtype: str = "float64"

    @cached_property
    def _calculator(self) -> Any:
        with quiet():
            try:
                from mace.calculators import mace_mp
            except ImportError as error:
                raise InputError(
                    "relaxer=mace needs mace-torch; install it with "
                    'pip install "novelty-metric[mace]"'
                ) from error
            try:
                return mace_mp(model=self.model, device=self.device_name, default_dtype=self.dtype)
            except Exception as error:  # a download, a file, a device: anything may be wrong
                raise InputError(
                    f"MACE can't load {self.model!r} on {self.device_name!r}: {first_line(error)}"
                ) from error

    @cached_property
    def info(self) -> PotentialInfo:
        """The model's name, the version of ``mace-torch`` and SHA-256 of the weights."""
        from importlib.metadata import PackageNotFoundError, version

        try:
            installed = version("mace-torch")
        except PackageNotFoundError:
            installed = "unknown"
        name = Path(self.model).stem
        return PotentialInfo(
            name=f"mace-{name}",
            version=installed,
            weights_hash=weights_hash(*self._calculator.models),
        )

    @property
    def device_name(self) -> str:
        """Kind of device that it works on."""
        if self.device is not None:
            return self.device.split(":")[0]
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    def evaluator(self) -> Evaluator:
        """MACE's own calculator."""
        return AseEvaluator(self._calculator)

    def __getstate__(self) -> dict[str, Any]:
        return {"model": self.model, "device": self.device, "dtype": self.dtype}


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
        """Kind of device that it works on."""
        return self.device.split(":")[0]

    def evaluator(self) -> Evaluator:
        """The calculator, made now."""
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
        """Kind of device that it works on."""
        return self.device.split(":")[0]

    def evaluator(self) -> Evaluator:
        """The model, made now."""
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
    """An object of the user's own, from its ``_target_``."""
    from hydra.utils import instantiate

    if "_target_" not in arguments:
        raise InputError(f"{what} needs _target_, the class that is to be made")
    with quiet():
        try:
            return instantiate({str(key): value for key, value in arguments.items()})
        except Exception as error:  # anything may be wrong with it
            raise InputError(
                f"{what}={arguments['_target_']} can't be made: {first_line(error)}"
            ) from error


def weights_hash(*models: Any) -> str:
    """SHA-256 of the weights of torch modules, tensor by tensor in order of name."""
    digest = hashlib.sha256()
    for model in models:
        for name, tensor in sorted(model.state_dict().items()):
            digest.update(name.encode())
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def quiet() -> Any:
    """Keep what libraries print and warn about off the screen."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield
