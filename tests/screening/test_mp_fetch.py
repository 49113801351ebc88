"""Formation energies of the Materials Project, from a server on the loopback address."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pymatgen.core import Composition

from novelty_metric.cli import main
from novelty_metric.errors import InputError
from novelty_metric.screening import mp_fetch
from novelty_metric.screening.formation_energies import FormationEnergies
from novelty_metric.screening.hull import SAMPLES
from novelty_metric.screening.materials_project import MaterialsProjectHull, fetched_path
from novelty_metric.screening.mp_fetch import fetch_materials_project

KEY = "aGoodKeyOfThirtyTwoLetters012345"
ROWS = [
    ("MgO", -3.0, 0.0),
    ("MgO", -2.0, 1.0),
    ("Mg(NO3)2", -1.25, 0.0),
    ("NaN", 0.1, 0.3),
    ("Na", 0.0, 0.0),
    ("Mg3N2", None, 0.0),
    ("Na2O", -1.5, 0.0),
]


@dataclass
class Api:
    """Content of the server, its faults, and the requests it received."""

    version: str = "2026.04.13"
    rows: list[tuple[str, float | None, float]] = field(default_factory=lambda: list(ROWS))
    failures: list[int | str] = field(default_factory=list)
    after: int = 0
    """Number of pages that are sent before the failures begin."""
    asked: list[dict[str, list[str]]] = field(default_factory=list)
    endpoint: str = ""

    def answer(self, path: str, query: dict[str, list[str]]) -> object:
        if path == "/heartbeat":
            return {"status": "OK", "db_version": self.version, "access_controlled_batch_ids": []}
        if path != "/materials/thermo/" or query["thermo_types"] != ["GGA_GGA+U"]:
            return {"detail": "Not Found"}
        start, count = int(query["_skip"][0]), int(query["_limit"][0])
        fields = query["_fields"][0].split(",")
        documents = [
            {
                "material_id": f"mp-{number}",
                "formula_pretty": formula,
                "formation_energy_per_atom": energy,
                "energy_above_hull": above,
                "entries": {"much": "more"},
            }
            for number, (formula, energy, above) in enumerate(self.rows)
        ]
        page = documents[start : start + count]
        return {
            "data": [{name: one[name] for name in fields} for one in page],
            "meta": {"total_doc": len(documents), "api_version": "0.86"},
        }


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Api]:
    state = Api()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            query = parse_qs(address.query)
            is_page = address.path != "/heartbeat"
            if self.headers.get("X-API-KEY") != KEY:
                return self._send(401, b'{"message": "Unauthorized"}')
            if is_page:
                state.asked.append(query)
            if is_page and state.failures and len(state.asked) > state.after:
                failure = state.failures.pop(0)
                if isinstance(failure, int):
                    return self._send(failure, b"")
                if failure == "cut":  # less than the announced length
                    return self._send(200, b'{"data": [{"material', more=50)
                return self._send(200, failure.encode())
            self._send(200, json.dumps(state.answer(address.path, query)).encode())

        def _send(self, status: int, content: bytes, more: int = 0) -> None:
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", "http://localhost:1/elsewhere")
            self.send_header("Content-Length", str(len(content) + more))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("NOVELTY_METRIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(mp_fetch.ENDPOINT_VARIABLE, state.endpoint)
    monkeypatch.delenv(mp_fetch.KEY_VARIABLE, raising=False)
    monkeypatch.setattr(mp_fetch, "PAGE_ROWS", 2)
    monkeypatch.setattr(mp_fetch.time, "sleep", lambda seconds: None)
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def test_all_pages_are_used_for_the_hull(api: Api, tmp_path: Path) -> None:
    told: list[tuple[Any, ...]] = []
    fetched = fetch_materials_project(KEY, progress=lambda *arguments: told.append(arguments))
    assert (fetched.fresh, fetched.path) == (True, fetched_path())
    assert told[-1] == ("fetch formation energies", 7, 7) and len(told) == 4
    assert [query["_skip"] for query in api.asked] == [["0"], ["2"], ["4"], ["6"]]
    assert all("entries" not in query["_fields"][0] for query in api.asked)
    about = FormationEnergies.read(fetched.path).about
    assert about.date == "2026.04.13" and "CC BY 4.0" in about.licence
    hull = MaterialsProjectHull(energies="formation").open(SAMPLES)
    assert hull.describe()["compositions"] == 89 + 4
    assert hull.e_above_hull(Composition("Mg2O2"), -2.5) == pytest.approx(0.5)
    assert hull.e_above_hull(Composition("MgN2O6"), -1.25) == pytest.approx(0.0)
    assert hull.e_above_hull(Composition("NaN"), 0.1) == pytest.approx(0.1)
    assert MaterialsProjectHull().open("chgnet").describe()["scale"].endswith("corrections")
    assert not list(fetched.path.parent.glob("*.part"))
    for path in (tmp_path / "cache").rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes()


def test_each_version_is_fetched_once(api: Api) -> None:
    fetch_materials_project(KEY)
    n_asked = len(api.asked)
    again = fetch_materials_project(KEY)
    assert again.fresh is False and len(api.asked) == n_asked
    api.version, api.rows = "2026.07.01", [*ROWS, ("MgS", -1.0, 0.0)]
    newer = fetch_materials_project(KEY)
    assert newer.fresh and newer.known.about.date == "2026.07.01" and len(newer.known) == 94


@pytest.mark.parametrize("failures", [[503, 429], ["cut", "cut"], ["<html>", 500, "[1, 2]"]])
def test_temporary_errors_are_retried(api: Api, failures: list[int | str]) -> None:
    api.failures, api.after = failures, 1
    assert len(fetch_materials_project(KEY).known) == 93


def test_interrupted_transfer_is_resumed(api: Api) -> None:
    api.failures, api.after = [500] * 5, 2
    with pytest.raises(InputError, match="the server answers 500; the same command continues"):
        fetch_materials_project(KEY)
    assert not fetched_path().exists()  # no file that looks complete
    (part,) = fetched_path().parent.glob("*.part")
    with part.open("a") as file:  # the incomplete line of a killed process
        file.write('[{"material_id": "mp-4", "formu')
    api.asked.clear()
    fetched = fetch_materials_project(KEY)
    assert [query["_skip"] for query in api.asked] == [["4"], ["6"]]
    whole = fetch_materials_project(KEY, out=fetched.path.with_name("other.parquet"))
    assert fetched.known.content_hash == whole.known.content_hash
    assert not list(fetched.path.parent.glob("*.part"))


def test_pages_of_another_version_are_discarded(api: Api) -> None:
    api.failures, api.after = [500] * 5, 2
    with pytest.raises(InputError):
        fetch_materials_project(KEY)
    api.version = "2026.07.01"
    api.asked.clear()
    assert fetch_materials_project(KEY).known.about.date == "2026.07.01"
    assert api.asked[0]["_skip"] == ["0"]


def test_repeated_rows_do_not_count_as_complete(api: Api) -> None:
    real = api.answer

    def overlapping(path: str, query: dict[str, list[str]]) -> object:
        if query.get("_skip") == ["2"]:
            query = {**query, "_skip": ["0"]}
        return real(path, query)

    api.answer = overlapping  # type: ignore[method-assign]
    with pytest.raises(InputError, match="7 materials were announced, but 5 were received"):
        fetch_materials_project(KEY)
    api.answer = real  # type: ignore[method-assign]
    assert len(fetch_materials_project(KEY).known) == 93


def error_line(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The error of the command: one line without the API key."""
    assert main(["hull", "fetch", "mp", *arguments]) == 2
    told = capsys.readouterr()
    assert told.err.count("\n") == 1 and told.out == ""
    assert KEY not in told.err
    return told.err


