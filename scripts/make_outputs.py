"""Write outputs of commands into the pages that show them.

``python scripts/make_outputs.py`` takes minutes, and writes README.md and pages of docs;
``--check`` only prints which blocks are out of date. Differences between processors and runs are
ignored: see `same`.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "model_repository"
LEFT_OUT = "…"
SYSTEMS = "triclinic|monoclinic|orthorhombic|tetragonal|trigonal|hexagonal|cubic"


class Block(NamedTuple):
    """A fenced block of a page, and the function that makes it."""

    page: str
    begins: str
    """First words of its output; preceding lines with ``$`` are kept."""
    make: Callable[[Path], str]
    """Make the output, given an empty working folder."""


def run(folder: Path, *words: str, fails: bool = False) -> str:
    """Output of a command, at the width of a page."""
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env={**os.environ, "COLUMNS": "80", "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if (done.returncode != 0) != fails:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}")
    return "\n".join(line.rstrip() for line in done.stdout.splitlines())


def part(output: str, begins: str, n_lines: int | None = None) -> str:
    """The part of an output between empty lines that begins with these words."""
    for text in output.split("\n\n"):
        if text.startswith(begins):
            return "\n".join(text.splitlines()[:n_lines])
    raise ValueError(f"no part of the output begins with {begins!r}:\n{output}")


def readme(folder: Path) -> str:
    """The main command."""
    return run(folder, "novelty_metric.cli", "score")


def headline(folder: Path) -> str:
    """The first lines of the main command."""
    return part(run(folder, "novelty_metric.cli", "score"), "novelty ")


def sensitivity(folder: Path) -> str:
    """The table of the packaged sample, with its note."""
    run(folder, "novelty_metric.cli", "score", "out=run")
    output = run(folder, "novelty_metric.cli", "sensitivity", "run=run")
    return output[: output.index("\n\nreference ")] + "\n" + LEFT_OUT


def evidence(folder: Path) -> str:
    """The evidence for one crystal of the packaged sample."""
    run(folder, "novelty_metric.cli", "score", "out=run")
    return run(folder, "novelty_metric.cli", "explain", "other-UCl3-type-LaCl3", "run=run")


def comparison(folder: Path) -> str:
    """The packaged sample without relaxation and with CHGNet: some of the changes."""
    run(folder, "novelty_metric.cli", "score", "relaxer=none", "out=before")
    run(folder, "novelty_metric.cli", "score", "out=after")
    lines = run(folder, "novelty_metric.cli", "compare", "before", "after").splitlines()
    changes = [at for at, line in enumerate(lines) if re.match(r"  \S.* -> ", line)]
    no_parent = next(at for at in changes if lines[at].endswith("undecided -> unmatched"))
    warnings = next(at for at, line in enumerate(lines) if line.startswith("warning: "))
    shown = [*lines[: changes[2]], LEFT_OUT, *lines[no_parent : no_parent + 3], LEFT_OUT]
    return "\n".join(shown + lines[warnings:])


def failure(folder: Path) -> str:
    """The example's model without layered crystals: the failure and the summary."""
    shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True)
    model = folder / "toy_model" / "__init__.py"
    text, changed = re.subn(r'"layered": [\d.]+', '"layered": 0.00', model.read_text())
    assert changed == 1
    model.write_text(text)
    lines = run(folder, "pytest", "--novelty", "-p", "no:cacheprovider", fails=True).splitlines()
    begin = next(at for at, line in enumerate(lines) if line.startswith("novelty of toy-model"))
    end = next(at for at, line in enumerate(lines) if "short test summary" in line)
    return "\n".join(lines[begin:end])


BLOCKS = (
    Block("README.md", "novelty ", readme),
    Block("docs/index.md", "novelty ", headline),
    Block("docs/sensitivity.md", "setting ", sensitivity),
    Block("docs/trust.md", "other-UCl3-type-LaCl3", evidence),
    Block("docs/pytest.md", "novelty of toy-model", failure),
    Block("docs/pytest.md", "share ", comparison),
)


def found(text: str, begins: str) -> re.Match[str]:
    """The fenced block of a page with this output, which is the group ``output``."""
    pattern = (
        rf"^```\w*\n(?:\$ (?:.*\\\n)*.*\n)*(?P<output>{re.escape(begins)}(?:(?!```).*\n)*)```$"
    )
    matches = list(re.finditer(pattern, text, flags=re.MULTILINE))
    if len(matches) != 1:
        raise ValueError(f"{len(matches)} blocks begin with {begins!r}")
    return matches[0]


def same(one: str, other: str) -> bool:
    """Whether two outputs agree, apart from differences between processors and runs.

    Ignored are times and rows by crystal system, because a crystal near the tolerance of the
    symmetry search can be assigned another crystal system. Means and quantiles of distances, the
    numbers with three decimals, can differ by 0.01.
    """

    def lines(text: str) -> Iterator[str]:
        for line in text.splitlines():
            if not re.match(rf"(?:{SYSTEMS}) ", line):
                yield re.sub(r" +(?:\d+\.\d s|time)\b", "", line).rstrip()

    near = r"\b\d\.\d{3}\b"
    first, second = ("\n".join(lines(text)) for text in (one, other))
    distances = [[float(number) for number in re.findall(near, text)] for text in (first, second)]
    return re.sub(near, "", first) == re.sub(near, "", second) and all(
        abs(a - b) <= 0.01 for a, b in zip(*distances, strict=True)
    )


def main() -> int:
    """Write the blocks, or check them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="only name blocks that are out of date"
    )
    check_only = parser.parse_args().check
    code = 0
    for block in BLOCKS:
        page = ROOT / block.page
        with tempfile.TemporaryDirectory() as folder:
            made = block.make(Path(folder)) + "\n"
        text = page.read_text(encoding="utf-8")
        place = found(text, block.begins)
        if same(place["output"], made):
            continue
        print(f"{block.page}: the output that begins with {block.begins!r} differs")
        if check_only:
            code = 1
        else:
            start, end = place.span("output")
            page.write_text(text[:start] + made + text[end:], encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
