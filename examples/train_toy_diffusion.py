"""Train a small flow model of crystals, which becomes a copy of its training set.

    python examples/train_toy_diffusion.py
    python examples/train_toy_diffusion.py epochs=2 callback.metric.relaxer=none out=tiny

The model learns a few salts of the packaged reference by flow matching. One transformer over the
sites moves everything from noise to crystal: fractional coordinates on the torus, species as
one-hot vectors, and the logarithm of the metric tensor of the cell. Settings:
train_toy_diffusion.yaml.

Needs ``pip install "novelty-metric[training]"``.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
import lightning
import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from pymatgen.core import Element, Lattice, Structure
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from novelty_metric import Reference, open_reference
from novelty_metric.report.colors import NOT_ELIGIBLE_COLOR, VERDICT_COLORS

ANIONS = frozenset(Element(symbol).Z for symbol in ("N", "O", "F", "S", "Cl", "Se", "Br", "I"))


def training_set(reference: Reference, count: int, max_sites: int) -> Reference:
    """Salts distributed over the reference: at least two elements, one of them an anion."""
    salts = [
        at
        for at in range(len(reference))
        if len(reference.structure(at)) <= max_sites
        and len(set(reference.structure(at).atomic_numbers)) > 1
        and ANIONS & set(reference.structure(at).atomic_numbers)
    ]
    chosen = [salts[at] for at in np.linspace(0, len(salts) - 1, count).round().astype(int)]
    return Reference.from_structures(
        [reference.structure(at) for at in chosen],
        ids=[reference.ids[at] for at in chosen],
        name=f"{count} salts of {reference.name}",
    )


# Crystals as arrays: G is the metric tensor of the cell in Å²; log G needs no positivity
# constraint.


def encode_cell(lattice: Lattice) -> np.ndarray:
    """Upper triangle of log G, (6,)."""
    values, vectors = np.linalg.eigh(lattice.metric_tensor)
    logarithm = vectors @ np.diag(np.log(values)) @ vectors.T
    return logarithm[np.triu_indices(3)]


def decode_cell(numbers: np.ndarray) -> Lattice:
    """The cell whose metric tensor has this logarithm."""
    logarithm = np.zeros((3, 3))
    logarithm[np.triu_indices(3)] = numbers
    logarithm += np.triu(logarithm, 1).T
    values, vectors = np.linalg.eigh(logarithm)
    metric = vectors @ np.diag(np.exp(np.clip(values, -2, 8))) @ vectors.T
    lengths = np.sqrt(np.diag(metric))
    cosines = (metric / np.outer(lengths, lengths))[[1, 0, 0], [2, 2, 1]]
    return Lattice.from_parameters(*lengths, *np.degrees(np.arccos(np.clip(cosines, -1, 1))))


class Crystals(Dataset[dict[str, Tensor]]):
    """The training crystals, padded to the largest one, each `repeats` times per epoch."""

    def __init__(self, structures: Sequence[Structure], repeats: int) -> None:
        self.elements = sorted({z for crystal in structures for z in crystal.atomic_numbers})
        self.sizes = [len(crystal) for crystal in structures]
        cells = np.array([encode_cell(crystal.lattice) for crystal in structures])
        self.mean, self.spread = cells.mean(0), cells.std(0) + 0.05
        self._repeats = repeats
        widest = max(self.sizes)
        self._rows = []
        for crystal, cell in zip(structures, cells, strict=True):
            n = len(crystal)
            coords, kinds = np.zeros((widest, 3)), -np.ones((widest, len(self.elements)))
            coords[:n] = crystal.frac_coords % 1
            kinds[range(n), [self.elements.index(z) for z in crystal.atomic_numbers]] = 1
            row = {
                "coords": coords,
                "kinds": kinds,
                "cell": (cell - self.mean) / self.spread,
                "there": np.arange(widest) < n,
            }
            self._rows.append({k: torch.as_tensor(v).float() for k, v in row.items()})

    def __len__(self) -> int:
        return self._repeats * len(self._rows)

    def __getitem__(self, at: int) -> dict[str, Tensor]:
        return self._rows[at % len(self._rows)]


def paired(start: Tensor, end: Tensor, there: Tensor) -> Tensor:
    """The noise, ordered by the nearest sites, which straightens the paths."""
    ways = (end[:, :, None] - start[:, None] + 0.5) % 1 - 0.5
    costs = ways.pow(2).sum(-1).cpu().numpy()
    order = np.tile(np.arange(start.shape[1]), (len(start), 1))
    for row, n in enumerate(there.sum(1).int().tolist()):
        order[row, :n] = linear_sum_assignment(costs[row, :n, :n])[1]
    index = torch.as_tensor(order, device=start.device)[..., None].expand_as(start)
    return start.gather(1, index)


class CrystalFlow(lightning.LightningModule):
    """A velocity field from noise to crystals, and its integration."""

    def __init__(
        self,
        data: Crystals,
        *,
        width: int,
        layers: int,
        heads: int,
        learning_rate: float,
        steps: int,
    ) -> None:
        super().__init__()
        self.data, self.rate, self.steps = data, learning_rate, steps
        n_kinds = len(data.elements)
        self.waves = 2 * math.pi * torch.arange(1, 5)
        self.site = nn.Linear(n_kinds + 24, width)
        self.whole = nn.Sequential(nn.Linear(6 + 16, width), nn.SiLU(), nn.Linear(width, width))
        layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.body = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.to_coords = nn.Linear(width, 3)
        self.to_kinds = nn.Linear(width, n_kinds)
        self.to_cell = nn.Linear(width, 6)

    def forward(
        self, coords: Tensor, kinds: Tensor, cell: Tensor, there: Tensor, time: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Velocities of coordinates (B, n, 3), species (B, n, kinds) and cell (B, 6)."""
        angles = (coords[..., None] * self.waves.to(coords)).flatten(2)
        sites = self.site(torch.cat([kinds, angles.sin(), angles.cos()], dim=-1))
        phases = time[:, None] * torch.pi * torch.arange(1, 9, device=time.device)
        whole = self.whole(torch.cat([cell, phases.sin(), phases.cos()], dim=-1))
        tokens = torch.cat([whole[:, None], sites + whole[:, None]], dim=1)
        absent = torch.cat([torch.zeros_like(there[:, :1]), 1 - there], dim=1).bool()
        seen = self.body(tokens, src_key_padding_mask=absent)
        return self.to_coords(seen[:, 1:]), self.to_kinds(seen[:, 1:]), self.to_cell(seen[:, 0])

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Flow matching: the velocity along straight lines from noise to crystal."""
        coords, kinds, cell, there = (batch[k] for k in ("coords", "kinds", "cell", "there"))
        time = torch.rand(len(cell), device=cell.device)
        at = time[:, None, None]
        start, noise, rough = (
            torch.rand_like(coords),
            torch.randn_like(kinds),
            torch.randn_like(cell),
        )
        start = paired(start, coords, there)
        step = (coords - start + 0.5) % 1 - 0.5  # the shortest path on the torus
        found = self(
            (start + at * step) % 1,
            (1 - at) * noise + at * kinds,
            (1 - time[:, None]) * rough + time[:, None] * cell,
            there,
            time,
        )
        sites = there[..., None] / there.sum()
        return (
            10 * (sites * (found[0] - step) ** 2).sum()
            + (sites * (found[1] - (kinds - noise)) ** 2).sum() / kinds.shape[-1]
            + (found[2] - (cell - rough)).pow(2).mean()
        )

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        """Loss of one batch."""
        loss = self.loss(batch)
        self.log("loss", loss, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        """Adam with warm-up and decay of the learning rate."""
        adam = torch.optim.Adam(self.parameters(), lr=self.rate)
        steps = int(self.trainer.estimated_stepping_batches)
        one_cycle = torch.optim.lr_scheduler.OneCycleLR(
            adam, self.rate, total_steps=steps, pct_start=0.1
        )
        return {"optimizer": adam, "lr_scheduler": {"scheduler": one_cycle, "interval": "step"}}

    @torch.no_grad()
    def sample(self, count: int) -> list[Structure]:
        """Crystals from noise by Euler's method, with sizes of the training set."""
        sizes = torch.tensor(self.data.sizes)[torch.randint(len(self.data.sizes), (count,))]
        widest = max(self.data.sizes)
        there = (torch.arange(widest) < sizes[:, None]).float().to(self.device)
        coords = torch.rand(count, widest, 3, device=self.device)
        kinds = torch.randn(count, widest, len(self.data.elements), device=self.device)
        cell = torch.randn(count, 6, device=self.device)
        for number in range(self.steps):
            time = torch.full((count,), number / self.steps, device=self.device)
            moves = self(coords, kinds, cell, there, time)
            coords = (coords + moves[0] / self.steps) % 1
            kinds = kinds + moves[1] / self.steps
            cell = cell + moves[2] / self.steps
        cells = cell.cpu().numpy() * self.data.spread + self.data.mean
        return [
            Structure(
                decode_cell(numbers),
                [self.data.elements[kind] for kind in species[:n].argmax(-1).tolist()],
                places[:n].cpu().numpy(),
            )
            for numbers, species, places, n in zip(
                cells, kinds, coords, sizes.tolist(), strict=True
            )
        ]


