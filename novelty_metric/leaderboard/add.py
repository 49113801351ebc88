"""Makes a submission of a finished run: derives what it can, and asks for the rest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from glob import has_magic
from pathlib import Path
from typing import Any

from novelty_metric.baselines import NULL_MODELS
from novelty_metric.errors import InputError
from novelty_metric.leaderboard.calibrations import larger_calibration
from novelty_metric.leaderboard.crystals import crystal_file
from novelty_metric.leaderboard.null_models import about_null_model
from novelty_metric.leaderboard.submission import (
    FOLDER,
    MAX_BYTES,
    SCHEMA_VERSION,
    SLUG,
    Counts,
    Samples,
    Submission,
    dump,
    load_yaml,
    parse,
    plain,
)
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.screening.composition import DEFAULT_SET
from novelty_metric.support.folders import write_atomically, writing
from novelty_metric.support.validation import validated

ASKED = {
    "name": "name of the files, in lower case (default: the model's setting)",
    "model": "the model's name as its authors write it",
    "version": "version of the model, such as that of the checkpoint",
    "authors": "authors of the model, separated by ;",
    "paper": "address of the paper",
    "repository": "address of the code",
    "licence": "licence of the samples",
    "training_set": "training set of the model (default: the known training set of model=)",
    "reference": "displayed name of the reference (default: its own name)",
    "null_model": "a null model of `novelty-metric baseline`, with its seed=; it is ranked like "
    "a model",
    "demonstration": "true: the reference is not the training set; the model is shown but never "
    "ranked",
    "selected": "how the crystals were selected before publication, in one sentence; they are "
    "shown in a separate section and never ranked",
    "samples": "the file of the samples, if it was moved after the run",
    "url": "public address of the file",
    "generated": "number of crystals that the model generated, before any filter",
    "seed": "seed of the generation",
    "crystals": "false: show no crystals and parents on the page, for example because of a licence",
    "relaxed_with": "potential or method with which the samples were relaxed before they were "
    "written",
    "notes": "important information for readers",
}
"""Values that a run does not contain, with their meaning."""


@dataclass(frozen=True)
class Added:
    """The files of a new submission, and the missing values."""

    name: str
    files: tuple[Path, ...]
    unknown: tuple[str, ...]


def read_about(path: Path) -> dict[str, Any]:
    """Answers of a YAML file to the questions in `ASKED`.

    `InputError` if it can't be read, or has other keys.
    """
    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_BYTES + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"about={path} can't be read ({error})") from error
    try:
        content = load_yaml(text)
    except InputError as error:
        raise InputError(f"about={path}: {error}") from error
    if not isinstance(content, Mapping):
        raise InputError(f"about={path} must contain keys with values: {', '.join(ASKED)}")
    for key in content:
        if key not in ASKED:
            raise InputError(f"about={path}: no key {key!r}; known: {', '.join(ASKED)}")
    return dict(content)


def add(
    run: Path,
    board: Path,
    about: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> Added:
    """Write the submission of a run, the folder that ``novelty-metric score ... out=DIR`` wrote.

    `about` holds answers to what is `ASKED`; a submission of that name is only replaced with
    `overwrite`. `InputError` if the run or an answer can't be used, or the submission is there
    already.
    """
    report, config = NoveltyReport.load(run), _config(run)
    about = _about(run, report, about)
    name = str(about.get("name") or config["model"]["name"])
    if not re.fullmatch(SLUG, name):
        raise InputError(f"name={name}: names are small letters, digits, - and _")
    place = board / FOLDER / f"{name}.yaml"
    if place.exists() and not overwrite:
        raise InputError(f"{place} already exists; choose another name, or add overwrite=true")
    answers = _answers(about, config["model"])
    files = {f"verdicts/{name}.parquet": (run / "verdicts.parquet").read_bytes()}
    shown = None if answers["crystals"] is False else crystal_file(report, run)
    if shown is not None:
        files[f"crystals/{name}.json"] = shown
    content = _content(name, report, config, answers)
    for key, file in zip(("verdicts", "crystals"), files, strict=False):
        sha256 = hashlib.sha256(files[file]).hexdigest()
        content[key] = {**(content[key] or {}), "file": file, "sha256": sha256}
    submission = validated(Submission, content)
    # Counted again with the number generated, which only the answers tell.
    counted = Counts.follow(submission.report(report.results))
    text = dump(replace(submission, counts=counted))
    parse(text)
    files = {**larger_calibration(board, report.context), **files}
    files[f"{FOLDER}/{name}.yaml"] = text.encode()
    with writing(board):
        for file, content_of_file in files.items():
            (board / file).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(board / file, content_of_file)
    asked = ("version", "licence", "url", "generated", "seed")
    unknown = tuple(key for key in asked if answers[key] is None)
    return Added(name, tuple(board / file for file in files), unknown)


def _about(run: Path, report: NoveltyReport, about: Mapping[str, Any]) -> Mapping[str, Any]:
    """The answers, with those of a null model; the settings of the run must be the board's."""
    if report.context.smact_oxidation_states != DEFAULT_SET:
        raise InputError(
            f"{run} was scored with smact_oxidation_states="
            f"{report.context.smact_oxidation_states}; a leaderboard takes SMACT's default"
        )
    null_model = about.get("null_model")
    if null_model is not None:
        about = {
            "generated": len(report.results),
            "training_set": about.get("reference") or report.context.reference_name,
            **about_null_model(str(null_model), about),
        }
    if report.context.leave_one_out != (
        null_model is not None and NULL_MODELS[str(null_model)].leave_one_out
    ):
        raise InputError(
            f"{run}: only the null model held_out can have leave_one_out=true; score again, or "
            "add null_model=held_out"
        )
    return about


