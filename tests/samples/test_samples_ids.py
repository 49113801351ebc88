"""Ids of users, columns of tables, several files, and random subsets."""

from __future__ import annotations

import datetime
import decimal
import io
import itertools
import json
import uuid
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from pymatgen.core import Structure
from sample_layouts import WRITERS, cif_text, write_rows

from novelty_metric.errors import InputError
from novelty_metric.samples import count_hint, read_samples
from novelty_metric.samples.draw import drawn_rows
from novelty_metric.samples.ids import ID_NAMES, id_names_in, plain_name

ODD = [
    *("4e1234", "00123", "T", "1_000", "inf", "1e5", "True", "nan", "None", "NaN", "null"),
    *("-0", "+1", "1.", "1.0", " padded ", "a,b;c", 'say "hi"', "Ünï金", "mp-1/2", "__2", "0x1F"),
]


def ids(path: Path | Sequence[Path], **options: Any) -> list[str]:
    return [sample.id for sample in read_samples(path, **options)]


def write_table(path: Path, columns: dict[str, Any]) -> Path:
    if path.suffix == ".parquet":
        parquet.write_table(pa.table(columns), path)
        return path
    return write_rows(path, list(columns), list(zip(*columns.values(), strict=True)))


def write_records(path: Path, columns: dict[str, Any]) -> Path:
    records = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    lines = [json.dumps(record) for record in records]
    path.write_text("\n".join(lines) if path.suffix == ".jsonl" else f"[{','.join(lines)}]")
    return path


KINDS: dict[str, Callable[[Path, dict[str, Any]], Path]] = {
    "x.csv": write_table,
    "x.parquet": write_table,
    "x.json": write_records,
    "x.jsonl": write_records,
}


@pytest.mark.parametrize("kind", KINDS)
def test_text_is_kept_unchanged(kind: str, crystals: list[Structure], tmp_path: Path) -> None:
    cif = cif_text(crystals[3])
    path = KINDS[kind](tmp_path / kind, {"id": ODD, "cif": [cif] * len(ODD)})
    assert ids(path) == ODD
    blank = ["", "  ", "x"]
    path = KINDS[kind](tmp_path / kind, {"id": blank, "cif": [cif] * 3})
    assert ids(path) == ["x-0", "x-1", "x"]


@settings(max_examples=30)
@given(st.lists(st.text(min_size=1), min_size=1, max_size=4, unique=True))
def test_table_keeps_any_text(names: list[str]) -> None:
    import tempfile

    names = [name.encode("utf-8", "replace").decode() for name in names]
    names = [name for name in dict.fromkeys(names) if name.strip() and "\0" not in name]
    if not names:
        return
    for kind in ("x.csv", "x.parquet"):
        with tempfile.TemporaryDirectory() as folder:
            table = {"id": names, "cif": ["data_x\n_cell_length_a 1\n"] * len(names)}
            assert ids(KINDS[kind](Path(folder, kind), table)) == names


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([123, None, 7]), ["123", "x-1", "7"]),
        (pa.array([2**63 - 1, -(2**63), 0]), ["9223372036854775807", "-9223372036854775808", "0"]),
        (pa.array([2**64 - 1, 1, 2], pa.uint64()), ["18446744073709551615", "1", "2"]),
        (pa.array([123.0, None, float("nan")]), ["123", "x-1", "x-2"]),
        (pa.array([0.5, 1e300, float("inf")]), ["0.5", "1e+300", "inf"]),
        (pa.array([0.1, 7.0, None], pa.float32()), ["0.1", "7", "x-2"]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a__2"]),
        (pa.array([7, None, 8]).dictionary_encode(), ["7", "x-1", "8"]),
        (pa.array([b"a", b"\xff\x00", "é".encode()]), ["a", "ff00", "é"]),
        (pa.array([b"0123", b"4567", b"89ab"], pa.binary(4)), ["0123", "4567", "89ab"]),
        (pa.array([decimal.Decimal("1.50"), None, decimal.Decimal(2)]), ["1.50", "x-1", "2.00"]),
        (pa.array([True, False, None]), ["true", "false", "x-2"]),
        (
            pa.array([datetime.datetime(2026, 1, 2), None, datetime.datetime(2026, 1, 3, 4)]),
            ["2026-01-02 00:00:00", "x-1", "2026-01-03 04:00:00"],
        ),
        (pa.array(["a", None, " "], pa.large_string()), ["a", "x-1", "x-2"]),
        (pa.array(["a", "b", "c"], pa.string_view()), ["a", "b", "c"]),
        (pa.array([[1], [2], None]), ["x-0", "x-1", "x-2"]),
        (pa.nulls(3), ["x-0", "x-1", "x-2"]),
    ],
)
def test_ids_of_every_parquet_type(
    column: Any, expected: list[str], crystals: list[Structure], tmp_path: Path
) -> None:
    table = {"cif": [cif_text(crystals[3])] * 3, "material_id": column}
    assert ids(write_table(tmp_path / "x.parquet", table)) == expected


