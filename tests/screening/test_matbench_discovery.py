"""The hull of matbench-discovery, from small files in place of the package's own."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import importlib.util
import json
import pickle
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from monty.json import MontyEncoder
from pymatgen.analysis.phase_diagram import PatchedPhaseDiagram, PDEntry, PhaseDiagram
from pymatgen.core import Composition, Lattice, Structure
from pymatgen.entries.compatibility import MaterialsProject2020Compatibility
from pymatgen.entries.computed_entries import (
    CompositionEnergyAdjustment,
    ComputedEntry,
    ComputedStructureEntry,
)

from novelty_metric.errors import InputError
from novelty_metric.screening import matbench_discovery as adapter
from novelty_metric.screening.compositions import elemental_energies
from novelty_metric.screening.hull import SAMPLES, hull_distance
from novelty_metric.screening.matbench_discovery import (
    DIAGRAM,
    ELEMENTS,
    ENTRIES,
    DataFile,
    MatbenchDiscoveryHull,
    data_folders,
)
from novelty_metric.support import download as download_module

CELL = Structure(Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
OXIDE = CompositionEnergyAdjustment(-0.687, 1, name="MP2020 anion correction (oxide)")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of the package; environment variables name no other one."""
    monkeypatch.setenv("NOVELTY_METRIC_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in adapter.CACHE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(adapter, "_checkout", lambda: None)
    return tmp_path / "home" / ".cache" / "matbench-discovery"


def diagram_entries() -> list[ComputedEntry]:
    """Mg, O and the corrected oxide, and one entry of another functional."""
    return [
        ComputedEntry("Mg", -1.6, entry_id="mp-1", parameters={"run_type": "GGA"}),
        ComputedEntry("O8", -39.4, entry_id="mp-2", parameters={"run_type": "GGA"}),
        ComputedStructureEntry(
            CELL, -11.9, energy_adjustments=[OXIDE], entry_id="mp-3", parameters={"run_type": "GGA"}
        ),
        ComputedEntry("MgO2", -30.0, entry_id="mp-4", parameters={"run_type": "R2SCAN"}),
    ]


def write_entries(folder: Path) -> Path:
    """In the format of the published file: a compressed pandas table as JSON."""
    entries = diagram_entries()
    table = pd.DataFrame(
        {"material_id": [e.entry_id for e in entries], "entry": [e.as_dict() for e in entries]}
    )
    path = folder / ENTRIES.path
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_json(path)
    return path


def write_diagram(folder: Path) -> Path:
    """A compressed, pickled `PatchedPhaseDiagram`."""
    path = folder / DIAGRAM.path
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wb") as file:
        pickle.dump(PatchedPhaseDiagram(diagram_entries()[:3]), file)
    return path


def test_hull_of_the_entries(folder: Path) -> None:
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


def test_energies_follow_from_the_potential(folder: Path) -> None:
    write_entries(folder)
    oxide = Composition("MgO")
    corrected = MatbenchDiscoveryHull().open("chgnet")
    uncorrected = MatbenchDiscoveryHull().open("mace-medium-mpa-0")
    assert corrected.e_above_hull(oxide, (-11.9 - 0.687) / 2) == pytest.approx(0, abs=1e-9)
    assert uncorrected.e_above_hull(oxide, -11.9 / 2) == pytest.approx(0, abs=1e-9)
    assert uncorrected.describe()["energies"] == "uncorrected"
    asked = MatbenchDiscoveryHull(energies="uncorrected").open("chgnet")
    assert asked.describe() == uncorrected.describe()
    with pytest.raises(InputError, match="'other' was trained on are not known"):
        MatbenchDiscoveryHull().open("other")


def test_corrections_of_a_processed_entry_are_kept(folder: Path) -> None:
    """An entry that pymatgen corrected with MP2020, like those of the phase diagram."""
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


def test_pickle_is_loaded_only_on_request(folder: Path, tmp_path: Path) -> None:
    path = write_diagram(folder)
    with pytest.raises(InputError) as caught:
        MatbenchDiscoveryHull().open("chgnet")
    told = str(caught.value)
    assert str(path) in told and "hull.allow_pickle=true" in told and ENTRIES.url in told
    assert "\n" not in told

    class WritesOnUnpickling:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "went off",)

    bomb = gzip.compress(pickle.dumps(WritesOnUnpickling()))
    path.write_bytes(bomb)
    with pytest.raises(InputError, match="is a pickle"):
        MatbenchDiscoveryHull().open("chgnet")
    assert not (tmp_path / "went off").exists()
    with pytest.raises(InputError, match="no phase diagram can be read"):
        MatbenchDiscoveryHull(allow_pickle=True).open("chgnet")
    assert (tmp_path / "went off").exists()  # so the first call did not unpickle it


