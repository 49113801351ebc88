"""The files of a report: tables, crystals and `report.json`.

Imported only when a report is tabulated, written or read: pandas and pyarrow are needed here.

`report.json` is written last and contains the SHA-256 of the other files, so that files of two runs
are never combined to one report. Each file is written beside its place and then moved there. The
schema version is the key ``schema_version`` of `report.json`, and ``novelty_metric_schema`` in the
metadata of each Parquet file. A CSV has no room for it that other readers would not take for a row
or a column; there the header line is the schema, and `report.json` names the version under
``files``. `evidence.parquet` keeps what an atom map needs beyond the columns of `parents.parquet`,
row by row; `quality.parquet` what validity and S.U.N. are made of, a row per sample; and
`structures.parquet`, read only when a crystal is asked for, at most four crystals a sample.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from novelty_metric.crystal import first_line
from novelty_metric.crystal_records import CrystalRecord, CrystalRecords
from novelty_metric.errors import InputError
from novelty_metric.protocol import Protocol
from novelty_metric.reference.calibration import Calibration
from novelty_metric.relaxation.base import PotentialInfo
from novelty_metric.report.breakdown import BREAKDOWNS
from novelty_metric.report.context import RunContext
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.report.quality import stable, structurally_valid
from novelty_metric.report.rediscovery import Rediscovery
from novelty_metric.report.rows import plain, record_from, tried_parent_from, with_enums
from novelty_metric.support.folders import write_atomically
from novelty_metric.verdict import Column, CrystalResult, Kind, Parent, Route, TriedParent, Verdict

SCHEMA_VERSION = 2
OLDER_VERSIONS = (1,)
"""Older schema versions that can be read."""
LATER_COLUMNS = ("source", "new_prototype", "verdict_second")
"""Columns of `verdicts.parquet` that older tables lack."""
SCHEMA_KEY = b"novelty_metric_schema"


@dataclass(frozen=True, slots=True)
class FileColumn:
    """A column of a file: its Arrow type, unit and meaning."""

    type: pa.DataType
    unit: str = ""
    meaning: str = ""


_ARROW_TYPES = {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}


def _declared(*owners: type) -> dict[str, tuple[Column, FileColumn]]:
    """The columns declared by the fields of dataclasses; for equal names, the first one counts."""
    found: dict[str, tuple[Column, FileColumn]] = {}
    for owner in owners:
        for name, hint in get_type_hints(owner, localns=_LATER_NAMES, include_extras=True).items():
            declared = getattr(hint, "__metadata__", ())
            if not declared:
                continue
            kind = hint.__origin__
            arrow = _ARROW_TYPES.get((get_args(kind) or (kind,))[0], pa.string())
            if kind == tuple[str, ...]:
                arrow = pa.list_(pa.string())
            column = declared[0]
            found.setdefault(name, (column, FileColumn(arrow, column.unit, column.meaning)))
    return found


_LATER_NAMES = {"CrystalRecords": CrystalRecords}
_OF_ROW = _declared(CrystalResult)
_OF_PARENT = {name: column for name, (_, column) in _declared(Parent, TriedParent).items()}
_FLAG, _INDEX = FileColumn(pa.bool_()), FileColumn(pa.int64(), "1", "position in verdicts.parquet")
_ID = _OF_ROW["id"][1]
_VERDICTS = {name: column for name, (own, column) in _OF_ROW.items() if own.file == "verdicts"}
_KEPT_QUALITY = {name: column for name, (own, column) in _OF_ROW.items() if own.file == "quality"}
"""Fields of a result that are stored in `quality.parquet`."""
_QUALITY = {
    "id": _ID,
    **{name: _KEPT_QUALITY[name] for name in ("shortest_distance", "volume_per_atom")},
    "structurally_valid": _FLAG,
    "stable": _FLAG,
    **_KEPT_QUALITY,
    "no_competing_compound": _FLAG,
}
_PARENTS = {
    "id": _ID,
    **{
        name: _OF_PARENT[name]
        for name in (
            *("route", "rank", "parent_id", "cost", "match_rms", "confirm_rms", "element_map"),
            *("relaxed", "converged", "confirmed"),
        )
    },
}
_EVIDENCE = {
    "row": _INDEX,
    **{name: column for name, column in _OF_PARENT.items() if name not in _PARENTS},
}
_STRUCTURES = {
    "row": _INDEX,
    "role": FileColumn(pa.string(), "", "role of the crystal in the row"),
    "lattice": FileColumn(pa.list_(pa.float64()), "angstrom", "cell vectors, concatenated"),
    "numbers": FileColumn(pa.list_(pa.uint8()), "1", "atomic numbers"),
    "frac_coords": FileColumn(pa.list_(pa.float64()), "1", "of the sites, concatenated"),
}
_QUALITY_FILE, _STRUCTURES_FILE = "quality.parquet", "structures.parquet"
CRYSTALS_FILE = "crystals.extxyz"
_FILES_OF_CRYSTALS = (_STRUCTURES_FILE, CRYSTALS_FILE)
"""Files that are written only if the results contain crystals."""
_ROWS_AT_ONCE = 5000
"""Number of report rows converted to tables at once."""

COLUMNS: dict[str, dict[str, FileColumn]] = {
    "verdicts.parquet": _VERDICTS,
    "parents.parquet": _PARENTS,
    _QUALITY_FILE: _QUALITY,
    "evidence.parquet": _EVIDENCE,
    _STRUCTURES_FILE: _STRUCTURES,
}
"""The columns of each file."""
REPORT_FILES = ("report.json", "verdicts.csv", CRYSTALS_FILE, *COLUMNS)
"""Names of all files that `save_report` writes."""

_FRAME_TYPES = {pa.string(): "string", pa.int64(): "Int64", pa.bool_(): "boolean"}


# Tables


def verdicts_frame(results: Sequence[CrystalResult]) -> pd.DataFrame:
    """A row per sample; integers, flags and text are nullable, energies are floats."""
    return _frame(_VERDICTS, ((result,) for result in results))


def parents_frame(results: Sequence[CrystalResult]) -> pd.DataFrame:
    """A row per candidate parent, samples in input order."""
    # Where a column is named in several of these, the first one has it.
    rows = ((tried, tried.parent, result) for result in results for tried in result.parents)
    return _frame(_PARENTS, rows)


def _frame(schema: Mapping[str, FileColumn], rows: Iterable[tuple[object, ...]]) -> pd.DataFrame:
    columns: dict[str, list[Any]] = {name: [] for name in schema}
    for sources in rows:
        for name, values in columns.items():
            value = _first(sources, name)
            if name == "element_map" and value is not None:
                value = json.dumps({old: dict(new) for old, new in value.items()})
            values.append(str(value) if isinstance(value, (Verdict, Route, Kind)) else value)
    return pd.DataFrame(
        {
            name: pd.array(values, dtype=_FRAME_TYPES.get(schema[name].type, "float64"))
            for name, values in columns.items()
        }
    )


def _first(sources: tuple[object, ...], name: str) -> Any:
    """The value of the first object that has it."""
    return next(getattr(source, name) for source in sources if hasattr(source, name))


def _schema(columns: Mapping[str, FileColumn]) -> pa.Schema:
    return pa.schema(
        [
            pa.field(
                name,
                column.type,
                metadata={
                    key: text for key in ("unit", "meaning") if (text := getattr(column, key))
                },
            )
            for name, column in columns.items()
        ]
    )


def _evidence(results: Sequence[CrystalResult], first: int) -> pa.Table:
    rows = [
        {
            "row": row,
            **{name: _first((tried, tried.parent), name) for name in _EVIDENCE if name != "row"},
            "supercell": json.dumps(tried.parent.supercell),
        }
        for row, result in enumerate(results, start=first)
        for tried in result.parents
    ]
    return pa.Table.from_pylist(rows, schema=_schema(_EVIDENCE))


def _quality(results: Sequence[CrystalResult], threshold: float) -> pa.Table:
    rows = [
        {
            "id": result.id,
            **{name: getattr(result, name) for name in _KEPT_QUALITY},
            "structurally_valid": structurally_valid(result),
            "stable": stable(result, threshold),
            "decomposition": None
            if result.decomposition is None
            else json.dumps(dict(result.decomposition)),
            "no_competing_compound": result.no_competing_compound,
        }
        for result in results
    ]
    return pa.Table.from_pylist(rows, schema=_schema(_QUALITY))


def _structures(results: Sequence[CrystalResult], first: int) -> pa.Table:
    columns: dict[str, list[Any]] = {name: [] for name in _STRUCTURES}
    for row, result in enumerate(results, start=first):
        if result.structures is None:
            continue
        for role in fields(CrystalRecords):
            record = getattr(result.structures, role.name)
            if record is not None:
                columns["row"].append(row)
                columns["role"].append(role.name)
                columns["lattice"].append(record.lattice.ravel())
                columns["numbers"].append(record.numbers)
                columns["frac_coords"].append(record.frac_coords.ravel())
    return pa.table(columns, schema=_schema(_STRUCTURES))


# The summary

_FIGURES = (
    *("novelty", "novelty_is_bound", "novelty_interval", "novelty_bounds"),
    *("novelty_without_suspect", "novel_yield", "novel_yield_interval", "novel_yield_bounds"),
    *("graded", "quality", "new_prototypes"),
)
_COUNTS = ("counts", "fractions", "counts_all", "fractions_all")
_SAMPLES = (
    *("generated", "read", "unreadable", "scored", "not_searched", "eligible", "energy_suspect"),
    *("saddles", "no_competing_compound", "stable_no_competing_compound"),
)
"""Properties of `NoveltyReport` in the summary; those of samples begin with ``n_``."""
_RUN = (
    *("scope", "exhaustive", "relax_samples", "leave_one_out", "smact_oxidation_states"),
    "n_generated",
)
"""Settings of a run: fields of `RunContext`; older reports lack some."""


def summary(report: NoveltyReport) -> dict[str, Any]:
    """The content of ``report.json``, without the hashes of the other files."""
    context, second = report.context, report.second_potential
    content: dict[str, Any] = plain(
        {
            "schema_version": SCHEMA_VERSION,
            **{name: getattr(report, name) for name in _FIGURES},
            "without_suspect": _headlines(report.without_suspect),
            **{name: getattr(report, name) for name in _COUNTS},
            "samples": {name: getattr(report, f"n_{name}") for name in _SAMPLES},
            "left_out": report.left_out,
            "eligibility": context.eligibility,
            "breakdowns": {by: _breakdown(report, by) for by in BREAKDOWNS},
            "protocol": context.protocol_text,
            "protocol_settings": context.protocol.to_dict(),
            "potential": context.potential,
            "second_potential": second
            and {"potential": plain(context.second_potential), **second.to_dict()},
            "hull": context.hull,
            "reference": {
                "name": context.reference_name,
                "size": context.reference_size,
                "crystals_hash": context.crystals_hash,
                "store_hash": context.store_hash,
            },
            "run": {name: getattr(context, name) for name in _RUN},
            "calibration": context.calibration and context.calibration.to_dict(),
            "beside_real_crystals": report.beside_real_crystals,
            "rediscovery": context.rediscovery and context.rediscovery.to_dict(),
            "versions": context.versions,
            "machine": context.machine,
            "timings": context.seconds,
            "warnings": context.warnings,
            "unreadable_rows": [i for i, row in enumerate(report.results) if not row.readable],
        }
    )
    return content


def _breakdown(report: NoveltyReport, by: str) -> dict[str, Any]:
    """The groups of a breakdown; crystal systems also have the base rate of real crystals."""
    groups = {str(key): plain(group) for key, group in report.breakdown(by).items()}
    beside = report.beside_real_crystals
    if by == "crystal_system" and beside is not None:
        for system, group in groups.items():
            group["base_rate"] = beside.base_rates.get(system)
    return groups


def _headlines(report: NoveltyReport) -> dict[str, Any]:
    return {
        "novelty": report.novelty_interval,
        "novelty_bounds": report.novelty_bounds,
        "novel_yield": report.novel_yield_interval,
        "novel_yield_bounds": report.novel_yield_bounds,
        "eligible": report.n_eligible,
        **{name: getattr(report, name) for name in ("counts", "fractions", "graded", "quality")},
    }


def context_of(content: Mapping[str, Any]) -> RunContext:
    """The settings and versions behind the figures of a report or a baseline."""
    reference, run, potential = content["reference"], content["run"], content["potential"]
    # Reports of before there was one of these lack it.
    second, calibration = content.get("second_potential"), content.get("calibration")
    rediscovery = content.get("rediscovery")
    return RunContext(
        protocol=Protocol(**content["protocol_settings"]),
        reference_name=reference["name"],
        reference_size=reference["size"],
        crystals_hash=reference["crystals_hash"],
        store_hash=reference["store_hash"],
        potential=potential and PotentialInfo(**potential),
        second_potential=second and PotentialInfo(**second["potential"]),
        hull=content["hull"],
        **{name: run[name] for name in _RUN if name in run},
        versions=content["versions"],
        machine=content.get("machine", {}),
        calibration=calibration and Calibration.from_dict(calibration),
        rediscovery=rediscovery and Rediscovery.from_dict(rediscovery),
    )


# Writing


def save_report(
    report: NoveltyReport, folder: Path, rows: Iterable[CrystalResult] | None = None
) -> Path:
    """Write the files; create the folder if necessary.

    The crystals themselves are written if the results hold them.

    Parameters
    ----------
    rows : iterable of CrystalResult, optional
        Those of the report with everything behind them, where the report was made from rows
        without parents and crystals; they are read once, and few of them are held at a time.

    Raises
    ------
    InputError
        If the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".report-") as made:
            beside, content = Path(made), summary(report)
            names = _write_tables(beside, report.results if rows is None else rows, report)
            content["files"] = {
                name: {"schema_version": SCHEMA_VERSION, "sha256": _sha256_on_disk(beside / name)}
                for name in names
            }
            text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
            for name in names:
                (beside / name).replace(folder / name)
        write_atomically(folder / "report.json", text.encode())
        for name in set(_FILES_OF_CRYSTALS) - set(names):
            (folder / name).unlink(missing_ok=True)  # that of a report which was replaced
    except OSError as error:
        raise InputError(
            f"the report can't be written to {folder} ({error.strerror or error}); "
            "name another folder"
        ) from error
    return folder


