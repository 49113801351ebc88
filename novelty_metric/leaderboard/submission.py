"""A submission: the model, the scored samples and settings, and the hashes that pin them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import MaxLen, MinLen
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import to_jsonable_python as plain

from novelty_metric.errors import InputError
from novelty_metric.protocol import Protocol, Scope
from novelty_metric.report.context import RunContext, protocol_changes
from novelty_metric.report.exclusion import ExclusionReason
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.support.validation import (
    MOST,
    STRICT,
    Count,
    Flag,
    Keys,
    MustBe,
    Number,
    Text,
    Whole,
    adapter,
    validated,
)
from novelty_metric.support.yaml_text import load_yaml_once
from novelty_metric.verdict import CrystalResult, Verdict

if TYPE_CHECKING:
    from novelty_metric.reference.calibration import Calibration

SCHEMA_VERSION = 1
MAX_BYTES = 128 * 1024
"""Maximum size of the YAML."""

MAX_DEPTH = 8
MAX_ROWS = 100_000
SLUG = r"[a-z0-9][a-z0-9_-]{0,40}"
"""Pattern of a submission's name, which is the name of its files and its place in the page."""

FOLDER = "submissions"
SCHEMA_FILE = "submission.schema.json"

Sha256 = Annotated[str, Text(64, r"[0-9a-f]{64}", "the 64 hexadecimal digits of a SHA-256")]
Url = Annotated[str, Text(300, r"https?://[^\s\"'<>]+", "https://…")]
Line = Annotated[str, Text(200, r"[^\n]+", "one line")]
Paragraph = Annotated[str, Text(600, r"[^\n]+", "one line")]
Word = Annotated[str, Text(61, r"[A-Za-z][A-Za-z0-9_.-]{0,60}", "a_word")]
Plain = Annotated[
    Flag
    | Annotated[int, Whole(-MOST)]
    | Number
    | Annotated[str, Text(600, r"[^\n]+", "one line")]
    | Annotated[tuple[Line, ...], MaxLen(120)],
    MustBe("a number, true or false, a line of text, or a list of lines"),
]
_TYPES: dict[type, Any] = {
    str: Annotated[str, Text(300)],
    int: Annotated[int, Whole()],
    float: Number,
}
_PROTOCOL = Keys({item.name: _TYPES[type(item.default)] for item in fields(Protocol)})
_PER_VERDICT = Keys({verdict.value: Annotated[int, Whole()] for verdict in Verdict})
_PER_REASON = Keys({reason.value: Annotated[int, Whole()] for reason in ExclusionReason})


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """The training set of the model, and the hash of its prepared crystals, if that is known."""

    __pydantic_config__ = STRICT
    name: Line
    crystals_hash: Sha256 | None


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The selection of the scored crystals: all, the first, or a random draw with a seed.

    ``drawn`` is the draw of `novelty_metric.samples.draw`, ``random`` that of before: Python's
    ``random.sample``, of which a larger draw need not hold a smaller one.
    """

    __pydantic_config__ = STRICT
    rule: Literal["all", "first", "drawn", "random"]
    count: Count | None
    seed: Annotated[int, Whole()] | None


@dataclass(frozen=True, kw_only=True)
class Samples:
    """The file that the model wrote."""

    __pydantic_config__ = STRICT
    file: Annotated[
        str, Text(200, r"[^./\\\x00-\x1f][^/\\\x00-\x1f]*", "a file name without a folder")
    ]
    """Its name, without a folder."""
    url: Url | None
    """Where anyone can get it."""
    sha256: Sha256
    bytes: Count
    """Of the file."""
    reader: Annotated[str, Text(60, r"[a-z0-9_]+", "generic")]
    format: Annotated[str, Text(40, r"[a-z0-9_]+", "extxyz")] | None
    column: Line | None
    """The settings ``model=``, ``format=`` and ``column=`` that read it."""
    in_file: Count
    """Crystals in it."""
    generated: Count | None
    """Crystals that the model made for it, before anything was filtered out."""
    seed: Annotated[int, Whole()] | None
    """Of the generation."""
    relaxed_with: Line | None
    """What the crystals were relaxed with before they were written; None: they were not."""
    selection: Selection


@dataclass(frozen=True, kw_only=True)
class Potential:
    """The potential, and the hash of its weights."""

    __pydantic_config__ = STRICT
    name: Line
    version: Line
    weights_hash: Annotated[str, Text(128, r"[0-9a-zA-Z_.+:-]+", "a hash")]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The reference used for scoring."""

    __pydantic_config__ = STRICT
    name: Line
    size: Count
    crystals_hash: Sha256
    store_hash: Sha256


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The settings that decide a verdict."""

    __pydantic_config__ = STRICT
    package: Annotated[str, Text(40, r"[0-9A-Za-z.+!-]+", "0.1.0")]
    reference: Reference
    protocol: Annotated[Mapping[str, Any], _PROTOCOL]
    potential: Potential | None
    hull: Annotated[dict[Word, Plain], MaxLen(40)]
    scope: Scope
    exhaustive: Flag
    relax_samples: Flag
    max_sites: Count | None
    versions: Annotated[dict[Word, Line], MaxLen(40)]


@dataclass(frozen=True, kw_only=True)
class VerdictFile:
    """The table of verdicts, one row per crystal, and the unreadable samples."""

    __pydantic_config__ = STRICT
    file: Annotated[str, Text(80, rf"verdicts/{SLUG}\.parquet", "verdicts/NAME.parquet")]
    sha256: Sha256
    unreadable: Annotated[tuple[Annotated[int, Whole(0, MAX_ROWS)], ...], MaxLen(MAX_ROWS)]


@dataclass(frozen=True, kw_only=True)
class CrystalsFile:
    """Some unmatched crystals beside their parents, see `novelty_metric.leaderboard.crystals`."""

    __pydantic_config__ = STRICT
    file: Annotated[str, Text(80, rf"crystals/{SLUG}\.json", "crystals/NAME.json")]
    sha256: Sha256


@dataclass(frozen=True, kw_only=True)
class PrototypeCounts:
    """Numbers of valid, converged crystals of known symmetry: all, new prototypes, metastable ones.

    As in `novelty_metric.report.quality.NewPrototypes`.
    """

    __pydantic_config__ = STRICT
    known: Annotated[int, Whole()]
    new: Annotated[int, Whole()]
    metastable: Annotated[int, Whole()] | None


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Counts of the table; ``leaderboard add`` writes them, and ``check`` compares them with it."""

    __pydantic_config__ = STRICT
    rows: Annotated[int, Whole(1, MAX_ROWS)]
    unreadable: Annotated[int, Whole()]
    eligible: Annotated[int, Whole()]
    verdicts: Annotated[Mapping[str, int], _PER_VERDICT]
    unique_unmatched: Annotated[int, Whole()]
    left_out: Annotated[Mapping[str, int], _PER_REASON]
    prototypes: PrototypeCounts | None
    """None if unknown, as in tables of verdicts older than this count."""

    @classmethod
    def follow(cls, report: NoveltyReport) -> Counts:
        """The counts of a report."""
        found = report.new_prototypes
        return cls(
            rows=len(report.results),
            unreadable=report.n_unreadable,
            eligible=report.n_eligible,
            verdicts=dict(report.counts),
            unique_unmatched=report.n_unique_unmatched,
            left_out=dict(report.left_out),
            prototypes=PrototypeCounts(
                known=found.known, new=found.new, metastable=found.metastable
            )
            if found.known
            else None,
        )


