"""Invalid input to the command: one error and status 2, or a row with the reason."""

from __future__ import annotations

import csv
import io
import json
import math
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from novelty_metric.cli import main
from novelty_metric.reference import Reference, arrow_file, open_reference
from novelty_metric.reference.arrays import CrystalArrays
from novelty_metric.reference.manifest import Manifest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A separate cache, an empty working folder, and no tracebacks."""
    monkeypatch.setenv("NOVELTY_METRIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NOVELTY_METRIC_DEBUG", raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


# Crystals as text


@dataclass(frozen=True)
class CrystalText:
    """A crystal in a file, valid or invalid: an orthogonal cell and sites."""

    cell: tuple[float, float, float]
    sites: tuple[tuple[str, float, float, float], ...]
    occupancies: tuple[float, ...] = field(default=())

    @property
    def occupancy(self) -> tuple[float, ...]:
        return self.occupancies or (1.0,) * len(self.sites)

    def cif(self) -> str:
        lines = ["data_crystal"]
        lines += [f"_cell_length_{name} {x}" for name, x in zip("abc", self.cell, strict=True)]
        lines += [f"_cell_angle_{name} 90" for name in ("alpha", "beta", "gamma")]
        lines += ["loop_", "_atom_site_label", "_atom_site_type_symbol"]
        lines += [f"_atom_site_fract_{name}" for name in "xyz"] + ["_atom_site_occupancy"]
        lines += [
            f"{symbol}{number} {symbol} {x} {y} {z} {occupancy}"
            for number, ((symbol, x, y, z), occupancy) in enumerate(
                zip(self.sites, self.occupancy, strict=True), start=1
            )
        ]
        return "\n".join(lines) + "\n"

    def extxyz(self) -> str:
        a, b, c = self.cell
        lines = [
            str(len(self.sites)),
            f'Lattice="{a} 0 0 0 {b} 0 0 0 {c}" Properties=species:S:1:pos:R:3 pbc="T T T"',
        ]
        lines += [f"{symbol} {x * a} {y * b} {z * c}" for symbol, x, y, z in self.sites]
        return "\n".join(lines) + "\n"

    def as_dict(self) -> dict[str, Any]:
        """In the format of pymatgen's Structure."""
        return {
            "@module": "pymatgen.core.structure",
            "@class": "Structure",
            "charge": 0,
            "lattice": {"matrix": np.diag(self.cell).tolist(), "pbc": [True] * 3},
            "sites": [
                {
                    "species": [{"element": symbol, "occu": occupancy}],
                    "abc": [x, y, z],
                    "label": symbol,
                }
                for (symbol, x, y, z), occupancy in zip(self.sites, self.occupancy, strict=True)
            ],
        }


HALF = ("Cl", 0.5, 0.5, 0.5)
# Both crystals are in the packaged reference, so their verdict is duplicate.
SALT = CrystalText(
    (5.64, 5.64, 5.64),
    tuple(
        (symbol, x + shift, y, z)
        for symbol, shift in (("Na", 0.0), ("Cl", 0.5))
        for x, y, z in ((0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0))
    ),
)
CAESIUM = CrystalText((4.12, 4.12, 4.12), (("Cs", 0, 0, 0), HALF))


def at(value: float) -> CrystalText:
    return CrystalText((4, 4, 4), (("Na", value, 0, 0), HALF))


BAD: dict[str, CrystalText] = {
    "nan coordinate": at(math.nan),
    "infinite coordinate": at(math.inf),
    "huge coordinate": at(1e300),
    "nan cell": CrystalText((math.nan, 4, 4), (("Na", 0, 0, 0), HALF)),
    "infinite cell": CrystalText((math.inf, 4, 4), (("Na", 0, 0, 0), HALF)),
    "zero volume": CrystalText((0, 4, 4), (("Na", 0, 0, 0), HALF)),
    "coincident atoms": CrystalText((4, 4, 4), (("Na", 0.5, 0.5, 0.5), HALF)),
    "element 0": CrystalText((4, 4, 4), (("X", 0, 0, 0), HALF)),
    "no such element": CrystalText((4, 4, 4), (("Qq", 0, 0, 0), HALF)),
    "partial occupancy": CrystalText((4, 4, 4), (("Na", 0, 0, 0), HALF), (0.5, 1.0)),
    "500 atoms": CrystalText(
        (15, 30, 30),
        tuple(
            ("Na", x / 5, y / 10, z / 10) for x in range(5) for y in range(10) for z in range(10)
        ),
    ),
    "no atoms": CrystalText((4, 4, 4), ()),
}


