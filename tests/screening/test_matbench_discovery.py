"""The hull of matbench-discovery, from small files of our own where the package keeps its own."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import importlib.util
import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from monty.json import MontyEncoder
from pymatgen.analysis.phase_diagram import PatchedPhaseDiagram
from pymatgen.core import Composition, Lattice, Structure
from pymatgen.entries.compatibility import MaterialsProject2020Compatibility
from pymatgen.entries.computed_entries import (
    CompositionEnergyAdjustment,
    ComputedEntry,
    ComputedStructureEntry,
)

from novelty_metric import download as download_module
from novelty_metric.errors import InputError
from novelty_metric.screening import matbench_discovery as adapter
from novelty_metric.screening.matbench_discovery import (
    DIAGRAM,
    ELEMENTS,
    ENTRIES,
    MatbenchDiscoveryHull,
    data_folders,
)

CELL = Structure(Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
OXIDE = CompositionEnergyAdjustment(-0.687, 1, name="MP2020 anion correction (oxide)")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package's folder, empty; nothing else is known to the environment."""
    monkeypatch.setenv("NOVELTY_METRIC_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in adapter.CACHE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(adapter, "_checkout", lambda: None)
    return tmp_path / "home" / ".cache" / "matbench-discovery"


def diagram_entries() -> list[ComputedEntry]:
    """Magnesium and oxygen, with the corrections of the oxide; one entry of another functional."""
    return [
        ComputedEntry("Mg", -1.6, entry_id="mp-1", parameters={"run_type": "GGA"}),
        ComputedEntry("O8", -39.4, entry_id="mp-2", parameters={"run_type": "GGA"}),
        ComputedStructureEntry(
            CELL, -11.9, energy_adjustments=[OXIDE], entry_id="mp-3", parameters={"run_type": "GGA"}
        ),
        ComputedEntry("MgO2", -30.0, entry_id="mp-4", parameters={"run_type": "R2SCAN"}),
    ]


def write_entries(folder: Path) -> Path:
    """As the package's authors wrote theirs: a table of pandas as JSON, compressed."""
    entries = diagram_entries()
    table = pd.DataFrame(
        {"material_id": [e.entry_id for e in entries], "entry": [e.as_dict() for e in entries]}
    )
    path = folder / ENTRIES.path
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_json(path)
    return path


def write_diagram(folder: Path) -> Path:
    """A pickled `PatchedPhaseDiagram`, compressed."""
    path = folder / DIAGRAM.path
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wb") as file:
        pickle.dump(PatchedPhaseDiagram(diagram_entries()[:3]), file)
    return path


def test_the_hull_of_the_entries(folder: Path) -> None:
    write_entries(folder)
    hull = MatbenchDiscoveryHull().open("chgnet")
    diagram = PatchedPhaseDiagram(diagram_entries()[:3])
    for formula in ("MgO", "Mg", "Mg3O", "MgO5"):
        composition = Composition(formula)
        expected = -3.0 - diagram.get_hull_energy_per_atom(composition)
        assert hull.e_above_hull(composition, -3.0) == pytest.approx(expected, abs=1e-8)
    assert hull.e_above_hull(Composition("NaO"), -3.0) is None
    described = hull.describe()
    assert len(described.pop("content_hash")) == 64
    assert described == {
        "name": "matbench_discovery",
        "file": "2023-02-07-mp-computed-structure-entries.json.gz",
        "as_published": False,
        "skipped": 1,
        "elements_from_references": [],
        "entries": 3,
        "energies": "corrected",
        "compositions": 3,
        "elements": 2,
    }


def test_energies_fit_the_potential(folder: Path) -> None:
    write_entries(folder)
    oxide = Composition("MgO")
    corrected = MatbenchDiscoveryHull().open("chgnet")
    uncorrected = MatbenchDiscoveryHull().open("mace-medium-mpa-0")
    assert corrected.e_above_hull(oxide, (-11.9 - 0.687) / 2) == pytest.approx(0, abs=1e-9)
    assert uncorrected.e_above_hull(oxide, -11.9 / 2) == pytest.approx(0, abs=1e-9)
    assert uncorrected.describe()["energies"] == "uncorrected"
    asked = MatbenchDiscoveryHull(energies="uncorrected").open("chgnet")
    assert asked.describe() == uncorrected.describe()
    with pytest.raises(InputError, match="'other' is not known"):
        MatbenchDiscoveryHull().open("other")


def test_corrections_of_a_processed_entry_are_kept(folder: Path) -> None:
    """An entry that pymatgen itself corrected by MP2020, as those of the diagram were."""
    parameters = {
        "run_type": "GGA",
        "hubbards": {},
        "software": "vasp",
        "potcar_symbols": ["PBE Mg_pv", "PBE O"],
        "is_hubbard": False,
    }
    entry = ComputedStructureEntry(
        CELL, -11.9, parameters=parameters, data={"oxidation_states": {"Mg": 2, "O": -2}}
    )
    (entry,) = MaterialsProject2020Compatibility(check_potcar=False).process_entries([entry])
    assert entry.correction == pytest.approx(-0.687)
    path = folder / ENTRIES.path
    path.parent.mkdir(parents=True)
    with gzip.open(path, "wt") as file:
        json.dump([entry, *diagram_entries()[:2]], file, cls=MontyEncoder)
    hull = MatbenchDiscoveryHull().open("chgnet")
    assert hull.e_above_hull(entry.composition, entry.energy_per_atom) == pytest.approx(0, abs=1e-9)


def test_a_pickle_needs_leave(folder: Path, tmp_path: Path) -> None:
    path = write_diagram(folder)
    with pytest.raises(InputError) as caught:
        MatbenchDiscoveryHull().open("chgnet")
    told = str(caught.value)
    assert str(path) in told and "hull.allow_pickle=true" in told and ENTRIES.url in told
    assert "\n" not in told

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "went off",)

    bomb = gzip.compress(pickle.dumps(Bomb()))
    path.write_bytes(bomb)
    with pytest.raises(InputError, match="is a pickle"):
        MatbenchDiscoveryHull().open("chgnet")
    assert not (tmp_path / "went off").exists()
    with pytest.raises(InputError, match="no phase diagram can be read"):
        MatbenchDiscoveryHull(allow_pickle=True).open("chgnet")
    assert (tmp_path / "went off").exists()  # so the first call did not read it