@dataclass(frozen=True, kw_only=True)
class Submission:
    """One model of the leaderboard; ``submissions/NAME.yaml``."""

    __pydantic_config__ = STRICT
    schema_version: Literal[1]
    model: Annotated[str, Text(80, r"[^\n]+", "the model's name")]
    version: Line | None
    authors: Annotated[tuple[Line, ...], MinLen(1), MaxLen(50)]
    paper: Url | None
    repository: Url | None
    licence: Line | None
    demonstration: Flag
    selected: Paragraph | None
    """Description of the selection before publication, in one sentence. Such submissions are shown
    in a separate section and never ranked. None: no selection.
    """
    null_model: Word | None
    training_set: TrainingSet
    samples: Samples
    scored: Scored
    verdicts: VerdictFile
    crystals: CrystalsFile | None
    counts: Counts
    notes: Annotated[str, Text(4000)] | None

    @property
    def n_generated(self) -> int | None:
        """Number of generated crystals that the rows represent; None if unknown.

        A draw of a file that holds everything the model made is a draw of the model. Of a filtered
        file only the whole stands for what was made.
        """
        samples = self.samples
        if samples.generated is None:
            return None
        if samples.generated == samples.in_file:
            return self.counts.rows
        return samples.generated if samples.selection.rule == "all" else None

    @property
    def trained_on_reference(self) -> bool:
        """True if the model was scored against its own training set."""
        return self.training_set.crystals_hash == self.scored.reference.crystals_hash

    @property
    def leave_one_out(self) -> bool:
        """True if the samples are crystals of the reference, each scored against the others."""
        from novelty_metric.baselines import NULL_MODELS

        return self.null_model is not None and NULL_MODELS[self.null_model].leave_one_out

    @property
    def context(self) -> RunContext:
        """The description of the run for its report."""
        from novelty_metric.relaxation.base import PotentialInfo

        scored, generated = self.scored, self.n_generated
        potential = scored.potential
        return RunContext(
            protocol=Protocol(**scored.protocol),
            reference_name=scored.reference.name,
            reference_size=scored.reference.size,
            crystals_hash=scored.reference.crystals_hash,
            store_hash=scored.reference.store_hash,
            potential=None if potential is None else PotentialInfo(**asdict(potential)),
            hull=scored.hull,
            scope=scored.scope,
            exhaustive=scored.exhaustive,
            relax_samples=scored.relax_samples,
            leave_one_out=self.leave_one_out,
            n_generated=generated if generated != self.counts.rows else None,
            versions=scored.versions,
        )

    def report(
        self, rows: Sequence[CrystalResult], calibration: Calibration | None = None
    ) -> NoveltyReport:
        """The report on the rows of the table of verdicts, with a calibration if there is one.

        `InputError` if the file was to hold more crystals than were made.
        """
        try:
            context = replace(self.context, calibration=calibration)
            return NoveltyReport.from_results(rows, context)
        except ValueError as error:
            raise InputError(f"samples.generated: {error}") from error


