"""The evidence for one crystal, as text and crystals, to check its verdict by hand."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from novelty_metric.errors import InputError
from novelty_metric.relaxation.base import Ended
from novelty_metric.report.quality import structurally_valid
from novelty_metric.verdict import CrystalResult, Route, TriedParent, Verdict

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from novelty_metric.crystal_records import CrystalRecords
    from novelty_metric.report.novelty_report import NoveltyReport

ROUTES = {Route.LATTICE_SITES: "lattice and sites", Route.WYCKOFF: "Wyckoff"}
TEXT_FILE = "explanation.txt"
_MOST_NAMED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The evidence for one sample."""

    title: str
    facts: tuple[tuple[str, str], ...]
    """Name and text, in order."""
    candidates: tuple[tuple[str, str], ...]
    """For each candidate parent what it is, and what became of it."""
    crystals: Mapping[str, Structure]
    """By file name without its ending, such as ``generated``."""


def explain(report: NoveltyReport, row: int, records: CrystalRecords) -> Explanation:
    """Collect the evidence for the sample in this row.

    Its crystals are given by `novelty_metric.report.files.read_structures`.
    """
    result = report.results[row]
    shown = shown_parent(result)
    parent_formula = None
    if records.parent is not None:
        parent_formula = records.parent.to_structure().composition.reduced_formula
    facts = [
        ("verdict", result.verdict.value if result.verdict is not None else "none"),
        ("why", _why(report, result, parent_formula)),
        *_second(report, result),
        *([("source", result.source)] if result.source else []),
        *_screening(report, result),
        *_geometry(report, result),
        *_matching(result),
    ]
    equal = [
        other.id
        for other in report.results
        if result.duplicate_group is not None
        and other.duplicate_group == result.duplicate_group
        and other.id != result.id
    ]
    again = () if report.rediscovery is None else report.rediscovery.of_sample(result.id)
    if again:
        assert report.rediscovery is not None
        facts.append(("rediscovers", f"{', '.join(again)} of {report.rediscovery.name}"))
    if equal:
        more = f" and {len(equal) - _MOST_NAMED} more" if len(equal) > _MOST_NAMED else ""
        facts.append(("equal to", f"the samples {', '.join(equal[:_MOST_NAMED])}{more}"))
    return Explanation(
        title=_title(result),
        facts=tuple(facts),
        candidates=tuple((_what(tried), _outcome(tried, result)) for tried in result.parents),
        crystals=_crystals(
            records,
            shown,
            relaxed=report.context.potential is not None and report.context.relax_samples,
        ),
    )


def row_of(report: NoveltyReport, identifier: str) -> int:
    """Position of the sample with this id. `InputError` if there is none; it names the nearest."""
    rows = {result.id: row for row, result in enumerate(report.results)}
    if identifier in rows:
        return rows[identifier]
    raise InputError(no_such_sample(identifier, rows, "the run"))


def no_such_sample(identifier: str, known: Iterable[str], where: str) -> str:
    """Error message for an unknown id; it names the most similar ids that are known."""
    ids = list(known)
    folded = identifier.casefold()
    near = [name for name in ids if folded and folded in name.casefold()][:3]
    near = near or difflib.get_close_matches(identifier, ids, n=3)
    if not ids:
        return f"no sample {identifier!r}: {where} has no sample"
    text = "did you mean" if near else "there are"
    names = near or ids[:3]
    others = "" if near or len(ids) <= len(names) else f" and {len(ids) - len(names)} more"
    *first, last = map(repr, names)
    listed = f"{', '.join(first)} or {last}" if near and first else ", ".join([*first, last])
    end = "?" if near else ""
    return f"no sample {identifier!r} in {where}; {text} {listed}{others}{end}"


def folder_name(identifier: str) -> str:
    """A folder name that is unique for the id and stays within its parent folder."""
    plain = re.sub(r"[^\w.+-]", "_", identifier, flags=re.ASCII)[:80].strip(".")
    if plain == identifier and plain:
        return plain
    return f"{plain or '_'}-{hashlib.sha256(identifier.encode()).hexdigest()[:8]}"


