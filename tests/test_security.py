"""Untrusted files: their content is never executed and never chooses where files are written."""

from __future__ import annotations

import ast
import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pymatgen.core import Lattice, Structure

import novelty_metric
from novelty_metric import read_samples
from novelty_metric.cli import main
from novelty_metric.errors import InputError

PACKAGE = Path(novelty_metric.__file__).parent

# Calls that can execute code or start a shell: (module, attribute).
DANGEROUS = {
    ("pickle", "load"),
    ("pickle", "loads"),
    ("pickle", "Unpickler"),
    ("joblib", "load"),
    ("pd", "read_pickle"),
    ("os", "system"),
    ("os", "popen"),
    ("yaml", "load"),
    ("yaml", "unsafe_load"),
    ("yaml", "full_load"),
    ("marshal", "loads"),
    ("shelve", "open"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "compile"),
    ("builtins", "__import__"),
}
ALLOWED = {
    # Written by a process of the same training; only its user can read the file.
    ("callbacks/process.py", "pickle.load"),
    # Only with hull.allow_pickle=true.
    ("screening/matbench_discovery.py", "pickle.load"),
    # With a loader derived from yaml.SafeLoader.
    ("support/yaml_text.py", "yaml.load"),
}


def calls() -> Iterator[tuple[str, ast.Call, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                function = node.func
                if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
                    name = f"{function.value.id}.{function.attr}"
                elif isinstance(function, ast.Name):
                    name = f"builtins.{function.id}"
                else:
                    continue
                yield path.relative_to(PACKAGE).as_posix(), node, name


def keyword(node: ast.Call, name: str) -> object:
    for given in node.keywords:
        if given.arg == name:
            return given.value.value if isinstance(given.value, ast.Constant) else given.value
    return None


def test_no_unexpected_dangerous_calls() -> None:
    found = {(path, name) for path, _, name in calls() if tuple(name.split(".", 1)) in DANGEROUS}
    assert found <= ALLOWED, found - ALLOWED
    assert found == ALLOWED, "an exception that is no longer needed"


def test_arrays_and_tensors_are_read_as_data() -> None:
    loads = 0
    for path, node, name in calls():
        if name in ("np.load", "numpy.load"):
            loads += 1
            assert keyword(node, "allow_pickle") is False, path
        if name == "torch.load":
            loads += 1
            assert keyword(node, "weights_only") is not None, path
        if name in ("subprocess.run", "subprocess.Popen", "subprocess.check_output"):
            assert keyword(node, "shell") in (None, False), path
    assert loads >= 2


def test_yaml_of_checks_is_read_by_a_safe_loader() -> None:
    import yaml

    from novelty_metric.support.yaml_text import load_yaml_once

    with pytest.raises(yaml.YAMLError):
        load_yaml_once("a: !!python/object/apply:os.system [true]")


# Archives


def cif() -> bytes:
    salt = Structure(Lattice.cubic(4.1), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    return str(salt.to(fmt="cif")).encode()


HOSTILE_NAMES = [
    "../../outside.cif",
    "/tmp/absolute-novelty-metric.cif",
    "..\\..\\outside.cif",
    "C:\\outside.cif",
    "a/../../outside.cif",
    "\n\x1b[31mred.cif",
    "<script>alert(1)</script>.cif",
]


def tree(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_in_an_archive_cannot_escape_the_folder(kind: str, tmp_path: Path) -> None:
    inside = tmp_path / "deep" / "deeper"
    inside.mkdir(parents=True)
    path = inside / f"samples.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in HOSTILE_NAMES:
                archive.writestr(name, cif())
    else:
        with tarfile.open(path, "w") as tar:
            for name in HOSTILE_NAMES:
                member = tarfile.TarInfo(name)
                member.size = len(cif())
                tar.addfile(member, io.BytesIO(cif()))
    before = tree(tmp_path)
    samples = list(read_samples(path))
    assert [sample.error for sample in samples] == [None] * len(HOSTILE_NAMES)
    assert tree(tmp_path) == before
    assert not Path("/tmp/absolute-novelty-metric.cif").exists()


def test_links_in_a_tar_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.cif"
    secret.write_bytes(cif())
    path = tmp_path / "samples.tar"
    with tarfile.open(path, "w") as archive:
        for name, kind, target in (
            ("soft.cif", tarfile.SYMTYPE, str(secret)),
            ("hard.cif", tarfile.LNKTYPE, str(secret)),
            ("device.cif", tarfile.CHRTYPE, ""),
            ("pipe.cif", tarfile.FIFOTYPE, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
        member = tarfile.TarInfo("real.cif")
        member.size = len(cif())
        archive.addfile(member, io.BytesIO(cif()))
    samples = list(read_samples(path))
    assert [sample.id for sample in samples if sample.structure is not None] == ["real"]


def test_zip_bomb_is_a_row_and_needs_little_memory(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("bomb.cif", "w", force_zip64=True) as member,
    ):
        block = b"0" * (1 << 20)
        for _ in range(600):
            member.write(block)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("real.cif", cif())
    assert path.stat().st_size < 2_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bomb, real = read_samples(path)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert bomb.structure is None and "MB" in (bomb.error or "")
    assert real.structure is not None
    assert after - before < 300_000  # kB


def test_gzip_bomb_is_a_row_or_one_error(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "bomb.tar.gz"
    with gzip.open(path, "wb") as packed, tarfile.open(fileobj=packed, mode="w|") as archive:
        member = tarfile.TarInfo("bomb.cif")
        member.size = 200 << 20

        class Zeros(io.RawIOBase):
            def read(self, size: int = -1) -> bytes:
                return b"0" * size

        archive.addfile(member, Zeros())  # type: ignore[arg-type]
        member = tarfile.TarInfo("real.cif")
        member.size = len(cif())
        archive.addfile(member, io.BytesIO(cif()))
    bomb, real = read_samples(path)
    assert bomb.structure is None and real.structure is not None


# Texts that are displayed or become names


def test_id_of_a_sample_is_only_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    marker = tmp_path / "ran"
    path = tmp_path / "samples.csv"
    evil = [f"$(touch {marker})", f"`touch {marker}`", "=cmd|' /C calc'!A0", "\x1b[2J", "../up"]
    text = cif().decode().replace('"', '""')
    rows = "".join(f'"{name}","{text}"\n' for name in evil)
    path.write_text("id,cif\n" + rows)
    out = tmp_path / "out"
    assert main(["score", f"samples={path}", "relaxer=none", "hull=none", f"out={out}"]) == 0
    shown = capsys.readouterr()
    assert "\x1b[2J" not in shown.out + shown.err
    for name in evil:
        main(["explain", name, f"run={out}"])
        assert "\x1b[2J" not in "".join(capsys.readouterr())
    assert not marker.exists()
    assert {entry.name for entry in tmp_path.iterdir()} == {"samples.csv", "out"}


def test_link_in_the_folder_of_a_run_is_replaced_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("mine")
    out = tmp_path / "out"
    out.mkdir()
    (out / "verdicts.csv").symlink_to(outside)
    arguments = ["score", "relaxer=none", "hull=none", "limit=2", f"out={out}", "overwrite=true"]
    assert main(arguments) == 0
    assert outside.read_text() == "mine" and not (out / "verdicts.csv").is_symlink()


def test_classes_named_in_a_report_are_not_created(tmp_path: Path) -> None:
    from novelty_metric import NoveltyReport

    out = tmp_path / "out"
    assert main(["score", "relaxer=none", "hull=none", "limit=2", f"out={out}"]) == 0
    report = out / "report.json"
    report.write_text(
        report.read_text().replace('"hull": {', '"hull": {"_target_": "os.abort",', 1)
    )
    loaded = NoveltyReport.load(out)  # plain values for display
    assert loaded.context.hull["_target_"] == "os.abort"
    with pytest.raises(InputError):
        report.write_text("[" * 100_000)
        NoveltyReport.load(out)
