"""The output folder of a run, and the checks that keep different runs apart."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from novelty_metric.errors import InputError
from novelty_metric.relaxation.potentials import published_model
from novelty_metric.samples.draw import Draw
from novelty_metric.support.folders import user_path, writing

CONFIG_FILE = "config.json"
REPORT_FILE = "report.json"
SAMPLES_HASH = "samples_sha256"
NO_MATTER = (
    "out",
    "overwrite",
    "workers",
    "device",
    "cache",
    "logger",
    "allow_pickle",
    "samples",
    "executor",
    "part",
    "progress",
    "detail",
    "rediscover",
)
"""Settings that do not change results; samples are compared by content."""
_NO_MATTER_INSIDE = ("model.formats", "relaxer.device", "relaxer.allow_pickle")
"""Settings of a group that do not change results."""
_PATHS = ("samples", "reference.path", "hull.file", "cache", "relaxer.model", "rediscover")
"""Settings that can be paths."""
_RELATIVE = "relative_paths"
"""Key under which these paths are stored relative to the folder."""
_DRAW = ("limit", "seed")
"""Settings that select the samples; if they select more samples, existing rows are kept."""

ADDED = {"leave_one_out": False, "second_potential": None}
"""Settings that folders of older versions lack, with their values in those versions."""

_OTHER_VERBS = (
    *("summary.csv", "summary.md", "sensitivity.csv", "sensitivity.json"),
    *("controls.csv", "controls.json", "report.html", "explain", "parts", "job.json"),
)
"""Files that other verbs and multiruns write."""


def fingerprint(paths: Sequence[Path]) -> str | None:
    """SHA-256 of a file, or of a folder's file names and contents; None without a path.

    That of several is of their names and hashes, in order.

    Raises
    ------
    InputError
        If something in it can't be read.
    """
    if len(paths) < 2:
        return _fingerprint(paths[0]) if paths else None
    digest = hashlib.sha256()
    for path in paths:
        digest.update(os.fsencode(path.name) + b"\0" + _fingerprint(path).encode())
    return digest.hexdigest()


def _fingerprint(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        files = (file for file in path.rglob("*") if file.is_file())
        for file in sorted(files) if path.is_dir() else [path]:
            digest.update(os.fsencode(file.relative_to(path)) + b"\0")
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror or error})") from error
    return digest.hexdigest()


def prepare(folder: Path, config: Mapping[str, Any], *, overwrite: bool) -> list[str]:
    """Make the folder; refuse one with a report of other settings, or with other files.

    Parameters
    ----------
    config : mapping
        The composed settings, with `SAMPLES_HASH`.

    Returns
    -------
    list of str
        What to warn of: that the folder is full of something else.

    Raises
    ------
    InputError
        If the folder can't be written, or `overwrite` is false and it holds such a report, or a
        file of another hand in the place of one of a report.
    """
    with writing(f"out={folder}", folder, hint="; name another folder"):
        probe = folder / f".writable.{os.getpid()}.tmp"
        probe.touch()
        probe.unlink()
    if not (folder / REPORT_FILE).exists():
        return _others_files(folder, overwrite=overwrite)
    if overwrite:
        return []
    before = read_config(folder)
    if before is None:
        what = "whose settings are not known"
    else:
        changed = _differences(before, config)
        if not changed or is_larger(before, config):
            return []
        what = f"of other settings ({changed})"
        if _without_draw(before) == _without_draw(config):
            what = f"with {draw_of(before)}, and {draw_of(config)} does not contain those crystals"
            what += "; a limit can be raised, which keeps what is done, not lowered"
    raise InputError(
        f"out={folder} contains a report {what}; name another folder or add overwrite=true"
    )


def _others_files(folder: Path, *, overwrite: bool) -> list[str]:
    """Error message for a folder that is not empty and does not belong to a run."""
    from novelty_metric.report.files import REPORT_FILES
    from novelty_metric.runs.journal import JOURNAL_FILE

    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError:  # a folder that can be written, but not be listed
        return []
    config = _read_config(folder / CONFIG_FILE)
    if JOURNAL_FILE in names or (config is not None and SAMPLES_HASH in config):
        return []
    lost = [name for name in names if name in (CONFIG_FILE, *REPORT_FILES)]
    if lost and not overwrite:
        raise InputError(
            f"out={folder} contains {', '.join(lost)}, but no report that {_it(lost)} could be of; "
            "name another folder, or add overwrite=true"
        )
    others = [name for name in names if name not in lost and not _is_known(folder / name)]
    if not others:
        return []
    listed = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    return [f"out={folder} contains no run but {listed}; the report goes beside {_it(others)}"]


def _it(names: list[str]) -> str:
    return "it" if len(names) == 1 else "them"


def _is_known(path: Path) -> bool:
    """True for a file that a batch system or another verb may have put there."""
    if path.name.startswith(".") or path.suffix in (".out", ".err", ".log"):
        return True
    return path.name in _OTHER_VERBS or (path / REPORT_FILE).exists()


def draw_of(config: Mapping[str, Any]) -> Draw:
    """The samples that a run with these settings scores."""
    return Draw(config.get("limit"), config.get("seed"))


def is_larger(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """True if the second settings equal the first, but select more of the samples."""
    one, other = draw_of(before), draw_of(now)
    return one != other and other.holds(one) and _without_draw(before) == _without_draw(now)


def identity(config: Mapping[str, Any], store_hash: str) -> dict[str, Any]:
    """All settings on which the rows depend, except for the selection of samples.

    Parameters
    ----------
    config : mapping
        The composed settings, with `SAMPLES_HASH`.
    store_hash : str
        Of the reference, which is known by its content, wherever its file is.
    """
    from novelty_metric.support.versions import installed_versions

    settings = _without_draw(config)
    settings.pop("reference.path", None)
    versions = {f"version of {name}": own for name, own in installed_versions().items()}
    return {"reference": store_hash, **settings, **_model_file(config), **versions}


def _model_file(config: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of the potential's model file; empty for a published model."""
    model = _get(config, "relaxer.model")
    if not isinstance(model, str) or published_model(model) or not user_path(model).is_file():
        return {}
    with user_path(model).open("rb") as stream:
        return {"content of relaxer.model": hashlib.file_digest(stream, "sha256").hexdigest()}