def _write_tables(folder: Path, rows: Iterable[CrystalResult], report: NoveltyReport) -> list[str]:
    """Write the files of the rows, a few thousand rows at a time; returns their names."""
    from novelty_metric.report.crystals import extxyz

    left, first = iter(rows), 0
    writers: dict[str, pq.ParquetWriter] = {}
    with contextlib.ExitStack() as opened:
        # At least once, so that empty files are written too.
        while (some := list(itertools.islice(left, _ROWS_AT_ONCE))) or not writers:
            verdicts = verdicts_frame(some)
            parts: dict[str, pa.Table | str] = {
                "verdicts.parquet": _to_table(verdicts, _VERDICTS),
                "verdicts.csv": verdicts.to_csv(index=False, header=not first, lineterminator="\n"),
                "parents.parquet": _to_table(parents_frame(some), _PARENTS),
                "evidence.parquet": _evidence(some, first),
                _QUALITY_FILE: _quality(some, report.context.protocol.metastable),
            }
            structures = _structures(some, first)
            if len(structures) or _STRUCTURES_FILE in writers:
                parts |= {_STRUCTURES_FILE: structures, CRYSTALS_FILE: extxyz(some)}
            for name, part in parts.items():
                if isinstance(part, str):
                    with (folder / name).open("ab") as stream:
                        stream.write(part.encode())
                    continue
                if name not in writers:
                    version = {SCHEMA_KEY: str(SCHEMA_VERSION).encode()}
                    schema = part.schema.with_metadata({**(part.schema.metadata or {}), **version})
                    stream = opened.enter_context((folder / name).open("wb"))
                    writers[name] = opened.enter_context(
                        pq.ParquetWriter(stream, schema, compression="zstd")
                    )
                metadata = writers[name].schema.metadata
                writers[name].write_table(part.replace_schema_metadata(metadata))
            first += len(some)
    return list(parts)