def test_errors_are_one_line(
    api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = error_line(capsys=capsys)
    assert "needs your API key" in told and "MP_API_KEY" in told and mp_fetch.KEY_PAGE in told
    told = error_line("key=wrong", capsys=capsys)
    assert "refuses the API key (401)" in told and "wrong" not in told
    told = error_line(f"key={KEY} x", capsys=capsys)
    assert "is not an API key" in told
    for status in (302, 404):
        api.failures = [status]
        assert f"the server answers {status}" in error_line(f"key={KEY}", capsys=capsys)
    api.failures = ['{"data": 1}']
    assert "something other than materials" in error_line(f"key={KEY}", capsys=capsys)
    api.rows = [("Xx2", -1.0, 0.0)]
    assert "'Xx2' is not a formula" in error_line(f"key={KEY}", capsys=capsys)
    (tmp_path / "file").write_text("")
    out = f"out={tmp_path / 'file' / 'a.parquet'}"
    assert "can't be written" in error_line(f"key={KEY}", out, capsys=capsys)
    monkeypatch.setenv(mp_fetch.ENDPOINT_VARIABLE, "http://127.0.0.1:9")
    assert "can't be reached" in error_line(f"key={KEY}", capsys=capsys)
    monkeypatch.setenv(mp_fetch.ENDPOINT_VARIABLE, "http://example.org")
    assert "must begin with https://" in error_line(f"key={KEY}", capsys=capsys)
    assert "no setting named 'keys'; did you mean 'key'?" in error_line("keys=a", capsys=capsys)
    assert main(["hull", "fetch", "oqmd"]) == 2
    assert "known: mp" in capsys.readouterr().err


def test_command_fetches_and_builds(
    api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(mp_fetch.KEY_VARIABLE, KEY)
    assert main(["hull", "fetch", "mp"]) == 0
    told = capsys.readouterr()
    assert "93 compositions of the Materials Project, database version 2026.04.13" in told.out
    assert "Use it with hull=mp\n" in told.out and KEY not in told.out + told.err
    out = tmp_path / "mine.parquet"
    assert main(["hull", "fetch", "mp", f"out={out}"]) == 0
    assert f"hull=file hull.file={out}" in capsys.readouterr().out
    opened = MaterialsProjectHull(out).open("chgnet")
    assert opened.known.content_hash == MaterialsProjectHull().open("chgnet").known.content_hash


def test_interrupted_command_does_not_show_the_key(
    api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mp_fetch, "fetch_materials_project", interrupted)
    assert main(["hull", "fetch", "mp", f"key={KEY}"]) == 3
    told = capsys.readouterr().err
    assert KEY not in told and "go on with: novelty-metric hull fetch mp key=KEY" in told


def test_error_without_the_file_says_how_to_get_it(api: Api) -> None:
    with pytest.raises(InputError, match=r"no such file; novelty-metric hull fetch mp makes it"):
        MaterialsProjectHull().open("chgnet")
