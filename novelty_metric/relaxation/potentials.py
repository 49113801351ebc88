"""Interatomic potentials: how each is loaded, and how its weights are named."""

from __future__ import annotations

import contextlib
import hashlib
import io
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from novelty_metric.errors import InputError
from novelty_metric.relaxation.base import PotentialInfo

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator


class Potential(Protocol):
    """A potential that ASE can call. Must be picklable: worker processes load their own copy."""

    @property
    def info(self) -> PotentialInfo:
        """Name, version and hash of the weights."""
        ...

    def calculator(self) -> Calculator:
        """A fresh ASE calculator."""
        ...


@dataclass
class Chgnet:
    """CHGNet with the weights that its wheel carries; works offline.

    Parameters
    ----------
    device : str, optional
        ``"cpu"``, ``"cuda"`` or ``"mps"``. Default: CHGNet's choice of what the machine has.

    Notes
    -----
    CHGNet was trained on MP2020-corrected energies, so a hull beside it must hold such energies.
    Source: Deng et al., Nat. Mach. Intell. 5, 1031 (2023).
    """

    device: str | None = None

    @cached_property
    def _model(self) -> Any:
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
        digest = hashlib.sha256()
        for name, tensor in sorted(self._model.state_dict().items()):
            digest.update(name.encode())
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return PotentialInfo(
            name="chgnet", version=str(self._model.version), weights_hash=digest.hexdigest()
        )

    @property
    def device_name(self) -> str:
        """Kind of device that the weights are on, such as ``"cpu"``."""
        return str(next(self._model.parameters()).device.type)

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
        return {"device": self.device}


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
