"""MACE through ``mace-torch``: the paper's potential, or the user's own model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from novelty_metric.crystal import first_line
from novelty_metric.errors import InputError
from novelty_metric.relaxation.evaluators import AseEvaluator, Evaluator
from novelty_metric.relaxation.loading import (
    ModelByName,
    best_device,
    importing,
    model_file,
    quiet,
    weights_hash,
)
from novelty_metric.relaxation.potentials import MACE


@dataclass
class Mace(ModelByName):
    """MACE, one crystal at a time; by default MACE-MPA-0, the paper's.

    Parameters
    ----------
    model : str
        ``"medium-mpa-0"`` or another name that ``mace.calculators.mace_mp`` knows, which
        ``mace-torch`` downloads once; or the file of a model.
    device : str, optional
        Default: ``"cuda"`` where there is one, else ``"cpu"``.
    dtype : str
        ``"float64"``, which ``mace-torch`` advises for relaxations, or ``"float32"``.
    name : str, optional
        What reports call the model of a file. Default: made of the file's name.
    allow_pickle : bool
        Read a file of the user's own. It is a pickle, which can run any code when it is read.

    Notes
    -----
    MACE-MPA-0 was trained on uncorrected energies of the Materials Project: its hull must hold
    such energies. Source: Batatia et al., arXiv 2401.00096.
    """

    registered = MACE
    model: str = MACE.models[0].setting
    device: str | None = None
    dtype: str = "float64"
    name: str | None = None
    allow_pickle: bool = False

    @cached_property
    def _calculator(self) -> Any:
        with quiet():
            with importing(MACE):
                from mace import calculators
                from mace.calculators.foundations_models import mace_mp_names
            device = best_device(self.device)
            published = MACE.model(self.model)
            setting = self.model if published is None else published.setting
            try:
                if setting in mace_mp_names:
                    return calculators.mace_mp(
                        model=setting, device=device, default_dtype=self.dtype
                    )
                path = model_file(MACE, self.model, allow_pickle=self.allow_pickle)
                import torch

                model = torch.load(path, map_location=device, weights_only=False)
                return calculators.MACECalculator(
                    models=[model], device=device, default_dtype=self.dtype
                )
            except InputError:
                raise
            except Exception as error:  # a download, a file, a device: anything may be wrong
                raise InputError(
                    f"MACE can't load {self.model!r} on {device!r}: {first_line(error)}"
                ) from error

    def _weights_hash(self) -> str:
        return weights_hash(*self._calculator.models)

    def evaluator(self) -> Evaluator:
        """MACE's own calculator."""
        elements = frozenset(int(number) for number in self._calculator.z_table.zs)
        return AseEvaluator(self._calculator, elements)