def test_uuid_is_written_in_its_usual_form(crystals: list[Structure], tmp_path: Path) -> None:
    own = uuid.UUID(int=5)
    column = pa.array([own.bytes], pa.uuid())
    table = {"id": column, "cif": [cif_text(crystals[3])]}
    assert ids(write_table(tmp_path / "x.parquet", table)) == [str(own)]


def test_ids_of_json_that_are_numbers(crystals: list[Structure], tmp_path: Path) -> None:
    own = [123, 123.0, 2**70, None, True, ["a"], {"$oid": "b"}, 0.25]
    table = {"id": own, "cif": [cif_text(crystals[3])] * len(own)}
    expected = ["123", "123__2", str(2**70), "x-3", "true", "x-5", "x-6", "0.25"]
    assert ids(write_records(tmp_path / "x.json", table)) == expected
    assert ids(write_records(tmp_path / "x.jsonl", table)) == expected


@pytest.mark.parametrize("name", ["ID", "Id", " id ", "_id", "Material ID", "material-id", "MP_ID"])
@pytest.mark.parametrize("kind", KINDS)
def test_spelling_of_id_columns_does_not_matter(
    name: str, kind: str, crystals: list[Structure], tmp_path: Path
) -> None:
    table = {"note": ["x"], name: ["007"], "cif": [cif_text(crystals[3])]}
    assert ids(KINDS[kind](tmp_path / kind, table)) == ["007"]


def test_priority_of_id_columns() -> None:
    assert ID_NAMES[:2] == ("id", "material_id") and ID_NAMES[-1] == "name"
    assert len({plain_name(name) for name in ID_NAMES}) == len(ID_NAMES)
    for better, worse in itertools.pairwise(ID_NAMES):
        assert id_names_in([worse.upper(), "x", better]) == [better, worse.upper()]
    assert id_names_in(["ID", "id"]) == ["id", "ID"]
    assert id_names_in(["", "Unnamed: 0", "index", "grid", "idx", "formula"]) == []


def test_index_without_a_name_is_not_an_id(crystals: list[Structure], tmp_path: Path) -> None:
    cif = cif_text(crystals[3])
    for header in ("", "Unnamed: 0", "index"):
        path = write_rows(tmp_path / "x.csv", [header, "cif"], [["17", cif], ["18", cif]])
        assert ids(path) == ["x-0", "x-1"]


@pytest.mark.parametrize("kind", KINDS)
def test_id_column_can_be_chosen(kind: str, crystals: list[Structure], tmp_path: Path) -> None:
    table = {"id": ["a"], "Sample No": ["b"], "cif": [cif_text(crystals[3])]}
    path = KINDS[kind](tmp_path / kind, table)
    assert ids(path, id_column="Sample No") == ids(path, id_column="sample_no") == ["b"]
    with pytest.raises(InputError, match=r"id_column=label: there is no such .* are id, Sample No"):
        read_samples(path, id_column="label")


def test_formats_without_ids_refuse_id_column(crystals: list[Structure], tmp_path: Path) -> None:
    for layout in ("cif", "cif zip", "pt"):
        path = WRITERS[layout][1](crystals, tmp_path)
        with pytest.raises(InputError, match="id_column=x is only for tables, JSON and extxyz"):
            read_samples(path, id_column="x")


def test_keys_of_a_mapping_are_ids(crystals: list[Structure], tmp_path: Path) -> None:
    record = {"name": "iron", "structure": crystals[3].as_dict()}
    (tmp_path / "x.json").write_text(json.dumps({"00A": record, "1e5": record}))
    assert ids(tmp_path / "x.json") == ["00A", "1e5"]
    assert ids(tmp_path / "x.json", id_column="name") == ["iron", "iron__2"]


# --- columns ------------------------------------------------------------------------------------