def _sha256_on_disk(path: Path) -> str:
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _to_table(frame: pd.DataFrame, columns: Mapping[str, FileColumn]) -> pa.Table:
    # With pandas' own metadata, so that `pandas.read_parquet` gives the same types as `to_frame`.
    return pa.Table.from_pandas(frame, schema=_schema(columns), preserve_index=False)


# Reading


def load_report(folder: Path, *, structures: bool = False) -> NoveltyReport:
    """Read the files of `save_report`, with the crystals if `structures` is true.

    `InputError` if a file is missing, damaged, of another schema, or not of this report.
    """
    path = folder / "report.json"
    try:
        content = json.loads(_read(path))
        _check_version(path, content["schema_version"])
        hashes = {name: entry["sha256"] for name, entry in content["files"].items()}
        verdicts, parents, evidence, *kept_quality = (
            _table(folder / name, hashes).to_pylist()
            for name in ("verdicts.parquet", "parents.parquet", "evidence.parquet", _QUALITY_FILE)
            if name in hashes or name != _QUALITY_FILE  # reports of before there was this file
        )
        unreadable = set(content["unreadable_rows"])
        tried: dict[int, list[TriedParent]] = {}
        for shown, kept in zip(parents, evidence, strict=True):
            line = {**kept, **shown}
            for name in ("element_map", "supercell"):
                line[name] = json.loads(line[name])
            tried.setdefault(kept["row"], []).append(tried_parent_from(line))
        results = [
            _result(row, readable=i not in unreadable, parents=tuple(tried.get(i, ())))
            for i, row in enumerate(verdicts)
        ]
        results = [
            replace(result, **_kept_quality(row, result))
            for result, row in zip(results, *(kept_quality or [[None] * len(results)]), strict=True)
        ]
        context = replace(
            context_of(content),
            seconds=content["timings"],
            warnings=tuple(content["warnings"]),
        )
        report = NoveltyReport.from_results(results, context)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{folder} does not contain a report that can be read "
            f"({type(error).__name__}: {first_line(error)}); "
            "score again"
        ) from error
    return with_structures(report, folder) if structures else report


