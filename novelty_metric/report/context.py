"""Description of a run in its report: protocol, potential, hull, reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from novelty_metric.protocol import PRESETS, Protocol
from novelty_metric.relaxation.potentials import PAPER_MODEL, model_title
from novelty_metric.report.rows import plain, printable_text
from novelty_metric.screening.composition import DEFAULT_SET

if TYPE_CHECKING:
    from novelty_metric.reference.calibration import Calibration
    from novelty_metric.relaxation.base import PotentialInfo
    from novelty_metric.report.rediscovery import Rediscovery

HULL_REMARKS = ("reference", "file", "note")
"""Keys of a hull that are not compared: its crystals and entries are in the hashes."""

_MOST_NAMED = 12
"""Maximum number of elements listed by name."""


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """Description of a run, without its crystals.

    Attributes
    ----------
    protocol : Protocol
    reference_name : str
    reference_size : int
        Crystals in the reference.
    crystals_hash, store_hash : str
        Hash over the reference's crystals alone, and over its prepared store.
    potential : PotentialInfo or None
        None if nothing was relaxed and no energy computed.
    second_potential : PotentialInfo or None
        The potential with which eligible crystals were scored again.
    hull : mapping
        Description of the hull, as plain values; its ``name`` is shown. Empty, or with the name
        ``none``, if there was no hull.
    scope : str
        ``eligible`` or ``all``: the crystals whose parents were searched.
    exhaustive : bool
        True if every candidate parent was relaxed, even after one was confirmed.
    relax_samples : bool
        False if the samples were already relaxed.
    leave_one_out : bool
        True if the samples are crystals of the reference, each scored against the others.
    smact_oxidation_states : str
        The set of oxidation states for the test of charge neutrality.
    n_generated : int or None
        Number of generated crystals, if it is larger than the number of samples; None: the samples.
    versions : mapping
        Versions of the libraries that can change a result.
    machine : mapping
        System, processor, cores and device, as text.
    seconds : mapping
        Wall time per step, in order. Starting Python, loading libraries, reading the samples and
        writing files are not steps.
    warnings : tuple of str
    calibration : Calibration or None
        Results of real crystals of the reference, if they were measured.
    rediscovery : Rediscovery or None
        Crystals of a test set that the samples match, if a test set was given.
    """

    protocol: Protocol
    reference_name: str
    reference_size: int
    crystals_hash: str
    store_hash: str
    potential: PotentialInfo | None = None
    second_potential: PotentialInfo | None = None
    hull: Mapping[str, Any] = field(default_factory=dict)
    scope: str = "eligible"
    exhaustive: bool = False
    relax_samples: bool = True
    leave_one_out: bool = False
    smact_oxidation_states: str = DEFAULT_SET
    n_generated: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    calibration: Calibration | None = None
    rediscovery: Rediscovery | None = None

    def __post_init__(self) -> None:
        # Plain values, so that a report read back from files equals the one that was written.
        for name in ("hull", "versions", "machine", "seconds"):
            object.__setattr__(self, name, plain(getattr(self, name)))
        object.__setattr__(
            self, "warnings", tuple(printable_text(str(line)) for line in self.warnings)
        )

    @property
    def protocol_text(self) -> str:
        """The protocol as text, such as ``paper settings, CHGNet in place of MACE-MPA-0``."""
        base, changes = protocol_changes(self.protocol)
        text = f"{base} settings" + (f" (modified: {changes})" if changes else "")
        if self.potential is None:
            text += ", search only: nothing is relaxed"
        else:
            title = model_title(self.potential.name)
            if title != PAPER_MODEL.title:
                text += f", {title} in place of {PAPER_MODEL.title}"
            elif base != "paper":
                text += f", {title}"
        return text

    @property
    def has_hull(self) -> bool:
        """True if energies above hull could be computed."""
        return bool(self.hull) and str(self.hull.get("name", "")).lower() != "none"

    @property
    def compared_hull(self) -> dict[str, Any]:
        """The hull without `HULL_REMARKS`, as it is compared with that of another run."""
        if not self.has_hull:
            return {"name": "none"}
        return {key: value for key, value in self.hull.items() if key not in HULL_REMARKS}

    @property
    def sample_energies(self) -> str | None:
        """A description of the samples' own energies that were used for the hull."""
        found = self.hull.get("sample_energies")
        return None if found is None else str(found)

    @property
    def measures_hull(self) -> bool:
        """True if there is a hull, and energies to compare with it."""
        return self.has_hull and (self.potential is not None or self.sample_energies is not None)

    @property
    def hull_text(self) -> str:
        """A description of the hull from which energies are measured."""
        return _hull_text(self.hull) if self.has_hull else "none"

    @property
    def eligibility(self) -> str:
        """A description of the conditions for an eligible crystal in this run."""
        chosen = self.smact_oxidation_states if self.smact_oxidation_states != DEFAULT_SET else ""
        if self.potential is None and self.sample_energies is None:
            # Without a potential there is no energy to hold against a hull.
            smact = "SMACT" + (f", {chosen}" if chosen else "")
            return f"chemistry alone ({smact}); nothing was relaxed, no energy was computed"
        conditions = ["SMACT-valid" + (f" ({chosen})" if chosen else "")]
        conditions.append("converged" if self.relax_samples else "taken as already relaxed")
        if self.has_hull:
            whose = f" by the samples' own {self.sample_energies}" if self.sample_energies else ""
            conditions.append(f"at most {self.protocol.metastable:g} eV/atom above hull{whose}")
        else:
            conditions.append("metastability not checked (no hull)")
        return ", ".join(conditions)


