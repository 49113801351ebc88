"""Train a small policy with graded novelty as its reward.

    python examples/reward_training.py

The policy chooses a prototype and two elements of a binary salt. REINFORCE moves it towards salts
that are far from every crystal of the packaged reference. Novelty alone would reward nonsense, so
the reward is novelty times a test of validity: here charge neutrality, in a real project also an
energy above hull. The script takes seconds and relaxes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from pymatgen.core import Element, Structure

from novelty_metric import SubstitutionNovelty
from novelty_metric.screening.composition import smact_valid

CATIONS = ("Li", "Na", "K", "Rb", "Cs", "Cu", "Ag", "Mg", "Ca", "Sr", "Ba", "Zn", "Cd")
ANIONS = ("F", "Cl", "Br", "I", "O", "S", "Se", "Te")
FACE_CENTRED = 0.5 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
CELLS = {
    "rock salt": (FACE_CENTRED, 0.5),
    "caesium chloride": (np.eye(3), 0.5),
    "zinc blende": (FACE_CENTRED, 0.25),
}
"""Primitive cell of edge 1, and the three fractional coordinates of the anion."""
PROTOTYPES = tuple(CELLS)

Choice = tuple[int, int, int]


def build(choice: Choice) -> Structure:
    """The salt of a prototype, a cation and an anion, with touching ions."""
    cation, anion = CATIONS[choice[1]], ANIONS[choice[2]]
    cell, coordinate = CELLS[PROTOTYPES[choice[0]]]
    anion_site = np.full(3, coordinate)
    bond = sum(float(Element(name).average_ionic_radius) for name in (cation, anion))
    edge = bond / np.linalg.norm(anion_site @ cell)
    if PROTOTYPES[choice[0]] == "rock salt":
        edge = 2 * bond  # along the edge, not the diagonal of the cell
    return Structure(edge * cell, [cation, anion], [np.zeros(3), anion_site])


@dataclass
class Rewards:
    """Novelty times validity; each choice is calculated once."""

    metric: SubstitutionNovelty
    _known: dict[Choice, float] = field(default_factory=dict)

    def __call__(self, choices: list[Choice]) -> np.ndarray:
        """The reward of each choice, (N,)."""
        new = [choice for choice in dict.fromkeys(choices) if choice not in self._known]
        crystals = [build(choice) for choice in new]
        for choice, crystal, novelty in zip(
            new, crystals, self.metric.reward(crystals), strict=True
        ):
            self._known[choice] = novelty * smact_valid(crystal.composition)
        return np.array([self._known[choice] for choice in choices])


def train(
    metric: SubstitutionNovelty, *, n_steps: int = 60, n_crystals: int = 32, seed: int = 0
) -> list[float]:
    """Mean reward of each step.

    Parameters
    ----------
    metric : SubstitutionNovelty
    n_steps, n_crystals : int
        Steps, and crystals that are drawn in each.
    seed : int
    """
    generator = np.random.default_rng(seed)
    rewards = Rewards(metric)
    logits = [np.zeros(len(names)) for names in (PROTOTYPES, CATIONS, ANIONS)]
    means, baseline = [], None
    for _ in range(n_steps):
        shares = [np.exp(row) / np.exp(row).sum() for row in logits]
        drawn = np.array([generator.choice(len(row), n_crystals, p=row) for row in shares])
        found = rewards([(int(a), int(b), int(c)) for a, b, c in drawn.T])
        means.append(float(found.mean()))
        baseline = means[-1] if baseline is None else 0.8 * baseline + 0.2 * means[-1]
        advantage = (found - baseline) / (found.std() + 1e-6)
        for row, share, picked in zip(logits, shares, drawn, strict=True):
            gradient = np.eye(len(row))[picked] - share
            row += 0.5 * (advantage[:, None] * gradient).mean(axis=0)
    best = sorted(rewards._known.items(), key=lambda item: -item[1])[:3]
    for (prototype, cation, anion), value in best:
        print(f"{value:.3f}  {CATIONS[cation]}{ANIONS[anion]}, {PROTOTYPES[prototype]}")
    return means


if __name__ == "__main__":
    curve = train(SubstitutionNovelty(reference="aflow"))
    print(f"mean reward: {curve[0]:.3f} at the first step, {curve[-1]:.3f} at the last")