def _without_draw(config: Mapping[str, Any]) -> dict[str, Any]:
    matters = settings_that_matter(config)
    return {name: value for name, value in matters.items() if name not in _DRAW}


def with_absolute_paths(config: Mapping[str, Any], samples: Sequence[Path]) -> dict[str, Any]:
    """The settings with absolute paths.

    Parameters
    ----------
    samples : sequence of path
        The samples, as the settings mean them.
    """
    found = {**config, "samples": _one_or_more([_absolute(path) for path in samples])}
    for name in _PATHS[1:]:
        value = _get(found, name)
        if name == "relaxer.model" and isinstance(value, str) and published_model(value):
            continue  # whatever file has this name
        if isinstance(value, str) and (path := user_path(value)).exists():
            found = _with(found, name, _absolute(path))
    return found


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Store the settings beside the report.

    Absolute paths are kept as seen from the folder too: it may be moved together with them.
    """
    from novelty_metric.support.folders import write_atomically

    relative = {}
    for name in _PATHS:
        paths = _as_list(_get(config, name))
        if paths and all(Path(path).is_absolute() for path in paths):
            with contextlib.suppress(ValueError):  # on another drive
                relative[name] = _one_or_more([os.path.relpath(path, folder) for path in paths])
    text = json.dumps({**config, _RELATIVE: relative}, indent=2) + "\n"
    with writing(f"out={folder}"):
        write_atomically(folder / CONFIG_FILE, text.encode())


def read_config(folder: Path) -> dict[str, Any] | None:
    """The settings of `write_config`, with paths to the present files; None if there are none.

    A path that is not there any more is looked for as it was seen from the folder. Of a run of
    before that was kept, relative ones are looked for from where the command was given, as far as
    ``out`` tells that, and from here.
    """
    content = _read_config(folder / CONFIG_FILE)
    if content is None:
        return None
    found = dict(content)
    relative = found.pop(_RELATIVE, {})
    for name in _PATHS:
        paths = _as_list(_get(found, name))
        begun_in = _begun_in(folder, content.get("out"))
        places = [
            [user_path(path) for path in paths],
            [begun_in / path for path in paths],
            [folder / path for path in _as_list(relative.get(name))],
        ]
        there = [place for place in places if place and all(path.exists() for path in place)]
        if name == "samples" and len(there) > 1:
            # Of several files the one that was scored.
            known = found.get(SAMPLES_HASH)
            there = sorted(there, key=lambda place: fingerprint(place) != known)
        if there:
            found = _with(found, name, _one_or_more([_absolute(path) for path in there[0]]))
    return found


def _as_list(value: object) -> list[str]:
    """Paths in a setting that holds one, several or none."""
    values = value if isinstance(value, list) else [value]
    return [path for path in values if isinstance(path, str)]


def _one_or_more(paths: list[str]) -> str | list[str] | None:
    """The value of such a setting for these paths."""
    return paths if len(paths) > 1 else paths[0] if paths else None


def _begun_in(folder: Path, out: object) -> Path:
    """The folder in which the command was given, relative to the run's folder."""
    whole = folder.resolve()
    if not isinstance(out, str) or Path(out).is_absolute():
        return whole.parent
    parts = [part for part in Path(os.path.normpath(out)).parts if part != "."]
    if whole.parts[len(whole.parts) - len(parts) :] != tuple(parts):
        return whole.parent
    return Path(*whole.parts[: len(whole.parts) - len(parts)])


def _absolute(path: Path) -> str:
    """The absolute path, with links unresolved, because ids can contain a file's name."""
    return os.path.normpath(path.absolute())


def _get(config: Mapping[str, Any], name: str) -> Any:
    """A setting by its dotted name; None if it does not exist."""
    value: Any = config
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _with(config: Mapping[str, Any], name: str, value: Any) -> dict[str, Any]:
    first, _, rest = name.partition(".")
    return {**config, first: _with(config[first], rest, value) if rest else value}


def _read_config(path: Path) -> Mapping[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def settings_that_matter(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that change results, each by its dotted name."""
    return {
        name: value
        for name, value in {**ADDED, **flat(config)}.items()
        if name.split(".")[0] not in NO_MATTER and name not in _NO_MATTER_INSIDE
    }


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    old, new = settings_that_matter(before), settings_that_matter(now)
    changes = []
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) == new.get(name):
            continue
        if name == SAMPLES_HASH:
            changes.append("other samples")
        else:
            changes.append(f"{name} was {old.get(name)}, is {new.get(name)}")
    return ", ".join(changes[:3]) + (" and more" if len(changes) > 3 else "")


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The settings by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in content.items():
        inside = isinstance(value, Mapping)
        found |= flat(value, f"{prefix}{name}.") if inside else {f"{prefix}{name}": value}
    return found
