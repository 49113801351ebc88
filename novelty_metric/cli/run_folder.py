"""The folder that a run writes to, and what keeps two runs in it apart."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
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


def fingerprint(path: Path | None) -> str | None:
    """SHA-256 of a file, or of a folder's file names and contents; None for no path.

    Raises
    ------
    InputError
        If something in it can't be read.
    """
    if path is None:
        return None
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


def prepare(folder: Path, config: Mapping[str, Any], *, overwrite: bool) -> None:
    """Make the folder, and refuse one that holds a report of other settings.

    Parameters
    ----------
    config : mapping
        The composed settings, with `SAMPLES_HASH`.

    Raises
    ------
    InputError
        If the folder can't be written, or holds such a report and `overwrite` is false.
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
    if overwrite or not (folder / REPORT_FILE).exists():
        return
    before = _read_config(folder / CONFIG_FILE)
    if before is None:
        what = "whose settings are not known"
    else:
        changed = _differences(before, config)
        if not changed:
            return
        what = f"of other settings ({changed})"
    raise InputError(
        f"out={folder} holds a report {what}; name another folder or add overwrite=true"
    )


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
    return {name: flat[name] for name in flat if name.split(".")[0] not in NO_MATTER}


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