def test_duplicate_column_names(crystals: list[Structure], tmp_path: Path) -> None:
    """An error if this column is needed; otherwise the file is read."""
    iron, salt = cif_text(crystals[3]), cif_text(crystals[0])

    def written(kind: str, names: list[str], row: list[str]) -> Path:
        path = tmp_path / f"x.{kind}"
        if kind == "csv":
            return write_rows(path, names, [row])
        parquet.write_table(pa.table([pa.array([value]) for value in row], names), path)
        return path

    for kind in ("csv", "parquet"):
        for names, row in [
            (["id", "cif", "cif"], ["a", iron, iron]),
            (["id", "made", "made"], ["a", iron, salt]),
            (["id", "id", "cif"], ["a", "b", iron]),
        ]:
            with pytest.raises(
                InputError, match=r"x\.\w+: two columns are called '\w+'; rename one"
            ):
                read_samples(written(kind, names, row))
        with pytest.raises(InputError, match="two columns are called 'cif'"):
            read_samples(written(kind, ["cif", "cif"], [iron, salt]), column="cif")
        path = written(kind, ["note", "cif", "note", "id"], ["p", iron, "q", "a"])
        (sample,) = read_samples(path)
        assert (sample.id, sample.structure and sample.structure.formula) == ("a", "Fe1")
        path = written(kind, ["id", "cif", "id", "key"], ["p", iron, "q", "a"])
        assert ids(path, id_column="key") == ["a"]