def write_crystals(crystals: Mapping[str, Structure], folder: Path) -> list[str]:
    """Write each crystal as CIF, and return the file names.

    `InputError` if the folder can't be written.
    """
    from novelty_metric.support.folders import write_atomically, writing

    with writing(folder, folder, hint="; name another folder: out=DIR"):
        for name, structure in crystals.items():
            write_atomically(folder / f"{name}.cif", structure.to(fmt="cif").encode())
    return [f"{name}.cif" for name in crystals]


# Words


def _title(result: CrystalResult) -> str:
    parts = [part for part in (result.formula,) if part]
    if result.n_sites is not None:
        parts.append(f"{result.n_sites} sites")
    if result.space_group is not None:
        parts.append(f"{result.crystal_system}, space group {result.space_group}")
    return f"{result.id}  {', '.join(parts)}".rstrip()


def _why(report: NoveltyReport, result: CrystalResult, formula: str | None) -> str:
    parent = " ".join(word for word in (result.parent_id, formula) if word)
    if result.verdict == Verdict.DUPLICATE:
        return (
            f"it matches {parent} of {report.context.reference_name}, elements included"
            f"{_through(result)}"
        )
    if result.verdict == Verdict.SUBSTITUTED:
        route = f" (found by {ROUTES[result.route]})" if result.route is not None else ""
        return f"{parent}{route}, its elements exchanged and relaxed once, matches it"
    if result.verdict == Verdict.UNMATCHED:
        if not result.n_parents:
            return (
                "no reference crystal has its lattice and sites, and none has its space group and "
                "Wyckoff letters"
            )
        tried = (
            "the only candidate parent was"
            if result.n_parents == 1
            else f"{result.n_parents} candidate parents, each"
        )
        return f"no match after relaxation: {tried} relaxed once with the elements of the sample"
    return result.error or "no reason was stored"


def _through(result: CrystalResult) -> str:
    """The supercell used in the duplicate test, if there was one."""
    if result.parent_cells is not None and result.parent_cells > 1:
        return f", through a {result.parent_cells}x supercell of {result.parent_id}"
    if result.sample_cells is not None and result.sample_cells > 1:
        return f", through a {result.sample_cells}x supercell of the sample"
    return ""


def _second(report: NoveltyReport, result: CrystalResult) -> list[tuple[str, str]]:
    """The verdict with the second potential."""
    found = report.second_potential
    if found is None:
        return []
    name = f"with {found.title}"
    if result.verdict_second is None:
        return [(name, "not scored: only eligible crystals are")]
    more = result.parent_id_second or result.error_second
    return [(name, result.verdict_second.value + (f": {more}" if more else ""))]


def _matching(result: CrystalResult) -> list[tuple[str, str]]:
    """The result of pymatgen's default matcher, and why it can differ from the verdict."""
    if result.novel_by_matching is None:
        if result.matching_error is None:
            return []
        return [("plain matching", f"not known: {result.matching_error}")]
    rule = "StructureMatcher() with its defaults"
    duplicate = result.verdict == Verdict.DUPLICATE
    if result.novel_by_matching:
        text = f"{rule} accepts no crystal of the reference: novel in S.U.N."
        if duplicate:
            text = (
                f"{rule} refuses this pair and every other crystal of the reference: novel in "
                "S.U.N. The duplicate test also compares supercells, and does not scale volumes"
            )
    elif result.matching_id is None:  # a report of before it was kept
        return []
    elif duplicate and result.matching_id == result.parent_id:
        text = f"{rule} accepts this pair too: not novel in S.U.N."
    elif duplicate:
        text = f"{rule} refuses this pair, and accepts {result.matching_id}: not novel in S.U.N."
    else:
        text = (
            f"{rule} accepts {result.matching_id}: not novel in S.U.N. It scales volumes, which "
            "the duplicate test does not"
        )
    return [("plain matching", text)]


