"""Compressed files: all compressions are read, and errors name the content."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pymatgen.core import Structure
from sample_layouts import WRITERS, add_to_tar, cif_text, write_extxyz

from novelty_metric.errors import InputError
from novelty_metric.samples import count_hint, detect_format, read_samples


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}
TEXTS = ["cif", "cif tar", "extxyz", "csv of cif", "json", "json lines"]


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("layout", TEXTS)
def test_compressed_text_and_tar_files(
    suffix: str, layout: str, crystals: list[Structure], tmp_path: Path
) -> None:
    plain = WRITERS[layout][1](crystals, tmp_path)
    expected = list(read_samples(plain))
    path = tmp_path / (plain.name + suffix)
    path.write_bytes(PACKERS[suffix](plain.read_bytes()))
    samples = list(read_samples(path))
    assert detect_format(path) == WRITERS[layout][0]
    assert [s.id for s in samples] == [s.id for s in expected]
    assert [s.structure for s in samples] == [s.structure for s in expected]
    drawn = [s.id for s in read_samples(path, limit=2, seed=1)]
    assert drawn == [s.id for s in read_samples(plain, limit=2, seed=1)]


def test_zstd_in_several_frames(crystals: list[Structure], tmp_path: Path) -> None:
    """`cat a.zst b.zst` and programs that write in pieces make such files."""
    lines = write_extxyz(crystals, tmp_path).read_bytes().splitlines(keepends=True)
    path = tmp_path / "x.extxyz.zst"
    path.write_bytes(b"".join(map(zstd, lines)))
    assert len(list(read_samples(path))) == len(crystals)


@pytest.mark.parametrize("suffix", PACKERS)
def test_truncated_compressed_file_is_refused(
    suffix: str, crystals: list[Structure], tmp_path: Path
) -> None:
    data = PACKERS[suffix](b"".join(cif_text(crystal).encode() for crystal in crystals * 30))
    path = tmp_path / f"x.cif{suffix}"
    for share in (0.2, 0.7, 0.98):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(InputError, match="cut short") as caught:
            list(read_samples(path))
        assert "\n" not in str(caught.value)


def test_compressed_members(crystals: list[Structure], tmp_path: Path) -> None:
    folder, packed, tar = tmp_path / "cifs", tmp_path / "cifs.zip", tmp_path / "cifs.tar"
    folder.mkdir()
    with zipfile.ZipFile(packed, "w") as archive, tarfile.open(tar, "w") as other:
        for number, (suffix, pack) in enumerate(PACKERS.items()):
            name, data = f"{number}.cif{suffix}", pack(cif_text(crystals[number]).encode())
            (folder / name).write_bytes(data)
            archive.writestr(name, data)
            add_to_tar(other, name, data)
        archive.writestr("4.cif.zst", zstd(cif_text(crystals[0]).encode())[:40])
    for path in (folder, packed, tar):
        samples = list(read_samples(path))
        assert [s.id for s in samples[:4]] == ["0", "1", "2", "3"]
        assert [s.structure.formula for s in samples[:4] if s.structure is not None] == [
            crystal.formula for crystal in crystals
        ]
    assert count_hint(packed) == 5
    *_, damaged = read_samples(packed)
    assert damaged.structure is None and damaged.error is not None


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize(
    ("layout", "what"),
    [
        ("cif zip", "a zip archive or .pt file"),
        ("pt", "a zip archive or .pt file"),
        ("pt, old zipless", "a .pt file"),
        ("parquet of cif", "a Parquet table"),
        ("csv of repr", "a file compressed with gzip"),
    ],
)
def test_error_names_the_format_that_is_compressed_twice(
    suffix: str, layout: str, what: str, crystals: list[Structure], tmp_path: Path
) -> None:
    plain = WRITERS[layout][1](crystals, tmp_path)
    path = tmp_path / (plain.name + suffix)
    path.write_bytes(PACKERS[suffix](plain.read_bytes()))
    names = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
    with pytest.raises(InputError) as caught:
        read_samples(path)
    assert str(caught.value) == (
        f"{path}: {what} compressed a second time with {names[suffix]}; decompress it once and "
        "give the result"
    )


def test_invalid_zstd_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.cif.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(range(200)))
    with pytest.raises(InputError, match="damaged, cut short") as caught:
        read_samples(path)
    assert "\n" not in str(caught.value)