def write_cif_folder(path: Path, crystals: list[CrystalText]) -> Path:
    path.mkdir()
    for position, crystal in enumerate(crystals):
        (path / f"{position}.cif").write_text(crystal.cif())
    return path


def write_cif_zip(path: Path, crystals: list[CrystalText]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for position, crystal in enumerate(crystals):
            archive.writestr(f"{position}.cif", crystal.cif())
    return path


def write_csv(path: Path, crystals: list[CrystalText]) -> Path:
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "cif"])
        table.writerows([position, crystal.cif()] for position, crystal in enumerate(crystals))
    return path


def write_extxyz(path: Path, crystals: list[CrystalText]) -> Path:
    path.write_text("".join(crystal.extxyz() for crystal in crystals))
    return path


def write_json(path: Path, crystals: list[CrystalText]) -> Path:
    path.write_text(json.dumps([crystal.as_dict() for crystal in crystals]))
    return path


def write_pt(path: Path, crystals: list[CrystalText]) -> Path:
    """In the format of DiffCSP."""
    from ase.data import atomic_numbers

    sites = [site for crystal in crystals for site in crystal.sites]
    torch.save(
        {
            "num_atoms": torch.tensor([len(crystal.sites) for crystal in crystals]),
            "atom_types": torch.tensor([atomic_numbers.get(site[0], 119) for site in sites]),
            "frac_coords": torch.tensor([site[1:] for site in sites], dtype=torch.float32),
            "lengths": torch.tensor([crystal.cell for crystal in crystals], dtype=torch.float32),
            "angles": torch.full((len(crystals), 3), 90.0),
        },
        path,
    )
    return path


WRITERS: dict[str, Callable[[Path, list[CrystalText]], Path]] = {
    "cifs": write_cif_folder,
    "cifs.zip": write_cif_zip,
    "table.csv": write_csv,
    "frames.extxyz": write_extxyz,
    "list.json": write_json,
    "samples.pt": write_pt,
}
NO_ROW = {
    ("partial occupancy", "frames.extxyz"): "the format has no occupancies",
    ("partial occupancy", "samples.pt"): "the format has no occupancies",
    # Coordinates that differ by an integer number of cells are the same position.
    **{
        ("huge coordinate", name): "coordinates of a CIF are wrapped into the cell on reading"
        for name in ("cifs", "cifs.zip", "table.csv")
    },
}


WARNING = "novelty-metric: warning: "
"""Prefix of warnings about a whole file: a third of the crystals is invalid here."""