def test_the_pickled_diagram_is_the_same_hull(folder: Path, tmp_path: Path) -> None:
    write_diagram(folder)
    pickled = MatbenchDiscoveryHull(allow_pickle=True).open("chgnet")
    (folder / DIAGRAM.path).unlink()
    write_entries(folder)
    plain = MatbenchDiscoveryHull().open("chgnet")
    # Where both are there, the entries are read, and no leave is needed.
    write_diagram(folder)
    both = MatbenchDiscoveryHull(allow_pickle=True).open("chgnet")
    assert both.describe() == plain.describe()
    assert pickled.describe()["content_hash"] == plain.describe()["content_hash"]
    for formula in ("MgO", "Mg3O"):
        composition = Composition(formula)
        assert pickled.e_above_hull(composition, -3.0) == plain.e_above_hull(composition, -3.0)


def test_a_damaged_pickle_is_one_line(folder: Path) -> None:
    path = write_diagram(folder)
    for content in (path.read_bytes()[:-50], gzip.compress(b"not a pickle"), b"nothing"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="no phase diagram can be read") as caught:
            MatbenchDiscoveryHull(allow_pickle=True).open("chgnet")
        assert "\n" not in str(caught.value)


def test_elements_that_the_diagram_lacks(folder: Path) -> None:
    path = write_entries(folder)
    with gzip.open(folder / ELEMENTS.path, "wt") as file:
        references = {"Na": ComputedEntry("Na2", -2.6), "Mg": ComputedEntry("Mg", -9.0)}
        json.dump({name: entry.as_dict() for name, entry in references.items()}, file)
    hull = MatbenchDiscoveryHull().open("chgnet")
    assert hull.describe()["elements_from_references"] == ["Na"]
    assert hull.e_above_hull(Composition("Na"), -1.2) == pytest.approx(0.1)
    assert hull.e_above_hull(Composition("Mg"), -1.6) == pytest.approx(0.0)
    assert path.exists()


def test_folder_by_either_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert data_folders() == [folder]
    for name in adapter.CACHE_VARIABLES:
        monkeypatch.setenv(name, str(tmp_path / name))
        write_entries(tmp_path / name)
        assert data_folders() == [tmp_path / name]
        assert MatbenchDiscoveryHull().open("chgnet").describe()["entries"] == 3
        monkeypatch.delenv(name)
    for name in adapter.CACHE_VARIABLES:
        monkeypatch.setenv(name, str(tmp_path / name))
    assert data_folders() == [tmp_path / name for name in adapter.CACHE_VARIABLES]