def _kept_quality(row: Mapping[str, Any] | None, result: CrystalResult) -> dict[str, Any]:
    """Fields of a result from its line of `quality.parquet`, for any version of the file.

    Earlier versions had no groups by plain matching, and took those of the duplicate test; before
    there was this file, a crystal was novel if it was no duplicate.
    """
    if row is None:
        novel = result.verdict != Verdict.DUPLICATE
        known = {"novel_by_matching": novel, "matching_group": result.duplicate_group}
        return {} if result.smact_valid is None else known
    decomposition = row.get("decomposition")
    return {
        "matching_group": result.duplicate_group,
        **{name: row[name] for name in _KEPT_QUALITY if name in row},
        "decomposition": decomposition and json.loads(decomposition),
    }


def read_structures(folder: Path, row: int) -> CrystalRecords:
    """The crystals of one sample, see `read_all_structures`; empty if none were saved."""
    return read_all_structures(folder, [row]).get(row, CrystalRecords())


def with_structures(report: NoveltyReport, folder: Path) -> NoveltyReport:
    """The report with the crystals of all samples, read from its folder.

    `InputError` if the file is damaged, or not of this report.
    """
    kept = read_all_structures(folder)
    rows = (replace(result, structures=kept.get(i)) for i, result in enumerate(report.results))
    return replace(report, results=tuple(rows))