def test_pickled_diagram_gives_the_same_hull(folder: Path, tmp_path: Path) -> None:
    write_diagram(folder)
    pickled = MatbenchDiscoveryHull(allow_pickle=True).open("chgnet")
    (folder / DIAGRAM.path).unlink()
    write_entries(folder)
    plain = MatbenchDiscoveryHull().open("chgnet")
    # If both files exist, the entries are read, which needs no permission.
    write_diagram(folder)
    both = MatbenchDiscoveryHull(allow_pickle=True).open("chgnet")
    assert both.describe() == plain.describe()
    assert pickled.describe()["content_hash"] == plain.describe()["content_hash"]
    for formula in ("MgO", "Mg3O"):
        composition = Composition(formula)
        assert pickled.e_above_hull(composition, -3.0) == plain.e_above_hull(composition, -3.0)


def test_damaged_pickle_is_one_clear_error(folder: Path) -> None:
    path = write_diagram(folder)
    for content in (path.read_bytes()[:-50], gzip.compress(b"not a pickle"), b"nothing"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="no phase diagram can be read") as caught:
            MatbenchDiscoveryHull(allow_pickle=True).open("chgnet")
        assert "\n" not in str(caught.value)


def test_elements_missing_in_the_diagram(folder: Path) -> None:
    path = write_entries(folder)
    with gzip.open(folder / ELEMENTS.path, "wt") as file:
        references = {"Na": ComputedEntry("Na2", -2.6), "Mg": ComputedEntry("Mg", -9.0)}
        json.dump({name: entry.as_dict() for name, entry in references.items()}, file)
    hull = MatbenchDiscoveryHull().open("chgnet")
    assert hull.describe()["elements_from_references"] == ["Na"]
    assert hull.e_above_hull(Composition("Na"), -1.2) == pytest.approx(0.1)
    assert hull.e_above_hull(Composition("Mg"), -1.6) == pytest.approx(0.0)
    assert path.exists()


