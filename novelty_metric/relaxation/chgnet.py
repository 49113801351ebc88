"""CHGNet with the weights of its wheel: loading, and its own calculator."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from novelty_metric.errors import InputError
from novelty_metric.relaxation.base import PotentialInfo
from novelty_metric.relaxation.evaluators import AseEvaluator, Evaluator
from novelty_metric.relaxation.loading import quiet, settings_of, weights_hash
from novelty_metric.relaxation.potentials import CHGNET

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator


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
            name=CHGNET.models[0].name,
            version=str(self._model.version),
            weights_hash=weights_hash(self._model),
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
        return settings_of(self)