def test_duplicate_column_names_with_crystals(crystals: list[Structure], tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    columns = [pa.array(["a"]), pa.array([cif_text(crystals[3])]), pa.array([7])]
    parquet.write_table(pa.table(columns, ["id", "made", "made"]), path)
    (sample,) = read_samples(path)
    assert sample.structure is not None and sample.id == "a"


def test_table_with_paths_of_cif_files(crystals: list[Structure], tmp_path: Path) -> None:
    import gzip

    folder = tmp_path / "table"
    (folder / "gen").mkdir(parents=True)
    (folder / "gen" / "0.cif").write_text(cif_text(crystals[0]))
    (folder / "gen" / "1.cif.gz").write_bytes(gzip.compress(cif_text(crystals[1]).encode()))
    (folder / "gen" / "damaged.cif").write_text("nothing")
    (tmp_path / "secret.cif").write_text(cif_text(crystals[2]))
    (folder / "link.cif").symlink_to(tmp_path / "secret.cif")
    outside = ": outside the folder of the table; only files below it are read"
    rows = {
        "gen/0.cif": "Na4 Cl4",
        "./gen/1.cif.gz": "Sr1 Ti1 O3",
        "gen\\0.cif": "Na4 Cl4",
        str(folder / "gen" / "0.cif"): "Na4 Cl4",
        "gen/none.cif": "gen/none.cif: no such file in the folder of the table",
        "../secret.cif": f"../secret.cif{outside}",
        "link.cif": f"link.cif{outside}",
        str(tmp_path / "secret.cif"): outside,
        "gen/damaged.cif": "not a CIF",
        "": "empty",
        cif_text(crystals[3]): "Fe1",
    }
    for kind in ("csv", "parquet"):
        path = write_table(folder / f"x.{kind}", {"e": ["1"] * len(rows), "path": list(rows)})
        samples = list(read_samples(path))
        for (name, expected), sample in zip(rows.items(), samples, strict=True):
            found = sample.structure.formula if sample.structure is not None else sample.error
            assert expected in (found or ""), name
        assert [sample.id for sample in samples[:2]] == ["gen/0", "./gen/1"]
        assert samples[0].source == f"x.{kind}:row 0"
    lone = folder / "lone.csv"
    lone.write_text("file\ngen/0.cif\ngen/1.cif.gz\n")
    assert ids(lone) == ["gen/0", "gen/1"]
    table = {"id": ["a"], "cif": ["gen/0.cif"], "other": ["gen/none.cif"]}
    (sample,) = read_samples(write_table(folder / "x.csv", table))
    assert sample.id == "a" and sample.structure is not None


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_dialects(
    mark: str, delimiter: str, end: str, crystals: list[Structure], tmp_path: Path
) -> None:
    quoted = f'"{cif_text(crystals[3])}"'
    rows = [['"id"', "n", '"cif"'], ['"a, ""b"""', "1", quoted], ["001", "", quoted]]
    text = end.join(delimiter.join(row) for row in rows) + end
    path = tmp_path / "x.csv"
    path.write_bytes((mark + text).encode())
    samples = list(read_samples(path))
    assert [sample.id for sample in samples] == ['a, "b"', "001"]
    assert all(sample.structure is not None for sample in samples)


# --- several files ------------------------------------------------------------------------------


def test_several_files_are_read_in_order(crystals: list[Structure], tmp_path: Path) -> None:
    table = write_rows(tmp_path / "a.csv", ["id", "cif"], [["x", cif_text(crystals[3])]] * 2)
    archive = WRITERS["cif zip"][1](crystals, tmp_path)
    alone = tmp_path / "x.cif"
    alone.write_text(cif_text(crystals[0]))
    paths = [table, archive, alone]
    samples = list(read_samples(paths))
    assert [sample.id for sample in samples] == (
        ["x", "x__2", "gen_0", "gen_1", "gen_2", "gen_3", "x__3"]
    )
    assert [sample.source for sample in samples] == [
        *("a.csv:row 0", "a.csv:row 1"),
        *(f"cifs.zip:gen_{i}.cif" for i in range(4)),
        "x.cif",
    ]
    assert count_hint([archive, archive]) == 8 and count_hint(paths) is None
    assert ids(paths, limit=3) == ["x", "x__2", "gen_0"]
    assert len(list(read_samples([archive]))) == 4
    with pytest.raises(InputError, match="no file of samples"):
        read_samples([])
    (tmp_path / "empty.csv").write_text("id,cif\n")
    with pytest.raises(InputError, match=r"empty\.csv: contains no crystal"):
        read_samples([table, tmp_path / "empty.csv"])


def test_files_of_the_same_name_get_distinct_ids(crystals: list[Structure], tmp_path: Path) -> None:
    paths = []
    for name in ("run1/gen.json", "run2/gen.json", "run2/more/gen.json"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps([crystals[3].as_dict()] * 2))
        paths.append(path)
    samples = list(read_samples(paths))
    assert [s.id for s in samples[::2]] == ["run1/gen-0", "run2/gen-0", "run2/more/gen-0"]
    assert samples[3].source == "run2/gen.json:row 1"
    assert ids(paths[:1]) == ["gen-0", "gen-1"]


# --- random subsets ----------------------------------------------------------------------------


@pytest.mark.parametrize("layout", WRITERS)
def test_random_subset_parses_only_its_crystals(
    layout: str, crystals: list[Structure], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The crystals keep their ids and sources, and no other crystal is parsed."""
    from novelty_metric.samples.base import Entry

    path = WRITERS[layout][1](crystals * 5, tmp_path)
    every = list(read_samples(path))
    parsed: list[str] = []
    whole = Entry.sample

    def counted(self: Entry, sample_id: str, source: str) -> Any:
        parsed.append(sample_id)
        return whole(self, sample_id, source)

    monkeypatch.setattr(Entry, "sample", counted)
    drawn = list(read_samples(path, limit=6, seed=3))
    rows = sorted(drawn_rows(len(every), 6, 3))
    assert [s.id for s in drawn] == parsed == [every[row].id for row in rows]
    assert [s.source for s in drawn] == [every[row].source for row in rows]
    assert [s.structure for s in drawn] == [every[row].structure for row in rows]
    assert ids(path, limit=100, seed=3) == [sample.id for sample in every]
    parsed.clear()
    assert ids(path, limit=2) == parsed == [sample.id for sample in every[:2]]


def test_random_subset_covers_all_files(crystals: list[Structure], tmp_path: Path) -> None:
    paths = []
    for number in range(5):
        path = tmp_path / f"{number}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for i in range(8):
                archive.writestr(f"gen_{i}.cif", cif_text(crystals[3]))
        paths.append(path)
    every = list(read_samples(paths))
    assert len({sample.id for sample in every}) == 40
    drawn = list(read_samples(paths, limit=10, seed=1))
    rows = sorted(drawn_rows(40, 10, 1))
    assert [(s.id, s.source) for s in drawn] == [(every[r].id, every[r].source) for r in rows]
    assert len({sample.source.partition(":")[0] for sample in drawn}) > 2


def test_seek_in_a_compressed_stream() -> None:
    """Seeking backwards restarts the decompression."""
    import gzip

    from novelty_metric.samples.source import decompressed

    data = bytes(range(256)) * 5000
    with decompressed(io.BytesIO(gzip.compress(data))) as stream:
        assert stream.read(10) == data[:10]
        assert stream.seek(1_000_000) == 1_000_000 and stream.read(5) == data[1_000_000:1_000_005]
        assert stream.seek(3) == 3 and stream.read() == data[3:]
        assert stream.read() == b""
