"""Size and opening time of the page of a run whose crystals are repeated to a large number.

python benchmarks/page.py RUN [--crystals 500] [--times 5]
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from novelty_metric import NoveltyReport
from novelty_metric.figures.report_page import Run, report_page

TIMINGS = """() => {
    const [opened] = performance.getEntriesByType("navigation");
    const [painted] = performance.getEntriesByName("first-contentful-paint");
    return [opened.loadEventEnd, painted ? painted.startTime : NaN];
}"""
"""Milliseconds since the start of the navigation, by the browser's clock."""


def repeated(run: Path, count: int) -> NoveltyReport:
    """The report with repeated crystals under other ids."""
    report = NoveltyReport.load(run, structures=True)
    rows = itertools.islice(itertools.cycle(report.results), count)
    named = [dataclasses.replace(row, id=f"{row.id} {place}") for place, row in enumerate(rows)]
    return NoveltyReport.from_results(named, report.context)


def opening(page: Path, times: int) -> list[list[float]]:
    """Load event and first paint (ms), each in a new context of headless Chromium."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    found = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for _ in range(times):
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            shown = context.new_page()
            shown.goto(page.as_uri())
            shown.wait_for_timeout(500)
            found.append(shown.evaluate(TIMINGS))
            context.close()
        browser.close()
    return found


def main() -> None:
    """Print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--crystals", type=int, default=500)
    parser.add_argument("--times", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = repeated(given.run, given.crystals).save(Path(name) / "run")
        run = Run(name="run", report=NoveltyReport.load(folder), folder=folder)
        sizes = []
        for count in (0, given.crystals):
            began = time.process_time()
            page = report_page([run], n_crystals=count)
            sizes.append(len(page.encode()))
            print(
                f"{count} crystals: {sizes[-1] / 1e6:.2f} MB, "
                f"written in {time.process_time() - began:.1f} s of processor time"
            )
        path = Path(name) / "page.html"
        path.write_text(page, encoding="utf-8")
        opened, painted = zip(*opening(path, given.times), strict=True)
    print(f"a crystal: {(sizes[1] - sizes[0]) / given.crystals / 1e3:.2f} kB")
    for what, values in (("opened (load event)", opened), ("first paint", painted)):
        print(
            f"{what}: median {statistics.median(values):.0f} ms, worst {max(values):.0f} ms "
            f"of {len(values)}"
        )


if __name__ == "__main__":
    main()