def parse(text: str) -> Submission:
    """A submission from the text of its YAML.

    Raises
    ------
    InputError
        In one line, for the first thing that is wrong.
    """
    submission = validated(Submission, load_yaml(text))
    _agree(submission)
    return submission


def load_yaml(text: str) -> Any:
    """Plain YAML: no tags, no anchors, no repeated keys, limited depth.

    `InputError` if it is anything else, or more than `MAX_BYTES`.
    """
    import yaml

    if len(text.encode()) > MAX_BYTES:
        raise InputError(f"it is larger than {MAX_BYTES // 1024} KiB; remove unknown content")
    depth = 0
    try:
        # Before anything is built: a few anchors can stand for gigabytes.
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            line = event.start_mark.line + 1
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise InputError(f"line {line} has an anchor or alias; write values out")
            if getattr(event, "tag", None):
                raise InputError(f"line {line} has a tag; write a plain value")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise InputError(f"line {line} is too deeply nested")
        return load_yaml_once(text)
    except yaml.YAMLError as error:
        raise InputError(f"it is not YAML: {' '.join(str(error).split())[:200]}") from error
    except (ValueError, OverflowError) as error:  # a date or a number that can be none
        raise InputError(f"a value can't be read ({error}); put it in quotes") from error


def _agree(submission: Submission) -> None:
    """Check that the parts agree with each other."""
    protocol = Protocol(**submission.scored.protocol)
    base, changes = protocol_changes(protocol)
    name = f"{base} (modified: {changes})" if changes else base
    if protocol.name != name:
        raise InputError(
            f"scored.protocol.name is {protocol.name!r}, but its settings are those of {name!r}"
        )
    samples, selection = submission.samples, submission.samples.selection
    if (selection.count is None) != (selection.rule == "all"):
        raise InputError("samples.selection.count is only for the rules first, drawn and random")
    if (selection.seed is None) != (selection.rule not in ("drawn", "random")):
        raise InputError("samples.selection.seed is only for the rules drawn and random")
    if samples.generated is not None and samples.generated < samples.in_file:
        raise InputError(
            f"samples.generated is {samples.generated}, less than the {samples.in_file} in the file"
        )
    expected = samples.in_file
    if selection.count is not None:
        expected = min(selection.count, samples.in_file)
    if submission.counts.rows != expected:
        raise InputError(
            f"counts.rows is {submission.counts.rows}, but samples.selection gives {expected}"
        )
    hull, reference = submission.scored.hull, submission.scored.reference
    if hull.get("name") == "reference" and hull.get("crystals_hash") != reference.crystals_hash:
        raise InputError(
            "scored.hull.crystals_hash must be that of scored.reference, from which the hull is "
            "made"
        )
    _null_model_agrees(submission)
    trained, demonstration = submission.trained_on_reference, submission.demonstration
    if not trained and not demonstration:
        raise InputError(
            f"training_set is {submission.training_set.name}, but {reference.name} was scored "
            "against (the crystals' hashes differ): score against what the model was trained on"
        )
    if trained and demonstration:
        raise InputError("demonstration: true, but the model was scored against its training set")


def _null_model_agrees(submission: Submission) -> None:
    from novelty_metric.baselines import NULL_MODELS

    name, samples = submission.null_model, submission.samples
    if name is None:
        return
    if name not in NULL_MODELS:
        raise InputError(f"null_model is {name!r}; known: {', '.join(NULL_MODELS)}")
    if submission.demonstration or submission.selected is not None:
        raise InputError("null_model is ranked; it can't be a demonstration or selected")
    if samples.seed is None or samples.generated != samples.in_file:
        raise InputError(
            "a null model needs samples.seed, and samples.generated as large as samples.in_file"
        )


class _WithoutTitles(GenerateJsonSchema):
    """Remove titles that only repeat the name of a key."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schema() -> dict[str, Any]:
    """The conditions of `parse` on keys and values, as JSON Schema."""
    found = adapter(Submission).json_schema(schema_generator=_WithoutTitles)
    for part in (found, *found["$defs"].values()):
        part.pop("description", None)  # older versions of pydantic have none
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A submission to the leaderboard of novelty-metric",
        **found,
    }


def json_schema_text() -> str:
    """The content of the published file."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


def dump(submission: Submission) -> str:
    """The YAML that `parse` reads back."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    text: str = yaml.dump(
        plain(submission), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100
    )
    return text
