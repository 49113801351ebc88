"""References by name, from a server on the loopback address instead of the network."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pymatgen.core import Lattice, Structure

from novelty_metric.cli import main
from novelty_metric.errors import InputError
from novelty_metric.reference import open_reference
from novelty_metric.reference.fetch import downloads_folder, fetch_reference
from novelty_metric.reference.named import reference_path
from novelty_metric.reference.published import PUBLISHED, PublishedFile
from novelty_metric.support import download as download_module
from novelty_metric.support.download import Unreachable, download

BLOCK = 64


class Served:
    """Content of the server, and its faults."""

    def __init__(self) -> None:
        self.content = b""
        self.tag = '"1"'
        self.breaks: list[int] = []
        self.statuses: list[int] = []
        self.ranges = True
        self.asked: list[str | None] = []


@pytest.fixture
def served() -> Iterator[tuple[Served, str]]:
    """A server that can interrupt transfers, return errors, or ignore range requests."""
    state = Served()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.asked.append(asked)
            if state.statuses and (status := state.statuses.pop(0)) != 200:
                self.send_error(status)
                return
            start = 0
            if asked and state.ranges and self.headers.get("If-Range") in (None, state.tag):
                start = int(asked.removeprefix("bytes=").rstrip("-"))
                if start >= len(state.content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(state.content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
            body = state.content[start:]
            self.send_response(206 if start else 200)
            if start:
                last = len(state.content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{len(state.content)}")
            if state.tag:
                self.send_header("ETag", state.tag)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if state.breaks:
                body = body[: state.breaks.pop(0)]
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state, f"http://127.0.0.1:{server.server_address[1]}/data/train.csv"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("NOVELTY_METRIC_CACHE", str(folder))
    # A proxy of the machine must not apply to the loopback address.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download_module, "CHUNK_BYTES", BLOCK)
    return folder


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module.time, "sleep", lambda seconds: None)


def table() -> bytes:
    """Three crystals in the format of the published tables, with an index column."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(["", "material_id", "cif"])
    for index, element in enumerate(["Cs", "Rb", "K"]):
        crystal = Structure(Lattice.cubic(4), [element, "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        writer.writerow([index, f"mp-{index}", str(crystal.to(fmt="cif"))])
    return out.getvalue().encode()


def git_blob(content: bytes) -> str:
    """The hash that git gives the content."""
    command = ["git", "hash-object", "--stdin"]
    return (
        subprocess.run(command, input=content, capture_output=True, check=True)
        .stdout.decode()
        .strip()
    )


def publish(monkeypatch: pytest.MonkeyPatch, name: str, **changes: Any) -> None:
    monkeypatch.setitem(PUBLISHED, name, dataclasses.replace(PUBLISHED[name], **changes))


def starts(state: Served) -> list[int]:
    """The start positions of the requested ranges."""
    return [int(asked.removeprefix("bytes=").rstrip("-")) for asked in state.asked if asked]


# --- one file ----------------------------------------------------------------------------------


def test_file_is_downloaded_completely(served: tuple[Served, str], tmp_path: Path) -> None:
    state, url = served
    state.content = bytes(range(256)) * 20
    told: list[tuple[int, int | None]] = []
    download(url, tmp_path / "new" / "x", progress=lambda done, total: told.append((done, total)))
    assert (tmp_path / "new" / "x").read_bytes() == state.content
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x"]
    assert told[-1] == (5120, 5120) and state.asked == [None]


def test_interrupted_transfer_is_resumed(served: tuple[Served, str], tmp_path: Path) -> None:
    state, url = served
    state.content = bytes(range(256)) * 20
    state.breaks = [1000, 500]
    download(url, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == state.content
    assert state.asked[0] is None and len(state.asked) == 3
    first, second = starts(state)
    # The block in transfer at the interruption is requested again.
    assert 1000 - BLOCK < first <= 1000 and first + 500 - BLOCK < second <= first + 500


def test_later_call_continues_an_unfinished_one(served: tuple[Served, str], tmp_path: Path) -> None:
    state, url = served
    state.content = bytes(range(256)) * 20
    state.breaks = [100, 100, 100, 100]
    with pytest.raises(InputError) as caught:
        download(url, tmp_path / "x")
    assert "the same command continues from there" in str(caught.value)
    assert not isinstance(caught.value, Unreachable) and not (tmp_path / "x").exists()
    download(url, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == state.content
    assert 4 * (100 - BLOCK) < starts(state)[-1] <= 400


def test_part_of_another_file_is_not_resumed(served: tuple[Served, str], tmp_path: Path) -> None:
    """The file changed on the server; another address; a part without metadata."""
    state, url = served
    state.content, state.breaks = b"a" * 900, [300] * 4
    with pytest.raises(InputError):
        download(url, tmp_path / "x", attempts=1)
    state.breaks, state.content, state.tag = [], b"b" * 900, '"2"'
    download(url, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"b" * 900
    (tmp_path / "y.part").write_bytes(b"z" * 10)
    download(url, tmp_path / "y")
    assert (tmp_path / "y").read_bytes() == b"b" * 900
    (tmp_path / "w.part").write_bytes(b"z" * 10)
    (tmp_path / "w.part.json").write_text(json.dumps({"url": "http://else", "etag": state.tag}))
    download(url, tmp_path / "w")
    assert (tmp_path / "w").read_bytes() == b"b" * 900


def test_server_without_range_requests_restarts(served: tuple[Served, str], tmp_path: Path) -> None:
    state, url = served
    state.content, state.ranges, state.breaks, state.tag = b"ab" * 700, False, [500], ""
    download(url, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == state.content


def test_complete_part_is_kept(served: tuple[Served, str], tmp_path: Path) -> None:
    state, url = served
    state.content = b"ab" * 100
    (tmp_path / "x.part").write_bytes(state.content)
    (tmp_path / "x.part.json").write_text(json.dumps({"url": url, "etag": state.tag}))
    download(url, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == state.content and len(state.asked) == 1


def test_server_errors_are_retried(served: tuple[Served, str], tmp_path: Path) -> None:
    state, url = served
    state.content, state.statuses = b"abc", [503, 429, 200]
    download(url, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"abc"
    state.statuses = [503] * 9
    with pytest.raises(InputError, match="the server answers 503"):
        download(url, tmp_path / "y")
    state.statuses = [404]
    with pytest.raises(InputError, match="the server answers 404"):
        download(url, tmp_path / "y")
    assert state.asked.count(None) == 3 + 4 + 1


def test_unreachable_server(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="can't be reached"):
        download("http://127.0.0.1:9/x", tmp_path / "x", attempts=2)


# --- a reference -------------------------------------------------------------------------------


def test_reference_is_fetched_built_and_kept(
    served: tuple[Served, str], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    state, url = served
    state.content, state.breaks = table(), [700]
    publish(monkeypatch, "mp_20", url=url, git_blob=git_blob(state.content), rows=3)
    fetched = fetch_reference("mp_20")
    assert fetched.reference.path == cache / "references" / "mp_20.arrow" == reference_path("mp_20")
    assert fetched.reference.name == "mp_20"
    assert open_reference("mp_20").ids == ("mp-0", "mp-1", "mp-2")
    assert f"git blob {git_blob(state.content)} is that of the published file" in fetched.checked
    note = json.loads((cache / "references" / "mp_20.source.json").read_text())
    assert note["sha256"] == hashlib.sha256(state.content).hexdigest() and note["url"] == url
    n_asked = len(state.asked)
    again = fetch_reference("mp_20")
    assert again.checked == "was there already" and len(state.asked) == n_asked
    assert len(again.reference) == 3


def test_wrong_file_is_refused_and_downloaded_again(
    served: tuple[Served, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state, url = served
    right, wrong = table(), table().replace(b"4.0", b"4.1")
    publish(monkeypatch, "mp_20", url=url, git_blob=git_blob(right), rows=3)
    state.content = wrong
    with pytest.raises(InputError) as caught:
        fetch_reference("mp_20")
    message = str(caught.value)
    assert f"git blob {git_blob(right)} was expected, {git_blob(wrong)} found" in message
    assert "the same command downloads it again" in message
    assert not reference_path("mp_20").exists()
    state.content, state.tag = right, '"2"'
    assert len(fetch_reference("mp_20").reference) == 3


def test_file_of_the_user_is_checked_and_kept(
    served: tuple[Served, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    state, url = served
    content = table()
    publish(monkeypatch, "mp_20", url=url, git_blob=git_blob(content), rows=3)
    mine = tmp_path / "my copy.csv"
    mine.write_bytes(content[:-1])
    with pytest.raises(InputError, match=r"not the published train\.csv of mp_20"):
        fetch_reference("mp_20", source=mine)
    assert mine.exists()
    mine.write_bytes(content)
    assert len(fetch_reference("mp_20", source=mine).reference) == 3
    assert state.asked == [] and mine.exists()
    # In place of the download.
    reference_path("mp_20").unlink()
    place = downloads_folder("mp_20") / "train.csv"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    assert len(fetch_reference("mp_20").reference) == 3 and state.asked == []
    reference_path("mp_20").unlink()
    place.write_bytes(content + b" ")
    with pytest.raises(InputError, match="was expected"):
        fetch_reference("mp_20")
    assert place.exists()


def test_columns_and_rows_are_checked_without_a_hash(
    served: tuple[Served, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    state, url = served
    state.content = table()
    publish(monkeypatch, "mpts_52", url=url, rows=3)
    fetched = fetch_reference("mpts_52")
    sha256 = hashlib.sha256(state.content).hexdigest()
    assert fetched.checked == (
        "no content hash of it is known beforehand; its columns and its 3 rows are right, its "
        f"SHA-256 is {sha256}"
    )
    short = tmp_path / "short.csv"
    short.write_bytes(b"\r\n".join(state.content.split(b"\r\n")[:1]) + b"\r\n")
    with pytest.raises(InputError, match="not the published table of mpts_52: 0 rows, and 3"):
        fetch_reference("mpts_52", source=short)
    short.write_text("id,structure\n1,x\n")
    with pytest.raises(InputError, match="it has no column 'material_id'; it has id, structure"):
        fetch_reference("mpts_52", source=short)


def test_table_in_an_archive(
    served: tuple[Served, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    state, url = served
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("alex_mp_20/val.csv", "material_id,cif\n")
        archive.writestr("alex_mp_20/train.csv", table())
    state.content = packed.getvalue()
    sha256 = hashlib.sha256(state.content).hexdigest()
    publish(monkeypatch, "alex_mp_20", url=url, sha256=sha256)
    fetched = fetch_reference("alex_mp_20")
    assert len(fetched.reference) == 3 and sha256 in fetched.checked
    assert [path.name for path in downloads_folder("alex_mp_20").iterdir()] == ["alex_mp_20.zip"]
    other = tmp_path / "x.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("train.csv", "")
    publish(monkeypatch, "alex_mp_20", sha256=hashlib.sha256(other.read_bytes()).hexdigest())
    with pytest.raises(InputError, match=r"contains no alex_mp_20/train\.csv that can be read"):
        fetch_reference("alex_mp_20", source=other)


def test_error_without_a_network_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], cache: Path
) -> None:
    monkeypatch.setattr(download_module, "ATTEMPTS", 1)
    publish(monkeypatch, "mp_20", url="http://127.0.0.1:9/train.csv")
    assert main(["reference", "fetch", "mp_20"]) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1
    assert "http://127.0.0.1:9/train.csv: can't be reached" in err
    assert (
        "download http://127.0.0.1:9/train.csv (git blob b1c9d498565ac2fd8d075a51ff2ef5e51ba6c21f)"
        in err
    )
    assert f"copy it to {cache}/downloads/mp_20/train.csv" in err
    assert "`novelty-metric reference fetch mp_20 --from FILE`" in err


def test_command(
    served: tuple[Served, str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    state, url = served
    state.content = table()
    publish(monkeypatch, "mp_20", url=url, git_blob=git_blob(state.content), rows=3)
    assert main(["reference", "fetch", "mp_20", "workers=1"]) == 0
    out, err = capfd.readouterr()
    assert (
        "mp_20.arrow: 3 crystals, crystals_hash" in out and "is that of the published file" in out
    )
    assert err == ""
    for arguments, message in (
        (["fetch"], "needs one NAME; known: mp_20, perov_5"),
        (["fetch", "mp_20", "perov_5"], "needs one NAME"),
        (["fetch", "mp20"], "no reference named 'mp20'; did you mean 'mp_20'?"),
        (["fetch", "icsd"], "no reference named 'icsd'; known: mp_20"),
        (["fetch", "aflow"], "is part of the package"),
        (["fetch", "mp_20", "--from", str(tmp_path / "none")], "no such file"),
        (["fetch", "mp_20", "out=x"], "no setting named 'out'; known: workers"),
        (["fetch", "mp_20", "workers=0"], "workers is '0'"),
        (["fetched"], "did you mean 'reference fetch'?"),
        (["x"], "known: reference build, reference fetch"),
    ):
        assert main(["reference", *arguments]) == 2
        assert message in capfd.readouterr().err


def test_published_references_have_an_address_and_are_recognised() -> None:
    for published in PUBLISHED.values():
        assert isinstance(published, PublishedFile)
        assert published.url.startswith("https://") and published.page.startswith("https://")
        assert published.git_blob or published.sha256 or published.rows
