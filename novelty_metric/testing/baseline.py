"""Baselines: the last accepted result of a check, as JSON for readers and for git.

A baseline holds no time, date or machine, so that it changes only when the result does. Its
crystals, one a line, are enough to make the report again; the counts above them are for the reader,
and must agree.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from novelty_metric.errors import InputError
from novelty_metric.report.files import context_of
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.report.rows import with_enums
from novelty_metric.support.folders import write_atomically, writing
from novelty_metric.support.statistics import Interval
from novelty_metric.verdict import CrystalResult

SCHEMA_VERSION = 1

_CRYSTAL = (
    "id",
    "formula",
    "verdict",
    "eligible",
    "smact_valid",
    "converged",
    "e_above_hull",
    "energy_suspect",
    "route",
    "parent_id",
    "cost",
    "match_rms",
    "confirm_rms",
    "n_parents",
    "duplicate_group",
    "readable",
    "error",
)
_DIGITS = {"e_above_hull": 3, "cost": 3, "match_rms": 3, "confirm_rms": 3}
_LONGEST_NAME = 120


def to_json(report: NoveltyReport, model: str) -> dict[str, Any]:
    """The baseline made from a report."""
    context = report.context
    return {
        "schema_version": SCHEMA_VERSION,
        "model": model,
        "generated": report.n_generated,
        "eligible": report.n_eligible,
        "of the eligible": {
            verdict: {"count": count, **_share(report.fractions.get(verdict))}
            for verdict, count in report.counts.items()
        },
        "novel_yield": _share(report.novel_yield_interval),
        "not eligible": {reason: count for reason, count in report.left_out.items() if count},
        "reference": {
            "name": context.reference_name,
            "size": context.reference_size,
            "crystals_hash": context.crystals_hash,
            "store_hash": context.store_hash,
        },
        "protocol": context.protocol_text,
        "protocol_settings": context.protocol.to_dict(),
        "potential": None if context.potential is None else asdict(context.potential),
        "hull": dict(context.hull),
        "run": {
            "scope": context.scope,
            "exhaustive": context.exhaustive,
            "relax_samples": context.relax_samples,
            "smact_oxidation_states": context.smact_oxidation_states,
            "n_generated": context.n_generated,
        },
        "versions": dict(context.versions),
        "crystals": [_crystal(result) for result in report.results],
    }


def from_json(content: Mapping[str, Any]) -> NoveltyReport:
    """The part of the original report that a baseline stores.

    Raises
    ------
    ValueError, KeyError, TypeError
        If the content is not that of a baseline, or its counts and its crystals disagree.
    """
    version = content["schema_version"]
    if version != SCHEMA_VERSION:
        raise ValueError(f"its schema version is {version}, but {SCHEMA_VERSION} is expected")
    report = NoveltyReport.from_results(
        [_result(row) for row in content["crystals"]], context_of(content)
    )
    for verdict, count in report.counts.items():
        written = content["of the eligible"][verdict]["count"]
        if written != count:
            raise ValueError(f"it counts {written} {verdict}, but its crystals give {count}")
    return report


def _share(share: Interval | None) -> dict[str, float]:
    if share is None:
        return {}
    values = {"share": share.value, "low": share.low, "high": share.high}
    return {name: round(value, 4) for name, value in values.items()}


def _crystal(result: CrystalResult) -> dict[str, Any]:
    """The data of a crystal, without empty and redundant values."""
    row: dict[str, Any] = {}
    for name in _CRYSTAL:
        value = getattr(result, name)
        if (
            value is None
            or (name == "readable" and value)
            or (name == "energy_suspect" and not value)
        ):
            continue
        row[name] = round(value, _DIGITS[name]) if name in _DIGITS else value
    return row


def _result(row: Mapping[str, Any]) -> CrystalResult:
    values = with_enums(row)
    unknown = values.keys() - {field.name for field in fields(CrystalResult)}
    if unknown:
        raise ValueError(f"a crystal has the unknown key {sorted(unknown)[0]!r}")
    return CrystalResult(**values)


# Files


def baseline_name(nodeid: str) -> str:
    """Name of a test's baseline, usable as a file name: ``tests.test_models.test_diffcsp``."""
    path, _, rest = nodeid.partition("::")
    words = [*Path(path).with_suffix("").parts, *rest.split("::")]
    plain = ".".join(word for word in words if word)
    name = re.sub(r"[^\w.+-]+", "-", plain, flags=re.ASCII).strip("-.")
    if name != plain or len(name) > _LONGEST_NAME:
        # Two names must not become one.
        digest = hashlib.sha256(nodeid.encode(errors="surrogatepass")).hexdigest()[:6]
        name = f"{name[:_LONGEST_NAME]}-{digest}"
    return name


class BaselineStore:
    """The place of the baselines.

    Parameters
    ----------
    path : Path
        A folder with a file per baseline; or a file ``*.json`` that holds them all.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._one_file = path.suffix == ".json"

    def file(self, name: str) -> Path:
        """The file of the baseline with this name."""
        return self.path if self._one_file else self.path / f"{name}.json"

    def where(self, name: str) -> str:
        """The place of a baseline, as text."""
        return f"{self.path} ({name})" if self._one_file else str(self.file(name))

    def read(self, name: str) -> NoveltyReport | None:
        """The report of a baseline; None if there is none.

        Raises
        ------
        InputError
            If the file can't be read or is not a baseline.
        """
        path = self.file(name)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if self._one_file:
                content = content["baselines"].get(name)
            return None if content is None else from_json(content)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(f"{path} can't be read ({error.strerror or error})") from error
        except (
            ValueError,
            KeyError,
            TypeError,
            RecursionError,
            AttributeError,
            InputError,
        ) as error:
            message = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
            raise InputError(
                f"{path} is not a readable baseline ({message}); restore it, or write a new one "
                "with --novelty-update"
            ) from error

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Store a baseline; replaces an existing one.

        Raises
        ------
        InputError
            If the file can't be written, or is not one of ours.
        """
        path = self.file(name)
        with writing(path, path.parent):
            if self._one_file:
                baselines = {**self._all(), name: content}
                content = {
                    "schema_version": SCHEMA_VERSION,
                    "baselines": dict(sorted(baselines.items())),
                }
            write_atomically(path, dumps(content).encode())

    def _all(self) -> dict[str, Any]:
        if not self.path.exists():
            return {}
        try:
            return dict(json.loads(self.path.read_text(encoding="utf-8"))["baselines"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"{self.path} contains no baselines; name another file") from error


_LISTED = re.compile(r'^( +)\{\n((?:\1  ".*\n)+)\1\}', re.MULTILINE)
"""A mapping of plain values in a list, as JSON of several lines."""


def dumps(content: Mapping[str, Any]) -> str:
    """JSON for readers: indented, but with one line per crystal."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    one_line = _LISTED.sub(
        lambda found: f"{found[1]}{{{' '.join(map(str.strip, found[2].splitlines()))}}}", text
    )
    return one_line + "\n"