def curve(evaluations: Sequence[Any], out: Path) -> None:
    """Verdicts over epochs, as CSV and as a figure."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = ("duplicate", "substituted", "unmatched", "undecided", "not eligible")
    colours = (*VERDICT_COLORS.values(), NOT_ELIGIBLE_COLOR)
    rows = []
    for evaluation in evaluations:
        report = evaluation.report
        counts = Counter(report.counts)
        counts["not eligible"] = len(report.results) - report.n_eligible
        rows.append([evaluation.epoch, *(counts[name] / len(report.results) for name in names)])
    with (out / "curve.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("epoch", *names), *rows])
    columns = np.array(rows).T
    figure, axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    axes.stackplot(columns[0], columns[1:], labels=names, colors=colours, edgecolor="white")
    axes.set(xlabel="epoch", ylabel="share of the samples", ylim=(0, 1))
    axes.set_xlim(columns[0].min(), max(columns[0].max(), 1))
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside right center", frameon=False)
    figure.savefig(out / "curve.png", dpi=150)
    plt.close(figure)


@hydra.main(config_path=".", config_name="train_toy_diffusion", version_base="1.3")
def main(config: DictConfig) -> None:
    """Train."""
    torch.set_num_threads(config.threads)
    lightning.seed_everything(config.seed, verbose=False)
    whole = open_reference(config.data.reference)
    reference = training_set(whole, config.data.crystals, config.data.max_sites)
    data = Crystals([reference.structure(i) for i in range(len(reference))], config.data.repeats)
    target = instantiate({**config.model, "_target_": f"{__name__}.CrystalFlow"}, data)
    # The training set is also the reference of the metric.
    callback = instantiate(
        config.callback, metric={**config.callback.metric, "reference": reference}
    )
    trainer = lightning.Trainer(
        max_epochs=config.epochs,
        logger=[instantiate(logger) for logger in config.logger],
        callbacks=[callback],
        default_root_dir=config.out,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        log_every_n_steps=1,
    )
    trainer.fit(target, DataLoader(data, batch_size=config.data.batch, shuffle=True))
    for evaluation in callback.evaluations:
        shown = {
            name: evaluation.scalars.get(f"novelty/{name}")
            for name in ("novelty", "duplicate", "substituted", "unmatched", "n_eligible")
        }
        print(evaluation.epoch, shown)
    curve(callback.evaluations, Path(config.out))


if __name__ == "__main__":
    main()
