"""CHGNet with the weights of its wheel: loading, and its own calculator."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from novelty_metric.errors import InputError
from novelty_metric.relaxation.base import PotentialInfo
from novelty_metric.relaxation.evaluators import AseEvaluator, Evaluator
from novelty_metric.relaxation.loading import (
    best_device,
    hash_by_file,
    quiet,
    settings_of,
    tensors_hash,
    weights_file,
)
from novelty_metric.relaxation.potentials import CHGNET

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

    from novelty_metric.relaxation.chgnet_batch import ChgnetWeights


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
    def info(self) -> PotentialInfo:
        """Name, version and SHA-256 of the weights, tensor by tensor in order of name."""
        model = CHGNET.models[0]
        digest = hash_by_file(CHGNET, model) or tensors_hash(self._weights.tensors)
        return PotentialInfo(name=model.name, version=model.setting, weights_hash=digest)

    @property
    def device_name(self) -> str:
        """Kind of device that it works on, such as ``"cpu"``."""
        return self._device.split(":")[0]

    def evaluator(self) -> Evaluator:
        """The batched evaluator, or CHGNet's own calculator."""
        if not self.batched:
            return AseEvaluator(self.calculator())
        from novelty_metric.relaxation.chgnet_batch import BatchedChgnet

        with self._loading():
            return BatchedChgnet(self._weights, self._device)

    def calculator(self) -> Calculator:
        """CHGNet's own calculator, for energy, forces and stress only.

        An atom with no neighbour within CHGNet's 6 Å is an error: its energy would mean nothing.
        """
        with quiet(), self._loading():
            from chgnet.model import CHGNet
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

            model = CHGNet.load(
                model_name=CHGNET.models[0].setting, use_device=self._device, verbose=False
            )
            return _Calculator(model, use_device=self._device, on_isolated_atoms="error")

    @cached_property
    def _weights(self) -> ChgnetWeights:
        from novelty_metric.relaxation.chgnet_batch import ChgnetWeights

        return ChgnetWeights.read(weights_file(CHGNET, CHGNET.models[0]))

    @property
    def _device(self) -> str:
        given = self.device or os.environ.get("CHGNET_DEVICE")
        if given is None and sys.platform == "darwin":
            import torch

            given = "mps" if torch.backends.mps.is_available() else "cpu"
        return best_device(given)

    @contextlib.contextmanager
    def _loading(self) -> Iterator[None]:
        # Or cuBLAS may add up in another order each time; read when it is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        try:
            yield
        except (RuntimeError, NotImplementedError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"CHGNet can't use device {self._device!r}: {reason}") from error

    def __getstate__(self) -> dict[str, Any]:
        return settings_of(self)