def protocol_changes(protocol: Protocol) -> tuple[str, str]:
    """Preset on which a protocol is based, and the settings that differ, such as ``fmax=0.02``.

    A protocol that is named after no preset is its own start, with no difference.
    """
    base = protocol.name.split(" (modified", 1)[0]
    preset = PRESETS.get(base)
    if preset is None:
        return protocol.name, ""
    ours, theirs = protocol.to_dict(), preset.to_dict()
    return base, ", ".join(
        f"{name}={value}"
        for name, value in ours.items()
        if name != "name" and value != theirs[name]
    )


def _hull_text(hull: Mapping[str, Any]) -> str:
    text = str(hull["name"])
    made_of = [str(hull["file"])] if hull.get("file") else []
    if "compositions" in hull and "scale" in hull:
        made_of.append(f"{hull['compositions']:,} compositions")
    elif "entries" in hull:
        made_of.append(f"{hull['entries']} entries")
    elif hull.get("crystals") is not None:
        made_of.append(count_of_crystals(hull["crystals"]))
    digest = hull.get("content_hash") or hull.get("crystals_hash")
    if digest:
        made_of.append(str(digest)[:12])
    if made_of:
        text += f" ({', '.join(made_of)})"
    if hull.get("scale"):
        text += f"; scale: {hull['scale']}"
        if hull.get("crystals") is not None:
            text += f"; {count_of_crystals(hull['crystals'])} of the reference among them"
    if hull.get("energies"):
        text += f"; energies with{'out' if hull['energies'] == 'uncorrected' else ''} corrections"
    if hull.get("sample_energies"):
        text += f"; distances by the samples' own {hull['sample_energies']}"
    if hull.get("as_published") is False:
        text += "; not the published file"
    if hull.get("skipped"):
        text += f"; {hull['skipped']} entries of other functionals left out"
    table = hull.get("elements_from_table") or []
    if table:
        shown = ", ".join(table[:_MOST_NAMED]) + (", ..." if len(table) > _MOST_NAMED else "")
        text += f"; {len(table)} elements that it lacks from a table: {shown}"
    lost = hull.get("crystals_without_energy") or 0
    if lost:
        text += f"; {count_of_crystals(lost)} of it without energy"
    if hull.get("note"):
        text += f"; {hull['note']}"
    return text


def count_of_crystals(count: int) -> str:
    """A number of crystals as text."""
    return f"{count} crystal{'' if count == 1 else 's'}"