def test_both_names_of_the_folder(
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
    """A server on the loopback address instead of the network, and its content."""
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

    def publish(content: bytes, name: str = "ENTRIES") -> None:
        state["content"] = content
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        file = dataclasses.replace(getattr(adapter, name), url=url, md5=digest)
        monkeypatch.setattr(adapter, name, file)

    state["publish"] = publish
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


POTENTIALS = {"ENTRIES": "mace-medium-mpa-0", "FORMATION_ENERGIES": "chgnet"}
"""For each choice of energies, by the file that is downloaded."""
both_files = pytest.mark.parametrize("name", POTENTIALS)


@both_files
def test_download(folder: Path, tmp_path: Path, served: dict[str, Any], name: str) -> None:
    write = write_entries if name == "ENTRIES" else write_formation_energies
    content = write(tmp_path / "made").read_bytes()
    served["publish"](content, name)
    told = []
    hull = MatbenchDiscoveryHull().open(
        POTENTIALS[name], progress=lambda *arguments: told.append(arguments)
    )
    assert hull.describe()["as_published"] is True
    assert (folder / getattr(adapter, name).path).read_bytes() == content
    assert told[0][0] == "download the hull"
    assert not list(folder.rglob("*.part*"))


@both_files
def test_download_of_wrong_content(folder: Path, served: dict[str, Any], name: str) -> None:
    served["publish"](b"as published", name)
    served["content"] = b"<html>a page that asks for a login</html>"
    with pytest.raises(InputError, match=r"not the published .*MD5 .* was expected"):
        MatbenchDiscoveryHull().open(POTENTIALS[name])
    assert not (folder / getattr(adapter, name).path).exists()


@both_files
@pytest.mark.parametrize("status", [202, 403, 503])
def test_server_that_refuses(folder: Path, served: dict[str, Any], status: int, name: str) -> None:
    served["publish"](b"", name)
    served["status"] = status
    check_line(folder, f"the server answers {status}", name)


@both_files
def test_no_network(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(download_module.time, "sleep", lambda seconds: None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    file = dataclasses.replace(getattr(adapter, name), url="http://127.0.0.1:9/files/1")
    monkeypatch.setattr(adapter, name, file)
    check_line(folder, "can't be reached", name)


@both_files
def test_folder_that_cannot_be_written(folder: Path, name: str) -> None:
    folder.parent.mkdir(parents=True)
    folder.write_text("a file in the way")
    check_line(folder, "Not a directory", name)


def check_line(folder: Path, reason: str, name: str) -> None:
    """One line: the missing file, the reason, its source and its place."""
    with pytest.raises(InputError) as caught:
        MatbenchDiscoveryHull().open(POTENTIALS[name])
    told = str(caught.value)
    wanted = getattr(adapter, name)
    for part in (reason, wanted.url, wanted.md5, str(folder / wanted.path), "MBD_CACHE_DIR"):
        assert part in told, part
    assert "\n" not in told


# Formation energies


FORMATIONS = [
    # NaN is the formula of sodium nitride, not a missing value.
    ("MgO", -3.0, 0.0),
    ("MgO", -2.5, 0.5),
    ("Mg(NO3)2", -1.2, 0.0),
    ("NaN", 0.1, 0.3),
    ("O2", 0.0, 0.0),
    ("Mg", 0.0, 0.0),
    ("Mg", 0.2, 0.2),
    ("MgN", None, 0.1),
]


def write_formation_energies(folder: Path, name: str = "formula") -> Path:
    """In the format of the published file: a compressed CSV by `DataFrame.to_csv`."""
    table = pd.DataFrame(FORMATIONS, columns=[name, *adapter._COLUMNS])
    table.insert(0, "material_id", [f"mp-{i}" for i in range(len(table))])
    table["energy_type"] = "GGA"
    path = folder / adapter.FORMATION_ENERGIES.path
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("name", ["formula", "formula_pretty"])
def test_hull_of_formation_energies(folder: Path, name: str) -> None:
    """Agrees with a diagram of pymatgen of the same energies on the same scale."""
    write_formation_energies(folder, name)
    elements = elemental_energies()

    def total(formula: str, formation: float) -> float:
        composition = Composition(formula)
        return formation + sum(
            composition.get_atomic_fraction(e) * elements[e.symbol] for e in composition
        )

    entries = [
        PDEntry(Composition(formula), total(formula, energy) * Composition(formula).num_atoms)
        for formula, energy, _ in FORMATIONS
        if energy is not None
    ]
    entries += [PDEntry(Composition(symbol), elements[symbol]) for symbol in ("N", "Na", "O")]
    diagram = PhaseDiagram(entries)
    hull = MatbenchDiscoveryHull().open("chgnet")
    for formula in ("MgO", "Mg3O", "MgN2O5", "NaN", "NaMgO", "N2", "Na2O"):
        composition = Composition(formula)
        expected = -4.0 - diagram.get_hull_energy_per_atom(composition)
        assert hull.e_above_hull(composition, -4.0) == pytest.approx(expected, abs=1e-6)
        found = hull_distance(hull, composition, -4.0)
        assert found is not None and found.decomposition == pytest.approx(
            {
                entry.composition.reduced_formula: share
                for entry, share in diagram.get_decomposition(composition).items()
            },
            abs=1e-6,
        )
    described = hull.describe()
    assert described["name"] == "matbench_discovery" and described["date"] == "2023-01-10"
    assert described["file"] == adapter.FORMATION_ENERGIES.path.split("/")[1]
    assert described["compositions"] == 89 + 3


def test_formation_energies_are_cached(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_formation_energies(folder)
    first = MatbenchDiscoveryHull().open("chgnet").describe()
    assert len(list((tmp_path / "own" / "hulls").glob("*.parquet"))) == 1
    with monkeypatch.context() as patched:
        patched.setattr(adapter, "_materials", None)
        assert MatbenchDiscoveryHull().open("chgnet").describe() == first
    (kept,) = (tmp_path / "own" / "hulls").glob("*.parquet")
    kept.write_bytes(kept.read_bytes()[:50])  # a damaged cache is replaced
    assert MatbenchDiscoveryHull().open("chgnet").describe() == first
    with gzip.open(path, "at") as file:  # another file of the same name
        file.write("mp-9,MgO,-3.5,0.0,GGA\n")
    assert MatbenchDiscoveryHull().open("chgnet").describe() != first


def test_existing_entries_have_priority_over_a_download(folder: Path) -> None:
    write_entries(folder)
    assert "entries" in MatbenchDiscoveryHull().open("chgnet").describe()
    write_formation_energies(folder)
    assert "entries" not in MatbenchDiscoveryHull().open("chgnet").describe()
    assert "entries" in MatbenchDiscoveryHull().open("mace-medium-mpa-0").describe()
    assert "entries" in MatbenchDiscoveryHull(energies="uncorrected").open("chgnet").describe()


def test_other_file_name_of_the_formation_energies(folder: Path) -> None:
    path = write_formation_energies(folder)
    path.rename(folder / adapter._OTHER_NAME.path)
    described = MatbenchDiscoveryHull().open("chgnet").describe()
    assert described["file"] == adapter._OTHER_NAME.path.split("/")[1] != path.name


def test_formation_energies_of_samples(folder: Path) -> None:
    write_formation_energies(folder)
    hull = MatbenchDiscoveryHull(energies="formation").open(SAMPLES)
    assert hull.e_above_hull(Composition("Mg2O2"), -2.9) == pytest.approx(0.1)
    with pytest.raises(InputError, match="gives total energies"):
        MatbenchDiscoveryHull(energies="formation").open("chgnet")


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda data: data[:-20], "cut short"),
        (lambda data: b"<html>", "damaged or cut short"),
        (lambda data: gzip.compress(b"a,b\n1,2\n"), "lacks one of the columns"),
        (lambda data: gzip.compress(gzip.decompress(data) + b"mp-9,X,1\n"), "has 3 fields"),
        (
            lambda data: gzip.compress(gzip.decompress(data) + b"mp,Xy3,-1,0,G\n"),
            "'Xy3' is not a formula",
        ),
        (lambda data: gzip.compress(gzip.decompress(data) + b"mp,MgO,a,0,G\n"), "'a'"),
    ],
)
def test_damaged_formation_energies_are_one_clear_error(
    folder: Path, damage: Any, text: str
) -> None:
    path = write_formation_energies(folder)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=text) as caught:
        MatbenchDiscoveryHull().open("chgnet")
    told = str(caught.value)
    assert str(path) in told and "remove it" in told and "\n" not in told


