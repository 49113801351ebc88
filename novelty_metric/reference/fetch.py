"""References by name: downloaded from their publisher, checked, built and stored."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from novelty_metric.errors import InputError, near_or_known
from novelty_metric.reference.named import PACKAGED, reference_path
from novelty_metric.reference.published import PUBLISHED, PublishedFile
from novelty_metric.support.download import Unreachable, download
from novelty_metric.support.folders import cache_folder, replacing
from novelty_metric.support.progress import ProgressCallback, no_progress

if TYPE_CHECKING:
    from novelty_metric.reference.store import Reference


class Fetched(NamedTuple):
    """A reference that is ready for use, and how its published file was recognised, in words."""

    path: Path
    reference: Reference
    checked: str


def downloads_folder(name: str) -> Path:
    """The place of a reference's published file."""
    return cache_folder() / "downloads" / name


def fetch_reference(
    name: str,
    *,
    source: Path | None = None,
    workers: int = 1,
    progress: ProgressCallback = no_progress,
) -> Fetched:
    """Make one of the `PUBLISHED` references available by name.

    The published file is downloaded, or taken from where a broken call or the user left it, its
    content hash is checked, and the reference is built into the user's cache folder by some worker
    processes. A reference that is there already is opened, unless a `source` is given: the user's
    own copy of the file, with the same hash.

    Raises
    ------
    InputError
        If the name is unknown, the file can't be had, or it is not the published one.
    """
    from novelty_metric.reference.build import build_reference
    from novelty_metric.reference.named import open_reference

    if name not in PUBLISHED:
        if name in PACKAGED:
            raise InputError(f"reference {name!r} is part of the package and needs no download")
        hint = near_or_known(name, PUBLISHED)
        raise InputError(f"no reference named {name!r}; {hint}")
    target = reference_path(name)
    if source is None and target.exists():
        return Fetched(target, open_reference(name), "was there already")
    published = PUBLISHED[name]
    path = source or downloads_folder(name) / published.file_name
    fresh = source is None and not path.exists()
    if fresh:
        _download(name, published, path, progress)
    sha256, checked = _recognised(name, path, published, fresh=fresh)
    table = _table(name, path, published)
    _check_table(name, table, published)
    reference = build_reference(
        table,
        target,
        name=name,
        workers=workers,
        column="cif",
        progress=lambda done, total: progress("prepare reference", done, total),
    )
    note = {"url": published.url, "sha256": sha256, "checked": checked}
    target.with_suffix(".source.json").write_text(json.dumps(note, indent=2) + "\n", "utf-8")
    if table != path:
        table.unlink(missing_ok=True)
    return Fetched(target, reference, checked)


def _download(name: str, published: PublishedFile, path: Path, progress: ProgressCallback) -> None:
    try:
        download(
            published.url, path, progress=lambda done, total: progress("download", done, total)
        )
    except Unreachable as error:
        hash_text = f" ({published.hash_text})" if published.hash_text else ""
        raise InputError(
            f"{error}; on a machine with a network download {published.url}{hash_text} (see "
            f"{published.page}), copy it to {path} and repeat the command, or run "
            f"`novelty-metric reference fetch {name} --from FILE`"
        ) from error


def _recognised(name: str, path: Path, published: PublishedFile, *, fresh: bool) -> tuple[str, str]:
    """SHA-256 of the file, and how the file was recognised."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            head = f"blob {size}\0".encode()  # git hashes it with the content
            blob = hashlib.file_digest(file, lambda: hashlib.sha1(head, usedforsecurity=False))
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror or error})") from error
    found = {"sha256": sha256, "git_blob": blob.hexdigest()}
    for kind, label in (("git_blob", "git blob"), ("sha256", "SHA-256")):
        expected = getattr(published, kind)
        if expected is None:
            continue
        if expected == found[kind]:
            return sha256, f"{label} {expected} is that of the published file"
        reason = (
            f"{path}: not the published {published.file_name} of {name}: {label} {expected} was "
            f"expected, {found[kind]} found ({size} bytes)"
        )
        if fresh:
            path.unlink()
            raise InputError(f"{reason}; it was removed, the same command downloads it again")
        raise InputError(
            f"{reason}; to make your own reference from it: `novelty-metric reference build "
            f"{path} out=FILE.arrow`"
        )
    rows = "" if published.rows is None else f" and its {published.rows:,} rows"
    return sha256, (
        f"no content hash of it is known beforehand; its columns{rows} are right, its SHA-256 is "
        f"{sha256}"
    )


def _table(name: str, path: Path, published: PublishedFile) -> Path:
    """The table, extracted from its archive."""
    if published.member is None:
        return path
    # Beside the downloads, whatever folder the user's archive is in.
    target = downloads_folder(name) / Path(published.member).name
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            zipfile.ZipFile(path) as archive,
            archive.open(published.member) as member,
            replacing(target) as beside,
            beside.open("wb") as file,
        ):
            shutil.copyfileobj(member, file, 1 << 20)
    except (KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: contains no {published.member} that can be read") from error
    return target


def _check_table(name: str, path: Path, published: PublishedFile) -> None:
    limit = csv.field_size_limit(50_000_000)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            columns = next(reader, [])
            n_rows = sum(1 for row in reader if row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not the published table of {name} ({error})") from error
    finally:
        csv.field_size_limit(limit)
    missing = [column for column in published.columns if column not in columns]
    if missing:
        raise InputError(
            f"{path}: not the published table of {name}: it has no column {missing[0]!r}; "
            f"it has {', '.join(columns)[:200]}"
        )
    if published.rows is not None and n_rows != published.rows:
        raise InputError(
            f"{path}: not the published table of {name}: {n_rows:,} rows, and {published.rows:,} "
            f"are published; to make your own reference from it: `novelty-metric reference build "
            f"{path} out=FILE.arrow`"
        )