def _screening(report: NoveltyReport, result: CrystalResult) -> list[tuple[str, str]]:
    if not result.readable:
        return []
    facts = []
    if result.eligible is not None:
        no = f"no: {result.error.removeprefix('not eligible: ')}" if result.error else "no"
        facts.append(("eligible", "yes" if result.eligible else no))
    if result.smact_valid is not None:
        facts.append(
            ("composition", "accepted by SMACT" if result.smact_valid else "refused by SMACT")
        )
    given = result.given_energy
    if result.energy_per_atom is not None or given is not None:
        energy = f"{result.energy_per_atom if given is None else given:.4f} eV/atom"
        if given is not None:
            energy += " as given"
        if result.e_above_hull is not None:
            limit = report.context.protocol.metastable
            energy += f", {result.e_above_hull:+.4f} from the hull (metastable: up to {limit:g})"
        if result.converged is False:
            energy += ", relaxation not converged"
        if result.saddle:
            left = report.context.protocol.minima == "escape"
            energy += "; the relaxation left a saddle point" if left else "; on a saddle point"
            if result.energy_below is not None:
                energy += f" {result.energy_below:.4f} eV/atom above a minimum"
        if result.energy_suspect:
            energy += "; suspect: the hull lacks its compounds, or the potential fails"
        facts.append(("energy", energy))
    if result.relaxation_energy is not None:
        moved = result.relaxation_rmsd
        far = "no match with itself" if moved is None else f"RMS {moved:.4f} in (V/N)^(1/3)"
        facts.append(
            ("relaxation", f"{result.relaxation_energy:+.4f} eV/atom; the sites moved: {far}")
        )
    if text := hull_label(result):
        facts.append(("hull", text))
    if result.shortest_distance is not None and result.volume_per_atom is not None:
        valid = "valid" if structurally_valid(result) else "not valid"
        facts.append(
            (
                "as generated",
                f"shortest distance {result.shortest_distance:.3f} A, "
                f"{result.volume_per_atom:.2f} A^3 per atom: structure {valid}",
            )
        )
    return facts


def hull_label(result: CrystalResult) -> str:
    """A description of the hull at the crystal's composition; empty if it is unknown."""
    products, count = result.decomposition, result.n_competing
    if products is None or result.e_above_hull is None:
        return ""
    mixture = " + ".join(products)
    compounds = "1 compound" if count == 1 else f"{count} compounds"
    if result.no_competing_compound:
        lacks = "no competing compound known"
        if count:
            lie = "lies" if count == 1 else "lie"
            lacks = f"the {compounds} known in its chemical system {lie} above them"
        return f"{mixture}, the elements alone; {lacks}"
    if len(products) == 1:
        label = f"{mixture}, of the same composition"
    else:
        verb = "decomposes into" if result.e_above_hull > 0 else "more stable than"
        label = f"{verb} {mixture}"
    return f"{label}; {compounds} known in its chemical system" if count else label


def _geometry(report: NoveltyReport, result: CrystalResult) -> list[tuple[str, str]]:
    if result.parent_id is None:
        return []
    facts = []
    if result.verdict not in (Verdict.DUPLICATE, Verdict.SUBSTITUTED):
        facts.append(("nearest", f"{result.parent_id}, the cheapest candidate"))
    if result.element_map is not None:
        facts.append(("elements", _elements(result.element_map)))
    if result.cost is not None:
        share = 100 * (result.share_exchanged or 0.0)
        facts.append(
            ("cost", f"{result.cost:.3f} Pettifor steps on average, {share:.0f} % of the atoms")
        )
    tolerance = f"tolerance {report.context.protocol.stol:g}, in (V/N)^(1/3)"
    distances = []
    if result.match_rms is not None:
        distances.append(f"RMS {result.match_rms:.4f} from the parent before its relaxation")
    if result.confirm_rms is not None:
        distances.append(f"RMS {result.confirm_rms:.4f} from the parent relaxed")
    if distances:
        facts.append(("distance", f"{', '.join(distances)} ({tolerance})"))
    own = _own_formula(result)
    if own is not None:
        facts.append(("no duplicate", own))
    return facts


