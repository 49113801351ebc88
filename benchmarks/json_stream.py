"""Reading a large file of computed entries: `screening/json_stream.py` against `ijson` and `json`.

Makes a JSON as Matbench Discovery's ``mp-computed-structure-entries`` is: a pandas table with a
column of ``ComputedStructureEntry`` dictionaries, of the crystals of a reference. Each reader goes
through it in a process of its own and adds up the energies: processor time and most resident
memory.

- *json_stream*: the package's reader, which is told nothing of the layout.
- *ijson*: ``kvitems`` of its fastest backend, which is told where the entries stand.
- *json*: ``json.load`` of the whole file.

    python benchmarks/json_stream.py --reference STORE.arrow --megabytes 300
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def make(reference: Path, megabytes: int, out: Path) -> int:
    """Write a table of entries of about that size; gives how many there are."""
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    from novelty_metric.reference import Reference

    store = Reference.open(reference)
    count, size = 0, 0
    parameters = {"run_type": "GGA+U", "is_hubbard": True, "hubbards": {"Fe": 5.3, "O": 0.0}}
    with out.open("w") as stream:
        ids: dict[str, str] = {}
        stream.write('{"entry":{')
        while size < megabytes * 10**6:
            index = count % len(store)
            entry = ComputedStructureEntry(
                store.structure(index),
                -3.21 * int(store.n_sites[index]),
                correction=-0.687,
                parameters=parameters,
                entry_id=store.ids[index],
            )
            text = json.dumps(entry.as_dict())
            size += stream.write(f'{"," if count else ""}"{count}":{text}')
            ids[str(count)] = store.ids[index]
            count += 1
        stream.write('},"material_id":' + json.dumps(ids) + "}")
    return count


def by_json_stream(path: Path) -> Iterator[Any]:
    """The entries, by the package's reader."""
    from novelty_metric.screening.json_stream import json_values

    with path.open(encoding="utf-8") as stream:
        for where, value in json_values(stream):
            if where.startswith("entry"):
                yield from [value] if "energy" in value else value.values()


def by_ijson(path: Path) -> Iterator[Any]:
    """The entries, by ijson."""
    import ijson

    with path.open("rb") as stream:
        for _, value in ijson.kvitems(stream, "entry", use_float=True):
            yield value


def by_json(path: Path) -> Iterator[Any]:
    """The entries, read at once."""
    with path.open("rb") as stream:
        yield from json.load(stream)["entry"].values()


READERS: dict[str, Callable[[Path], Iterator[Any]]] = {
    "json_stream": by_json_stream,
    "ijson": by_ijson,
    "json": by_json,
}


def measure(name: str, path: Path) -> tuple[int, float, float, float]:
    """Entries, sum of energies (eV), processor time (s) and most resident memory (MB)."""
    started = time.process_time()
    count, total = 0, 0.0
    for entry in READERS[name](path):
        count += 1
        total += entry["energy"]
    took = time.process_time() - started
    return count, total, took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    """Make the file, read it, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--times", type=int, default=3, help="the median counts")
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "entries.json"
        count = make(options.reference, options.megabytes, path)
        print(f"{count:,} entries, {path.stat().st_size / 1e6:.0f} MB", flush=True)
        sums = set()
        for name in READERS:
            found = []
            for _ in range(options.times):
                with spawn.Pool(1) as pool:
                    found.append(pool.apply(measure, (name, path)))
            assert {entries for entries, *_ in found} == {count}
            sums |= {total for _, total, *_ in found}
            took = sorted(seconds for *_, seconds, _ in found)[len(found) // 2]
            most = max(memory for *_, memory in found)
            print(f"{name:>12}: {took:.1f} s, {most:,.0f} MB resident", flush=True)
        assert len(sums) == 1, "the readers disagree"


if __name__ == "__main__":
    main()