class _Package:
    """The installed package, represented by a folder of files."""

    def __init__(self, files: dict[str, str], folder: Path) -> None:
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        self.folder = folder


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"figshare/1.0.0.json": '{"files": {"k": ["https://x/1", "2030-new.csv.gz"]}}'},
            DataFile("mp/2030-new.csv.gz", "https://x/1", ""),
        ),
        (
            {"figshare/1.0.0.json": '{"files": {"k": ["https://x/1", "old.csv.gz"]}}'},
            DataFile("mp/old.csv.gz", "https://x/1", "known"),
        ),
        (
            {"data-files.yml": "k:\n  url: https://x/2\n  path: mp/b.csv.gz\n  md5: abc\n"},
            DataFile("mp/b.csv.gz", "https://x/2", "abc"),
        ),
        ({"figshare/1.0.0.json": "no json", "data-files.yml": "- 1"}, None),
        ({}, None),
    ],
)
def test_addresses_agree_with_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], expected: Any
) -> None:
    package = _Package(files, tmp_path / "package")
    monkeypatch.setattr(adapter, "_resources", lambda: package.folder)
    known = DataFile("mp/old.csv.gz", "https://old", "known")
    assert adapter._listed("k", known) == (expected or known)
    monkeypatch.setattr(adapter, "_resources", lambda: None)
    assert adapter._listed("k", known) == known


def test_package_is_not_imported(folder: Path, run_python: Callable[..., Any]) -> None:
    write_entries(folder)
    code = (
        "import sys\n"
        "from novelty_metric.screening.matbench_discovery import MatbenchDiscoveryHull\n"
        "MatbenchDiscoveryHull().open('chgnet'); "
        "print([m for m in sys.modules if m.split('.')[0] in "
        "('matbench_discovery', 'pymatviz', 'plotly', 'torch')])"
    )
    done = run_python("-c", code, check=True)
    assert done.stdout.strip() == "[]"


def test_file_names_agree_with_the_installed_package() -> None:
    found = importlib.util.find_spec("matbench_discovery")
    if found is None or found.origin is None:
        pytest.skip("matbench-discovery is not installed")
    package = Path(found.origin).parent
    sources = [*package.glob("*.py"), *package.glob("data-files.yml")]
    text = "\n".join(path.read_text("utf-8") for path in sources)
    for file in (ENTRIES, DIAGRAM, ELEMENTS, adapter.FORMATION_ENERGIES):
        assert file.path in text and file.url.rsplit("/", 1)[1] in text
    assert any(name in text for name in adapter.CACHE_VARIABLES)
    assert "~/.cache/matbench-discovery" in text
