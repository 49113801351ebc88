"""A MACE with random weights, built and saved by mace-torch."""

from __future__ import annotations

from pathlib import Path


def write_tiny_mace(path: Path) -> Path:
    """Save a small model for the elements up to actinium."""
    import numpy as np
    import torch
    from e3nn import o3
    from mace import modules

    numbers = list(range(1, 90))
    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    torch.manual_seed(1)
    with torch.no_grad():
        model = modules.ScaleShiftMACE(
            r_max=4.5,
            num_bessel=4,
            num_polynomial_cutoff=5,
            max_ell=1,
            interaction_cls=block,
            interaction_cls_first=block,
            num_interactions=2,
            num_elements=len(numbers),
            hidden_irreps=o3.Irreps("8x0e"),
            MLP_irreps=o3.Irreps("4x0e"),
            gate=torch.nn.functional.silu,
            atomic_energies=np.zeros(len(numbers)),
            avg_num_neighbors=12.0,
            atomic_numbers=numbers,
            correlation=2,
            atomic_inter_scale=1.0,
            atomic_inter_shift=0.0,
        )
    torch.save(model.double(), path)
    return path