def _answers(about: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """An answer or None for each question, with what the model's config knows."""
    answers = {key: about.get(key) for key in ASKED}
    answers["model"] = answers["model"] or model["title"] or model["name"]
    for key in ("paper", "repository"):
        if key not in about:
            answers[key] = model.get(key)
    if isinstance(answers["authors"], str):
        answers["authors"] = [one.strip() for one in answers["authors"].split(";")]
    if not answers["authors"]:
        raise InputError("who made the model? add authors=NAME, separated by ;")
    return answers


def _content(
    name: str, report: NoveltyReport, config: Mapping[str, Any], answers: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of the submission, without the hashes of its files."""
    context, demonstration = report.context, bool(answers["demonstration"])
    named = answers["reference"] or context.reference_name
    return {
        "schema_version": SCHEMA_VERSION,
        **{key: answers[key] for key in ("model", "version", "authors", "paper", "repository")},
        **{key: answers[key] for key in ("licence", "selected", "null_model", "notes")},
        "demonstration": demonstration,
        "training_set": {
            "name": _training_set(answers, config["model"]["name"], named, context.reference_name),
            "crystals_hash": None if demonstration else context.crystals_hash,
        },
        "samples": _samples(config, answers, report),
        "scored": {
            "package": context.versions.get("novelty-metric", "unknown"),
            "reference": {
                "name": named,
                "size": context.reference_size,
                "crystals_hash": context.crystals_hash,
                "store_hash": context.store_hash,
            },
            "protocol": context.protocol.to_dict(),
            "potential": plain(context.potential),
            "hull": {
                key: named if key == "reference" and value == context.reference_name else value
                for key, value in context.hull.items()
            },
            **{key: getattr(context, key) for key in ("scope", "exhaustive", "relax_samples")},
            "max_sites": config["max_sites"],
            "versions": dict(context.versions),
        },
        "verdicts": {"unreadable": [i for i, row in enumerate(report.results) if not row.readable]},
        "crystals": None,
        "counts": plain(Counts.follow(report)),
    }


def _training_set(answers: Mapping[str, Any], model: str, named: str, scored: str) -> str:
    """Name of the training set, for the config of a model and the two names of the reference.

    `named` is what the reference is to be called, and `scored` what the run calls it.
    """
    from novelty_metric.settings.compose import choices, compose_config
    from novelty_metric.settings.score_settings import GENERIC

    given, known = answers["training_set"], None
    if model != GENERIC and model in choices("model"):
        # As packaged: a run may have been told otherwise.
        known = compose_config([f"model={model}"]).model.reference
    if answers["demonstration"]:
        return str(given or known or "unknown")
    shown = "demonstration=true shows it without a rank"
    if given is None and known is None:
        raise InputError(
            f"what was the model trained on? if {named}, which was scored against, add "
            f"training_set={named}; else score it against that ({shown})"
        )
    if given is None and known != scored:
        raise InputError(
            f"model={model} is trained on {known}, but {named} was scored against: score it "
            f"against {known}; if yours was trained on {named}, add training_set={named} ({shown})"
        )
    if given is not None and given not in (named, scored):
        raise InputError(
            f"training_set={given}, but {named} was scored against: score it against {given}; if "
            f"{named} is that by another name, add reference={given} ({shown})"
        )
    return named


def _config(run: Path) -> Mapping[str, Any]:
    from novelty_metric.settings.run_folder import read_config

    content = read_config(run)
    if content is None:
        raise InputError(
            f"{run} does not say what was scored (config.json can't be read); score again with out="
        )
    if content.get("samples") is None:
        raise InputError(
            f"{run} is a run on the packaged sample, which is not the output of a model"
        )
    if content.get("allow_pickle"):
        raise InputError(
            f"{run} was read with allow_pickle=true; others can check only data: "
            "save the samples as arrays, extxyz or CIF"
        )
    return content


def _samples(
    config: Mapping[str, Any], answers: Mapping[str, Any], report: NoveltyReport
) -> dict[str, Any]:
    """The pinned data of the samples: the unchanged file that was scored, and how it was read."""
    from novelty_metric.leaderboard.recompute import file_sha256, reading_settings
    from novelty_metric.samples import read_samples
    from novelty_metric.settings.compose import choices
    from novelty_metric.settings.run_folder import SAMPLES_HASH, fingerprint
    from novelty_metric.settings.score_settings import MODEL_MARK, sample_paths
    from novelty_metric.support.folders import user_path

    reader = config["model"]["name"]
    if reader not in choices("model"):
        raise InputError(
            f"model={reader} is a config of your own, which others do not have; write the samples "
            "in a general format (extxyz, CIF, CSV) and score them with model=generic"
        )
    if answers["samples"]:
        path = user_path(str(answers["samples"]))
    else:
        paths = sample_paths(config["samples"], reader)
        if len(paths) > 1:
            raise InputError(
                f"{len(paths)} files of samples were scored, but a submission has one; pack them "
                "in an archive, and score it"
            )
        path = paths[0]
    if not path.is_file():
        raise InputError(f"samples={path}: no such file; add samples=FILE (a folder: pack it)")
    if fingerprint([path]) != config.get(SAMPLES_HASH):
        raise InputError(f"samples={path} is not the file that was scored, or was changed since")
    given = str(config["samples"])
    if path.name != Path(given).name and MODEL_MARK not in given and not has_magic(given):
        raise InputError(
            f"samples={path} was called {Path(given).name} when it was scored, and ids can "
            "contain this name; rename it"
        )
    selection = {"rule": "all", "count": None, "seed": None}
    in_file = len(report.results)
    if config["limit"] is not None:
        rule = "first" if config.get("seed") is None else "drawn"
        selection = {"rule": rule, "count": config["limit"], "seed": config.get("seed")}
        settings = reading_settings(reader, config["format"], config["column"])
        in_file = sum(1 for _ in read_samples(path, **settings))
    values = {
        "file": path.name,
        "sha256": file_sha256(path),
        "bytes": path.stat().st_size,
        "reader": reader,
        "in_file": in_file,
        "selection": selection,
        **{key: config[key] for key in ("format", "column")},
        **{key: answers[key] for key in ("url", "generated", "seed", "relaxed_with")},
    }
    return dict(plain(validated(Samples, values, inside="samples")))