def read_all_structures(
    folder: Path, rows: Iterable[int] | None = None
) -> dict[int, CrystalRecords]:
    """Crystals by position of the sample; only those of `rows` if they are given.

    `InputError` if the file is damaged, or not of this report.
    """
    content = json.loads(_read(folder / "report.json"))
    path = folder / _STRUCTURES_FILE
    if path.name not in content["files"]:
        return {}
    table = _table(path, {path.name: content["files"][path.name]["sha256"]})
    if rows is not None:
        table = table.filter(pc.is_in(table["row"], value_set=pa.array(list(rows), pa.int64())))
    found: dict[int, dict[str, CrystalRecord]] = {}
    try:
        for line in table.to_pylist():
            found.setdefault(line["row"], {})[line["role"]] = record_from(line)
        return {number: CrystalRecords(**records) for number, records in found.items()}
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}); score again") from error


def verdict_schema() -> pa.Schema:
    """Columns and types of ``verdicts.parquet``."""
    return _schema(_VERDICTS)


def rows_of_table(table: pa.Table, *, unreadable: frozenset[int]) -> tuple[CrystalResult, ...]:
    """The rows of a ``verdicts.parquet`` without parents; unreadable samples are included.

    `KeyError` or `TypeError` or `ValueError` if it holds what no report does.
    """
    return tuple(
        _result(row, readable=i not in unreadable, parents=())
        for i, row in enumerate(table.to_pylist())
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} can't be read ({error.strerror or error}); name the folder of a finished run"
        ) from error


def _table(path: Path, hashes: Mapping[str, str]) -> pa.Table:
    data = _read(path)
    if hashes and hashlib.sha256(data).hexdigest() != hashes[path.name]:
        raise InputError(
            f"{path} was changed, or is of another run than the report.json beside it; score again"
        )
    try:
        # A process that ends at once, as after an error, must not meet a reading thread.
        table = pq.read_table(io.BytesIO(data), use_threads=False, pre_buffer=False)
    except pa.ArrowException as error:
        raise InputError(f"{path} is not a Parquet file, or is damaged ({error})") from error
    _check_version(path, int((table.schema.metadata or {}).get(SCHEMA_KEY, b"0")))
    return table


def _check_version(path: Path, version: object) -> None:
    if version not in (SCHEMA_VERSION, *OLDER_VERSIONS):
        raise InputError(
            f"{path} has schema version {version}, this novelty-metric reads {SCHEMA_VERSION} and "
            "older ones; score again, or install the version that wrote it"
        )


def _result(
    row: Mapping[str, Any], *, readable: bool, parents: tuple[TriedParent, ...]
) -> CrystalResult:
    values: dict[str, Any] = dict.fromkeys(LATER_COLUMNS)
    values |= {name: row[name] for name in _VERDICTS if name in row or name not in values}
    if values["element_map"] is not None:
        values["element_map"] = json.loads(values["element_map"])
    return CrystalResult(**with_enums(values), readable=readable, parents=parents)
