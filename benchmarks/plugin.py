"""Cost of the pytest plugin for a run without novelty tests.

Two new virtual environments contain only pytest; this package, without its dependencies, is
installed into one of them. An empty folder is then collected alternately in both, and the pairs are
compared. The second environment works only if the plugin needs nothing but the standard library and
pytest.

    python benchmarks/plugin.py --pairs 100
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NO_TESTS = 5


def environment(folder: Path, *packages: str) -> Path:
    """Python of a new virtual environment with these packages, without their dependencies."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "pytest==" + version("pytest")], check=True)
    for package in packages:
        subprocess.run([*pip, "--no-deps", package], check=True)
    return python


def version(package: str) -> str:
    """The installed version."""
    import importlib.metadata

    return importlib.metadata.version(package)


def run(python: Path, folder: Path) -> tuple[float, float]:
    """Wall and processor time (s) of an empty pytest run."""
    before, started = _children(), time.perf_counter()
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        check=False,
    )
    wall, processor = time.perf_counter() - started, _children() - before
    assert done.returncode == NO_TESTS, done.stdout + done.stderr
    return wall, processor


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def report(name: str, without: list[float], with_plugin: list[float]) -> None:
    """Print the medians, and the median difference with its 95 % interval by order statistics."""
    differences = sorted(b - a for a, b in zip(without, with_plugin, strict=True))
    n = len(differences)
    reach = round(0.98 * n**0.5)
    low = differences[max(0, n // 2 - reach)]
    high = differences[min(n - 1, n // 2 + reach)]
    print(
        f"{name}: {1e3 * statistics.median(without):.0f} ms without, "
        f"{1e3 * statistics.median(with_plugin):.0f} ms with the plugin; difference of pairs, "
        f"median {1e3 * statistics.median(differences):+.1f} ms "
        f"[{1e3 * low:+.1f}, {1e3 * high:+.1f}]"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=100)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        empty = scratch / "empty"
        empty.mkdir()
        without = environment(scratch / "without")
        with_plugin = environment(scratch / "with", str(ROOT))
        shown = subprocess.run(
            [with_plugin, "-m", "pytest", "--version", "--version"],
            cwd=empty,
            capture_output=True,
            text=True,
            check=True,
        )
        assert "novelty-metric" in shown.stdout + shown.stderr, "the plugin is not loaded"
        times: dict[str, list[tuple[float, float]]] = {"without": [], "with": []}
        for pair in range(-3, given.pairs):
            order = [("without", without), ("with", with_plugin)]
            for label, python in order if pair % 2 else reversed(order):
                took = run(python, empty)
                if pair >= 0:  # the first runs write bytecode
                    times[label].append(took)
        print(f"{given.pairs} pairs of an empty run, pytest {version('pytest')}")
        for column, what in ((1, "processor time"), (0, "wall time")):
            report(what, *([took[column] for took in times[key]] for key in ("without", "with")))


if __name__ == "__main__":
    main()
