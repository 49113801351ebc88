"""The folder that a run writes to, and what keeps two runs in it apart."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from novelty_metric.errors import InputError

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
)
"""Settings that change no answer; the samples are compared by content."""
_TOLD_OF = "model.formats"
"""A setting that only warns."""

_OTHER_VERBS = (
    *("summary.csv", "summary.md", "sensitivity.csv", "sensitivity.json"),
    *("controls.csv", "controls.json", "report.html", "explain", "parts", "job.json"),
)
"""What other verbs and multiruns write."""


def fingerprint(paths: Sequence[Path]) -> str | None:
    """SHA-256 of a file, or of a folder's file names and contents; None for no path.

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
        for file in _files(path):
            digest.update(os.fsencode(file.relative_to(path)) + b"\0")
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror or error})") from error
    return digest.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(file for file in path.rglob("*") if file.is_file())
    else:
        yield path


def prepare(folder: Path, config: Mapping[str, Any], *, overwrite: bool) -> list[str]:
    """Make the folder, and refuse one that holds a report of other settings, or others' files.

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
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable.{os.getpid()}.tmp"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"out={folder} can't be written ({error.strerror or error}); name another folder"
        ) from error
    if not (folder / REPORT_FILE).exists():
        return _others_files(folder, overwrite=overwrite)
    if overwrite:
        return []
    before = _read_config(folder / CONFIG_FILE)
    if before is None:
        what = "whose settings are not known"
    else:
        changed = _differences(before, config)
        if not changed:
            return []
        what = f"of other settings ({changed})"
    raise InputError(
        f"out={folder} holds a report {what}; name another folder or add overwrite=true"
    )


def _others_files(folder: Path, *, overwrite: bool) -> list[str]:
    """What to say of a folder that no run has begun in, but that is not empty."""
    from novelty_metric.report_files import REPORT_FILES
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
            f"out={folder} holds {', '.join(lost)}, but no report that {_it(lost)} could be of; "
            "name another folder, or add overwrite=true"
        )
    others = [name for name in names if name not in lost and not _is_known(folder / name)]
    if not others:
        return []
    listed = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    return [f"out={folder} holds no run but {listed}; the report goes beside {_it(others)}"]


def _it(names: list[str]) -> str:
    return "it" if len(names) == 1 else "them"


def _is_known(path: Path) -> bool:
    """Whether a batch system or another verb of this command may have put it there."""
    if path.name.startswith(".") or path.suffix in (".out", ".err", ".log"):
        return True
    return path.name in _OTHER_VERBS or (path / REPORT_FILE).exists()


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Keep the settings beside the report that they made."""
    from novelty_metric.report_files import write_atomically

    text = json.dumps(config, indent=2) + "\n"
    try:
        write_atomically(folder / CONFIG_FILE, text.encode())
    except OSError as error:
        raise InputError(f"out={folder} can't be written ({error.strerror or error})") from error


def _read_config(path: Path) -> Mapping[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def settings_that_matter(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that change an answer, each by its dotted name."""
    flat = _flat(config)
    return {
        name: value
        for name, value in flat.items()
        if name.split(".")[0] not in NO_MATTER and name != _TOLD_OF
    }


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    old, new = settings_that_matter(before), settings_that_matter(now)
    words = []
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) == new.get(name):
            continue
        if name == SAMPLES_HASH:
            words.append("other samples")
        else:
            words.append(f"{name} was {old.get(name)}, is {new.get(name)}")
    return ", ".join(words[:3]) + (" and more" if len(words) > 3 else "")


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
