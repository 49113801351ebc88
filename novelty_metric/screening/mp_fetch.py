"""Download of the Materials Project's formation energies with a user's own API key.

The official client, ``mp-api``, is not used: it installs a gigabyte, gets whole tables with every
property where no filter is given, and keeps nothing of a transfer that breaks. Four columns over
the REST interface are a few MB, in some two hundred pages, each of which is kept as it arrives.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from novelty_metric.errors import InputError
from novelty_metric.screening.formation_energies import About, FormationEnergies
from novelty_metric.screening.materials_project import (
    FETCH,
    HULL_NAME,
    SCHEME,
    Material,
    fetched_path,
    formation_energies,
)
from novelty_metric.support.download import TIMEOUT, WORTH_ANOTHER_TRY, Unreachable, short_reason
from novelty_metric.support.folders import writing
from novelty_metric.support.progress import ProgressCallback, no_progress

ENDPOINT = "https://api.materialsproject.org"
KEY_VARIABLE, ENDPOINT_VARIABLE = "MP_API_KEY", "MP_API_ENDPOINT"
"""Environment variables; ``mp-api`` reads them too."""

KEY_PAGE = "https://next-gen.materialsproject.org/api"
PAGE_ROWS = 1000
"""Maximum number of rows per request."""
ATTEMPTS = 5

_THERMO_TYPE = "GGA_GGA+U"
_FIELDS = ("material_id", "formula_pretty", "formation_energy_per_atom", "energy_above_hull")
_STAGE = "fetch formation energies"
_LONGEST_WAIT = 60.0
"""Maximum wait before the next attempt (s), even if the server asks for more."""


class FetchedHull(NamedTuple):
    """A finished file of formation energies; `fresh` is False if it was there already."""

    path: Path
    known: FormationEnergies
    fresh: bool


def fetch_materials_project(
    key: str | None = None,
    *,
    out: Path | None = None,
    progress: ProgressCallback = no_progress,
    wait: float = 1.0,
) -> FetchedHull:
    """Write a file of the current formation energies of the Materials Project.

    GGA and GGA+U with the MP2020 corrections. A file of the same version of the database is left as
    it is. Received pages are stored beside the file, and a broken transfer continues from them.

    Parameters
    ----------
    key : str, optional
        API key; default that of the environment (`KEY_VARIABLE`). It is sent to the server, and
        neither kept nor shown.
    out : path, optional
        Default `novelty_metric.screening.materials_project.fetched_path`.
    progress : callable, optional
    wait : float
        Seconds before the second attempt at a page; doubled before each one after it.

    Raises
    ------
    InputError
        If there is no key or the server refuses it, a page can't be had, the answer is not as
        expected, or the file can't be written.
    """
    server = _Server(_endpoint(), _usable_key(key), wait)
    path = fetched_path() if out is None else out
    version = str(server.get("/heartbeat", {}).get("db_version") or "")
    if not version:
        raise InputError(f"{server.endpoint}: does not say which version its database has")
    with contextlib.suppress(InputError):
        there = FormationEnergies.read(path)
        if there.about.date == version:
            return FetchedHull(path, there, fresh=False)
    pages = _Pages(path.with_name(f"{path.name}.part"), version)
    with writing(f"{path}:", path.parent, hint="; name another place: out=FILE"):
        rows = _all_rows(server, pages, progress)
    about = About(
        name=HULL_NAME,
        source=(
            f"Materials Project, database version {version}, {_THERMO_TYPE}, through its API "
            f"({server.endpoint}); {len(rows)} crystals"
        ),
        licence="CC BY 4.0; terms of contributors: next-gen.materialsproject.org/about/terms",
        date=version,
        scheme=SCHEME,
    )
    try:
        known = formation_energies((_material(row) for row in rows), about)
    except ValueError as error:
        raise InputError(f"{server.endpoint}: an answer can't be used ({error})") from error
    known.write(path)
    pages.forget()
    return FetchedHull(path, known, fresh=True)


def _usable_key(given: str | None) -> str:
    key = given or os.environ.get(KEY_VARIABLE, "")
    if not key:
        raise InputError(
            f"{FETCH} needs your API key of the Materials Project ({KEY_PAGE}): set "
            f"{KEY_VARIABLE} in the environment, or add key=KEY"
        )
    if not re.fullmatch(r"[A-Za-z0-9_-]+", key):  # also what requests would show in an error
        where = "key=" if given else KEY_VARIABLE
        raise InputError(
            f"{where} is not an API key: a key is made of letters and digits; see {KEY_PAGE}"
        )
    return key


def _endpoint() -> str:
    """The address of the API: HTTPS, because of the key; HTTP is allowed to this machine only."""
    given = os.environ.get(ENDPOINT_VARIABLE) or ENDPOINT
    address = urlsplit(given)
    local = address.hostname in ("127.0.0.1", "localhost", "::1")
    if address.scheme != "https" and not (local and address.scheme == "http"):
        raise InputError(f"{ENDPOINT_VARIABLE} is {given!r}; it must begin with https://")
    return given.rstrip("/")


def _all_rows(
    server: _Server, pages: _Pages, progress: ProgressCallback
) -> list[Mapping[str, Any]]:
    """All rows, without duplicates; some may be from an earlier call."""
    rows = {str(row["material_id"]): row for row in pages.rows()}
    skip, total = pages.n_rows, None
    while total is None or skip < total:
        query = {"thermo_types": _THERMO_TYPE, "_fields": ",".join(_FIELDS), "_limit": PAGE_ROWS}
        answer = server.get("/materials/thermo/", {**query, "_skip": skip})
        try:
            total, page = int(answer["meta"]["total_doc"]), list(answer["data"])
            fields = [{name: row.get(name) for name in _FIELDS} for row in page]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{server.endpoint}: answers with something other than materials"
            ) from error
        if not page and skip < total:
            raise InputError(
                f"{server.endpoint}: gave {skip} of {total} materials and then none; "
                "the same command continues"
            )
        pages.add(fields)
        rows.update((str(row["material_id"]), row) for row in fields)
        skip += len(page)
        progress(_STAGE, min(skip, total), total)
    if len(rows) != total:
        pages.forget()  # pages that overlap, as while the database is being changed
        raise InputError(
            f"{server.endpoint}: {total} materials were announced, but {len(rows)} were received; "
            "repeat the command"
        )
    return list(rows.values())


def _material(row: Mapping[str, Any]) -> Material:
    energies = (row["formation_energy_per_atom"], row["energy_above_hull"])
    return Material(
        str(row["formula_pretty"]), *(math.nan if e is None else float(e) for e in energies)
    )


class _Server:
    """The API, with repeated attempts."""

    def __init__(self, endpoint: str, key: str, wait: float) -> None:
        import requests

        self.endpoint = endpoint
        self._wait = wait
        self._session = requests.Session()
        self._session.headers.update({"X-API-KEY": key, "Accept": "application/json"})

    def get(self, path: str, query: Mapping[str, object]) -> dict[str, Any]:
        """The answer, a JSON object.

        Raises
        ------
        Unreachable
            If no attempt reached the server.
        InputError
            If it refuses, or no attempt gave an answer.
        """
        import requests

        reached, reason, pause = False, "", self._wait
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(min(pause, _LONGEST_WAIT))
                pause *= 2
            try:
                # Elsewhere the key must not go, so that a server which sends on is not followed.
                answer = self._session.get(
                    self.endpoint + path,
                    params={name: str(value) for name, value in query.items()},
                    timeout=TIMEOUT,
                    allow_redirects=False,
                )
            except requests.exceptions.RequestException as error:
                reason = short_reason(error)
                continue
            reached = True
            status = answer.status_code
            if status in (401, 403):
                raise InputError(
                    f"{self.endpoint}: refuses the API key ({status}); look it up at {KEY_PAGE}"
                )
            if status in WORTH_ANOTHER_TRY:
                reason = f"the server answers {status}"
                asked = answer.headers.get("Retry-After", "")
                pause = max(pause, float(asked)) if asked.isdecimal() else pause
                continue
            if status != 200:
                raise InputError(f"{self.endpoint}: the server answers {status} {answer.reason}")
            try:
                content = answer.json()
            except ValueError:
                content = None
            if isinstance(content, dict):
                return content
            reason = "the answer is not JSON, or was cut short"
        if not reached:
            raise Unreachable(f"{self.endpoint}: can't be reached ({reason})")
        raise InputError(f"{self.endpoint}: {reason}; the same command continues from there")


class _Pages:
    """Received rows, one line of JSON per page; the first line names the version."""

    def __init__(self, path: Path, version: str) -> None:
        self._path = path
        self._head = {"version": version, "thermo_type": _THERMO_TYPE, "fields": list(_FIELDS)}
        self.n_rows = 0
        self._begun = False

    def rows(self) -> Iterator[Mapping[str, Any]]:
        """The rows of an earlier call for the same version; an incomplete last line is dropped."""
        whole: list[str] = []
        try:
            text = self._path.read_text(encoding="utf-8")
        except (OSError, ValueError):
            text = ""
        for line in text.splitlines(keepends=True):
            try:
                content = json.loads(line) if line.endswith("\n") else None
            except ValueError:
                content = None
            if content is None or (not whole and content != self._head):
                break
            whole.append(line)
            if len(whole) > 1:
                self.n_rows += len(content)
                yield from content
        if whole:
            self._path.write_text("".join(whole), encoding="utf-8")
            self._begun = True

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Store a page."""
        lines = [rows] if self._begun else [self._head, rows]
        with self._path.open("a" if self._begun else "w", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        self._begun = True

    def forget(self) -> None:
        """Delete the stored pages."""
        self._path.unlink(missing_ok=True)