def quiet_score(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Standard output of a successful run; only warnings about unusable crystals are allowed."""
    # Without `progress=false`, a first run would report its compilation.
    status = main(["score", "relaxer=none", "progress=false", *arguments])
    out, err = capfd.readouterr()
    assert all(line.startswith(WARNING) for line in err.splitlines()), err
    assert status == 0
    assert "Traceback" not in out
    return out


def verdict_rows(folder: Path) -> list[dict[str, str]]:
    text = (folder / "verdicts.csv").read_text()
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("file_name", WRITERS)
def test_each_invalid_crystal_is_one_row(
    file_name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Valid crystals precede and follow each of them."""
    bad = [text for name, text in BAD.items() if (name, file_name) not in NO_ROW]
    crystals = [SALT, *(text for one in bad for text in (one, CAESIUM, SALT))]
    path = WRITERS[file_name](tmp_path / file_name, crystals)
    quiet_score(capfd, f"samples={path}", f"out={tmp_path / 'out'}")
    found = verdict_rows(tmp_path / "out")
    assert len(found) == len(crystals)
    for crystal, row in zip(crystals, found, strict=True):
        if crystal in (SALT, CAESIUM):
            assert (row["verdict"], row["error"]) == ("duplicate", "")
            continue
        assert row["verdict"] == ""
        assert row["error"].strip()
        assert "\n" not in row["error"]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["samples"]["generated"] == len(crystals)


def test_reason_names_the_problem(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = {
        "nan coordinate": "nan",
        "infinite coordinate": "inf",
        "huge coordinate": "1e+300",
        "nan cell": "nan",
        "infinite cell": "inf",
        "zero volume": "volume",
        "coincident atoms": "coincident atoms (0 Å apart)",
        "element 0": "X",
        "no such element": "Qq",
        "partial occupancy": "partly occupied",
        "500 atoms": "500 sites, more than max_sites=300",
        "no atoms": "no atoms",
    }
    path = write_json(tmp_path / "list.json", [BAD[name] for name in text])
    quiet_score(capfd, f"samples={path}", f"out={tmp_path / 'out'}")
    assert text.keys() == BAD.keys()
    for word, bad in zip(text.values(), verdict_rows(tmp_path / "out"), strict=True):
        assert word.lower() in bad["error"].lower() or "not finite" in bad["error"]
        assert bad["verdict"] == ""


@pytest.mark.parametrize(
    "file_name",
    [
        "cifs.zip",
        "table.csv",
        "list.json",
        "frames.extxyz",
    ],
)
def test_isotopes_are_scored_as_hydrogen(
    file_name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    crystals = [
        CrystalText((4, 4, 4), (("Li", 0, 0, 0), (symbol, 0.5, 0.5, 0.5)))
        for symbol in ("H", "D", "T")
    ]
    path = WRITERS[file_name](tmp_path / file_name, crystals)
    quiet_score(capfd, f"samples={path}", f"out={tmp_path / 'out'}")
    first, *others = verdict_rows(tmp_path / "out")
    for row in (first, *others):
        for differs in ("id", "source", "seconds"):
            row.pop(differs)
    assert others == [first, first]
    assert (first["formula"], first["eligible"]) == ("LiH", "True")


def test_max_sites_can_be_raised(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_json(tmp_path / "list.json", [BAD["500 atoms"]])
    quiet_score(capfd, f"samples={path}", f"out={tmp_path / 'out'}", "max_sites=500")
    (row,) = verdict_rows(tmp_path / "out")
    assert row["n_sites"] == "500"
    assert row["verdict"] != ""


# Unusable input


def error_line(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The error line of an invalid call."""
    status = main(["score", "relaxer=none", "progress=false", *arguments])
    out, err = capfd.readouterr()
    assert out == ""
    assert status == 2, err
    assert err.startswith("novelty-metric: error: ")
    assert err.count("\n") == 1 and err.endswith("\n")
    assert "Traceback" not in err and "internal error" not in err
    return err


class WritesOnUnpickling:
    """Create a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


def empty_file(path: Path) -> Path:
    path.touch()
    return path


def truncated_zip(path: Path) -> Path:
    whole = write_cif_zip(path, [SALT, CAESIUM]).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def zip_with_a_changed_byte(path: Path) -> Path:
    """The directory of the archive is intact, so only reading detects the damage."""
    content = bytearray(write_cif_zip(path, [SALT]).read_bytes())
    content[60] ^= 0xFF
    path.write_bytes(content)
    return path


def truncated_pt(path: Path) -> Path:
    whole = write_pt(path, [SALT]).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def csv_without_crystals(path: Path) -> Path:
    path.write_text("id,formula,energy\na,NaCl,-3.4\nb,KCl,-3.2\n")
    return path


def csv_with_header_only(path: Path) -> Path:
    path.write_text("id,cif\n")
    return path


def noise(path: Path) -> Path:
    path.write_bytes(np.random.default_rng(1).bytes(5000))
    return path


def empty_folder(path: Path) -> Path:
    path.mkdir()
    return path


def empty_zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w"):
        return path


def plain_pickle(path: Path) -> Path:
    path.write_bytes(pickle.dumps({"a": 1}))
    return path


def wrong_pt(path: Path) -> Path:
    torch.save({"weights": torch.zeros(3)}, path)
    return path


UNUSABLE: dict[str, tuple[str, Callable[[Path], Path], str]] = {
    "an empty file": ("a.cif", empty_file, "the file is empty"),
    "an empty table": ("a.csv", empty_file, "the file is empty"),
    "a truncated zip": ("a.zip", truncated_zip, "cut short or damaged"),
    "a truncated pt": ("a.pt", truncated_pt, "cut short or damaged"),
    "a table without crystals": ("a.csv", csv_without_crystals, "column"),
    "a table without rows": ("a.csv", csv_with_header_only, "no crystal"),
    "noise": ("a.dat", noise, "not a format that can be read"),
    "an empty folder": ("folder", empty_folder, "no "),
    "an empty zip": ("a.zip", empty_zip, "no "),
    "a pickle": ("a.pkl", plain_pickle, "pickle"),
    "a checkpoint": ("a.pt", wrong_pt, ""),
    "a missing file": ("a.cif", lambda path: path, "no such file or folder"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_file_is_one_clear_error(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file_name, make, text = UNUSABLE[name]
    path = make(tmp_path / file_name)
    message = error_line(capfd, f"samples={path}")
    assert str(path) in message
    assert text in message
    # No incomplete file remains that would disturb the next run.
    out = tmp_path / "out"
    error_line(capfd, f"samples={path}", f"out={out}")
    assert not (out / "report.json").exists()


def test_damaged_member_is_a_row(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = zip_with_a_changed_byte(tmp_path / "a.zip")
    quiet_score(capfd, f"samples={path}", f"out={tmp_path / 'out'}")
    (row,) = verdict_rows(tmp_path / "out")
    assert row["verdict"] == "" and row["error"]


@pytest.mark.parametrize("inside", ["alone", "beside crystals"])
@pytest.mark.parametrize("legacy", [False, True])
def test_objects_in_a_pt_file_are_never_created(
    inside: str, legacy: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # pickle would run its code, which creates a file.
    pickle.loads(pickle.dumps(WritesOnUnpickling(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()

    marker = tmp_path / "marker"
    content: Any = WritesOnUnpickling(marker)
    if inside == "beside crystals":
        good = torch.load(write_pt(tmp_path / "good.pt", [SALT]))
        content = {**good, "eval_setting": content}
    path = tmp_path / "evil.pt"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    message = error_line(capfd, f"samples={path}")
    assert str(path) in message and "could run code" in message
    assert not marker.exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["model=no_such_model"], ["no model named 'no_such_model'", "generic"]),
        (["reference=no_such_set"], ["reference=no_such_set", "aflow"]),
        (["reference=aflw"], ["did you mean 'aflow'?"]),
        (["protocol=slow"], ["no protocol named 'slow'", "paper"]),
        (["relaxer=no_such_potential"], ["no relaxer named 'no_such_potential'", "chgnet"]),
        (["hull=no_such_hull"], ["no hull named 'no_such_hull'"]),
        (["scope=some"], ["scope is 'some'"]),
        (["protocol.stol=-1"], ["protocol.stol", "above 0"]),
        (["format=no_such_format"], ["no format named 'no_such_format'"]),
        (["column=no_such_column"], ["no_such_column"]),
        (["limit=0"], ["limit is 0"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_unknown_setting_is_one_clear_error(
    arguments: list[str], parts: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_csv(tmp_path / "table.csv", [SALT])
    message = error_line(capfd, f"samples={path}", *arguments)
    for part in parts:
        assert part in message


def test_out_that_cannot_be_written_is_reported_first(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("kept")
    path = write_cif_zip(tmp_path / "a.zip", [SALT])
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        message = error_line(capfd, f"samples={path}", f"out={out}")
        assert f"out={out} can't be written" in message
    assert (tmp_path / "file").read_text() == "kept"


# References


def small_store(path: Path) -> Path:
    Reference.from_structures([open_reference("aflow")[0]], ids=["one"]).save(path)
    return path


def store_without_crystals(path: Path) -> Path:
    manifest = Manifest.from_json(Reference.open(small_store(path)).manifest.to_json())
    arrays = CrystalArrays.from_prepared([])
    fields = {name: getattr(manifest, name) for name in manifest.__dataclass_fields__}
    crystals_hash = arrays.crystals_hash()
    fields |= {
        "count": 0,
        "read": 0,
        "crystals_hash": crystals_hash,
        "store_hash": arrays.store_hash(manifest.settings, crystals_hash),
    }
    arrow_file.write(path, arrays, Manifest(**fields).to_json())
    return path


def changed_store(where: float) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        content = bytearray(small_store(path).read_bytes())
        content[int(where * (len(content) - 1))] ^= 0x01
        path.write_bytes(content)
        return path

    return make


def truncated_store(path: Path) -> Path:
    whole = small_store(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


BAD_STORES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a file of no bytes": (empty_file, "an empty file"),
    "no crystal in it": (store_without_crystals, "contains no crystal"),
    "cut off": (truncated_store, "cut off"),
    "noise": (noise, "not a prepared reference"),
    "crystals": (lambda path: write_csv(path, [SALT]), "not a prepared reference"),
    "a folder": (empty_folder, "a folder, not a prepared reference"),
    **{f"a bit changed at {where}": (changed_store(where), "") for where in (0, 0.1, 0.5, 0.9, 1)},
}


@pytest.mark.parametrize("name", BAD_STORES)
def test_damaged_reference_is_one_clear_error(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make, text = BAD_STORES[name]
    path = make(tmp_path / "store.arrow")
    samples = write_cif_zip(tmp_path / "a.zip", [SALT])
    message = error_line(
        capfd, f"samples={samples}", f"reference={path}", f"out={tmp_path / 'out'}"
    )
    assert str(path) in message
    assert text in message
    # The error must never be "nothing matches".
    assert not (tmp_path / "out" / "report.json").exists()


def test_small_store_is_valid(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store = small_store(tmp_path / "store.arrow")
    samples = write_cif_zip(tmp_path / "a.zip", [SALT])
    quiet_score(capfd, f"samples={samples}", f"reference={store}", f"out={tmp_path / 'out'}")
    assert len(verdict_rows(tmp_path / "out")) == 1


def test_crystals_are_not_a_reference(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    table = write_csv(tmp_path / "train.csv", [SALT])
    message = error_line(capfd, f"samples={table}", f"reference={table}")
    assert "novelty-metric reference build" in message


# In another process, as for a user


@pytest.fixture
def command(run_python: Callable[..., Any]) -> Callable[..., Any]:
    return partial(run_python, "-m", "novelty_metric.cli", env={"OMP_NUM_THREADS": "1"})


@pytest.mark.parametrize(
    "name",
    [
        "noise",
        pytest.param("a truncated zip", marks=pytest.mark.slow),
        pytest.param("a missing file", marks=pytest.mark.slow),
    ],
)
def test_unusable_file_in_a_separate_process(
    name: str, tmp_path: Path, command: Callable[..., Any]
) -> None:
    file_name, make, text = UNUSABLE[name]
    path = make(tmp_path / file_name)
    done = command("score", "relaxer=none", f"samples={path}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert text in done.stderr


def test_invalid_crystals_in_a_separate_process(
    tmp_path: Path, command: Callable[..., Any]
) -> None:
    bad = [crystal for name, crystal in BAD.items() if (name, "cifs") not in NO_ROW]
    path = write_cif_folder(tmp_path / "cifs", [SALT, *bad, CAESIUM])
    arguments = ("relaxer=none", "progress=false", f"samples={path}", f"out={tmp_path / 'out'}")
    done = command("score", *arguments)
    assert done.returncode == 0
    assert all(line.startswith(WARNING) for line in done.stderr.splitlines()), done.stderr
    found = verdict_rows(tmp_path / "out")
    assert len(found) == len(bad) + 2
    assert sum(row["verdict"] == "duplicate" for row in found) == 2
    assert sum(row["verdict"] == "" and row["error"] != "" for row in found) == len(bad)