def test_folder_of_a_checkout(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in adapter.CACHE_VARIABLES:
        monkeypatch.delenv(name, raising=False)

    class Installed:
        def __init__(self, text: str | None) -> None:
            self.text = text

        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return self.text

    where = {"url": f"file://{tmp_path}/my%20repo", "dir_info": {"editable": True}}
    monkeypatch.setattr(metadata, "distribution", lambda name: Installed(json.dumps(where)))
    assert data_folders() == [tmp_path / "my repo" / "data", folder]
    for text in (None, "{}", '{"url": "https://x", "archive_info": {}}', "no json"):
        monkeypatch.setattr(metadata, "distribution", lambda name, text=text: Installed(text))
        assert data_folders() == [folder]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A server on the loopback address in place of the network, and what it gives."""
    state: dict[str, Any] = {"status": 200, "content": b""}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(state["status"])
            self.send_header("Content-Length", str(len(state["content"])))
            self.end_headers()
            self.wfile.write(state["content"])

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download_module.time, "sleep", lambda seconds: None)
    url = f"http://127.0.0.1:{server.server_address[1]}/files/1"

    def publish(content: bytes) -> None:
        state["content"] = content
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        monkeypatch.setattr(adapter, "ENTRIES", dataclasses.replace(ENTRIES, url=url, md5=digest))

    state["publish"] = publish
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def test_download(folder: Path, tmp_path: Path, served: dict[str, Any]) -> None:
    content = write_entries(tmp_path / "made").read_bytes()
    served["publish"](content)
    told = []
    hull = MatbenchDiscoveryHull().open("chgnet", progress=lambda *words: told.append(words))
    assert hull.describe()["as_published"] is True
    assert (folder / ENTRIES.path).read_bytes() == content
    assert told[0][0] == "download the hull"
    assert not list(folder.rglob("*.part*"))


def test_download_of_something_else(folder: Path, served: dict[str, Any]) -> None:
    served["publish"](b"as published")
    served["content"] = b"<html>a page that asks for a login</html>"
    with pytest.raises(InputError, match=r"not the published .*MD5 .* was expected"):
        MatbenchDiscoveryHull().open("chgnet")
    assert not (folder / ENTRIES.path).exists()


@pytest.mark.parametrize("status", [202, 403, 503])
def test_a_server_that_refuses(folder: Path, served: dict[str, Any], status: int) -> None:
    served["publish"](b"")
    served["status"] = status
    check_line(folder, f"the server answers {status}")


def test_no_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module.time, "sleep", lambda seconds: None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(
        adapter, "ENTRIES", dataclasses.replace(ENTRIES, url="http://127.0.0.1:9/files/1")
    )
    check_line(folder, "can't be reached")


def test_a_folder_that_cannot_be_written(folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.write_text("a file in the way")
    check_line(folder, "Not a directory")


def check_line(folder: Path, reason: str) -> None:
    """One line: what is needed, why it is not had, where to get it and where to put it."""
    with pytest.raises(InputError) as caught:
        MatbenchDiscoveryHull().open("chgnet")
    told = str(caught.value)
    wanted = adapter.ENTRIES
    for part in (reason, wanted.url, wanted.md5, str(folder / wanted.path), "MBD_CACHE_DIR"):
        assert part in told, part
    assert "\n" not in told


def test_the_package_is_not_imported(folder: Path) -> None:
    write_entries(folder)
    code = (
        "import sys\n"
        "from novelty_metric.screening.matbench_discovery import MatbenchDiscoveryHull\n"
        "MatbenchDiscoveryHull().open('chgnet'); "
        "print([m for m in sys.modules if m.split('.')[0] in "
        "('matbench_discovery', 'pymatviz', 'plotly', 'torch')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_are_those_of_the_installed_package() -> None:
    found = importlib.util.find_spec("matbench_discovery")
    if found is None or found.origin is None:
        pytest.skip("matbench-discovery is not installed")
    package = Path(found.origin).parent
    sources = [*package.glob("*.py"), *package.glob("data-files.yml")]
    text = "\n".join(path.read_text("utf-8") for path in sources)
    for file in (ENTRIES, DIAGRAM, ELEMENTS):
        assert file.path in text and file.url.rsplit("/", 1)[1] in text
    assert any(name in text for name in adapter.CACHE_VARIABLES)
    assert "~/.cache/matbench-discovery" in text