def _own_formula(result: CrystalResult) -> str | None:
    """The reason why a crystal whose candidate parent has the same elements is not a duplicate."""
    if result.verdict == Verdict.DUPLICATE:
        return None
    own = [tried.parent for tried in result.parents if not tried.parent.share_exchanged]
    if not own:
        return None
    parent = min(own, key=lambda parent: parent.order)
    cost = f"(cost {parent.cost:g})"
    if parent.route is Route.WYCKOFF:
        return (
            f"{parent.parent_id} has the same elements on the same Wyckoff letters {cost}, but its "
            "cell or free coordinates differ by more than the duplicate test allows"
        )
    return (
        f"{parent.parent_id} has the same elements on the same sites {cost}. The search for "
        "parents limits the RMS of the site distances, the duplicate test limits the largest one, "
        "and that is too large"
    )


def _elements(element_map: Mapping[str, Mapping[str, int]]) -> str:
    parts = []
    for old, new in element_map.items():
        for name, count in new.items():
            sites = f"{count} site{'' if count == 1 else 's'}"
            parts.append(f"{old} stays ({sites})" if name == old else f"{old} -> {name} ({sites})")
    return ", ".join(parts)


def _what(tried: TriedParent) -> str:
    from pymatgen.core import Composition

    parent = tried.parent
    # By its atom map.
    counts = {old: sum(new.values()) for old, new in parent.element_map.items()}
    formula = Composition(counts).reduced_formula
    rms = "" if parent.match_rms is None else f", RMS {parent.match_rms:.3f}"
    return (
        f"{ROUTES[parent.route]} {parent.rank}: {parent.parent_id} {formula}, "
        f"cost {parent.cost:.2f}{rms}; {_elements(parent.element_map)}"
    )


def _outcome(tried: TriedParent, result: CrystalResult) -> str:
    if not tried.relaxed:
        if result.verdict == Verdict.SUBSTITUTED:
            return "not relaxed: another parent was already confirmed"
        return "not relaxed"
    if tried.error is not None:
        return f"nothing learned: {tried.error}"
    parts = []
    if tried.steps is not None:
        parts.append(f"{tried.steps} steps")
    if tried.energy_per_atom is not None and result.energy_per_atom is not None:
        above = tried.energy_per_atom - result.energy_per_atom
        parts.append(f"{above:+.3f} eV/atom from the crystal")
    if tried.volume_ratio is not None:
        parts.append(f"volume times {tried.volume_ratio:.2f}")
    after = f" ({', '.join(parts)})" if parts else ""
    if tried.confirmed:
        rms = "" if tried.confirm_rms is None else f" at RMS {tried.confirm_rms:.4f}"
        return f"confirmed{rms}{after}"
    if tried.ended_early == Ended.REFUSED:
        return f"refused early: it was still far from the crystal{after}"
    if tried.converged is not True:
        return f"open: it does not match, and its relaxation did not converge{after}"
    return f"refused: it relaxed to another crystal{after}"


# Crystals


def shown_parent(result: CrystalResult) -> TriedParent | None:
    """The candidate parent that the row names; None for a duplicate, or if none was stored."""
    among = [tried for tried in result.parents if tried.confirmed] or result.parents
    named = [tried for tried in among if tried.parent.parent_id == result.parent_id]
    return min(named, key=lambda tried: tried.parent.order, default=None)


def _crystals(
    records: CrystalRecords, shown: TriedParent | None, *, relaxed: bool
) -> dict[str, Structure]:
    """The crystals by name; the sample is only reduced, unless it was `relaxed`."""
    from novelty_metric.scoring.substitution import substitute

    found: dict[str, Structure] = {}
    for name in ("generated", "relaxed", "parent", "parent_relaxed"):
        record = getattr(records, name)
        if record is not None:
            shown_name = "reduced" if name == "relaxed" and not relaxed else name
            found[shown_name] = record.to_structure()
    if shown is not None and "parent" in found:
        found["parent_substituted"] = substitute(found["parent"], shown.parent)
    return found
