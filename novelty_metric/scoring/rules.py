"""The settings that decide verdicts, apart from the reference, the potential and the hull."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from novelty_metric.errors import InputError
from novelty_metric.protocol import SCOPES, Protocol
from novelty_metric.relaxation.base import RelaxSettings
from novelty_metric.scoring.sample_energies import SampleEnergies
from novelty_metric.screening.composition import oxidation_states_name

MAX_SITES = 300
"""Default maximum number of sites; one relaxation step of such a crystal takes seconds."""


@dataclass(frozen=True, kw_only=True)
class ScoringRules:
    """The settings that decide verdicts, apart from the reference, the potential and the hull.

    The attributes are the parameters of `SubstitutionNovelty` of the same names, and:

    Attributes
    ----------
    sample_energies : SampleEnergies or None
        What the energies are that come with the samples; None: the potential's are used.
    parents_protocol : Protocol or None
        By whose tolerances and `k` parents are searched, if not by those of `protocol`.

    Raises
    ------
    InputError
        If there is no such scope, or there are no such oxidation states.
    """

    protocol: Protocol
    scope: str = "eligible"
    exhaustive: bool = False
    relax_samples: bool = True
    leave_one_out: bool = False
    max_sites: int | None = MAX_SITES
    smact_oxidation_states: str | Path | None = None
    sample_energies: SampleEnergies | None = None
    parents_protocol: Protocol | None = None

    def __post_init__(self) -> None:
        if self.scope not in SCOPES:
            raise InputError(f"scope is {self.scope!r}; known: {', '.join(SCOPES)}")
        _ = self.oxidation_states_name

    @property
    def search_protocol(self) -> Protocol:
        """The protocol with the tolerances and `k` of the parent search."""
        return self.parents_protocol or self.protocol

    @cached_property
    def oxidation_states_name(self) -> str:
        """Name of the oxidation states in reports."""
        return oxidation_states_name(self.smact_oxidation_states)

    @property
    def relax_settings(self) -> RelaxSettings:
        """The settings of all relaxations."""
        return RelaxSettings(
            fmax=self.protocol.fmax,
            max_steps=self.protocol.max_steps,
            optimizer=self.protocol.optimizer,
        )
