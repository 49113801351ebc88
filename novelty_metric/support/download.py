"""Download of one file: atomic, and resumed after a broken transfer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from novelty_metric.errors import InputError

ATTEMPTS = 4
CHUNK_BYTES = 1 << 18
TIMEOUT = 30.0
"""Time without an answer or a byte after which an attempt ends (s)."""

Progress = Callable[[int, "int | None"], None]


class Unreachable(InputError):
    """The address cannot be reached, for example without a network."""


def download(
    url: str,
    target: Path,
    *,
    progress: Progress | None = None,
    attempts: int = ATTEMPTS,
    wait: float = 1.0,
) -> None:
    """Download a file.

    What has arrived waits in ``<target>.part``. The next attempt, in this call or a later one,
    asks for the rest, and begins anew if the server does not give parts or the file has changed
    there (by its entity tag).

    Parameters
    ----------
    url : str
    target : path
        Written when the file is complete.
    progress : callable, optional
        Called with bytes done and bytes in all, None while that is not known.
    attempts : int
    wait : float
        Seconds before the second attempt; doubled before each one after it.

    Raises
    ------
    Unreachable
        If no attempt reached the server.
    InputError
        If the server refuses, or the transfer broke off in every attempt.
    """
    import requests

    target.parent.mkdir(parents=True, exist_ok=True)
    part = _Part(target, url)
    reached, reason = False, ""
    for attempt in range(attempts):
        if attempt:
            time.sleep(wait * 2 ** (attempt - 1))
        try:
            with requests.get(
                url, headers=part.headers(), stream=True, timeout=TIMEOUT
            ) as response:
                reached = True
                if response.status_code in WORTH_ANOTHER_TRY:
                    reason = f"the server answers {response.status_code}"
                    continue
                if part.receive(response, progress):
                    part.path.replace(target)
                    part.forget()
                    return
                reason = "the transfer broke off"
        except requests.exceptions.ConnectionError as error:
            reason = short_reason(error)
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.Timeout) as error:
            reason = short_reason(error)
            reached = reached or part.size > 0
        except requests.exceptions.RequestException as error:
            raise InputError(f"{url}: can't be downloaded ({short_reason(error)})") from error
    if not reached:
        raise Unreachable(f"{url}: can't be reached ({reason})")
    kept = f"{part.size / 1e6:.1f} MB were received and are kept; " if part.size else ""
    raise InputError(f"{url}: {reason}; {kept}the same command continues from there")


WORTH_ANOTHER_TRY = (408, 429, 500, 502, 503, 504)


class _Part:
    """The received part of a file, and the file to which it belongs."""

    def __init__(self, target: Path, url: str) -> None:
        self.path = target.with_name(f"{target.name}.part")
        self._note = target.with_name(f"{target.name}.part.json")
        self._url = url
        self._tag = self._read_tag()
        if self._tag is None:
            self.path.unlink(missing_ok=True)

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def headers(self) -> dict[str, str]:
        # A server that compresses on the way could not be asked for the rest.
        headers = {"Accept-Encoding": "identity"}
        if self.size:
            headers["Range"] = f"bytes={self.size}-"
            if self._tag:
                headers["If-Range"] = self._tag
        return headers

    def receive(self, response: Any, progress: Progress | None) -> bool:
        """Write received data; returns True if the file is complete."""
        status = response.status_code
        if status == 416:  # nothing is left after what is here, or the file is another one
            complete = response.headers.get("Content-Range", "").endswith(f"/{self.size}")
            if not complete:
                self.path.unlink(missing_ok=True)
            return complete
        if status not in (200, 206):
            raise InputError(f"{self._url}: the server answers {status} {response.reason}")
        goes_on = status == 206 and response.headers.get("Content-Range", "").startswith(
            f"bytes {self.size}-"
        )
        if status == 206 and not goes_on:
            self.path.unlink(missing_ok=True)
            return False
        self._remember(response.headers.get("ETag", ""))
        length = response.headers.get("Content-Length", "")
        start = self.size if goes_on else 0
        total = start + int(length) if length.isdecimal() else None
        with self.path.open("ab" if goes_on else "wb") as file:
            done = start
            for chunk in response.iter_content(CHUNK_BYTES):
                file.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, total)
        return total is None or self.size == total

    def forget(self) -> None:
        self._note.unlink(missing_ok=True)

    def _remember(self, tag: str) -> None:
        # A weak tag does not promise the same bytes.
        self._tag = "" if tag.startswith("W/") else tag
        note = {"url": self._url, "etag": self._tag}
        self._note.write_text(json.dumps(note), encoding="utf-8")

    def _read_tag(self) -> str | None:
        """The entity tag of the part; None if there is no part of this address."""
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return note.get("etag", "") if note.get("url") == self._url else None


def short_reason(error: Exception) -> str:
    """The root cause of an exception of requests, as short text."""
    inner: BaseException = error
    while inner.__context__ is not None or inner.__cause__ is not None:
        inner = inner.__cause__ or inner.__context__  # type: ignore[assignment]
    text = " ".join(str(inner).split()) or type(inner).__name__
    return text[:120]
