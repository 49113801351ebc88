"""Make the pictures of `docs/gallery.md` from the packaged sample: minutes, and no network.

python scripts/make_gallery.py

Screens show the output of commands; pages are screenshots of headless Chromium.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from novelty_metric import NoveltyReport
from novelty_metric.figures.crystals import draw_pair

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "pictures"
PAIRS = {"substituted": "swap-rocksalt-KBr", "unmatched": "other-UCl3-type-LaCl3"}
"""Crystals to show beside the reference crystals that their rows name."""
TERMINALS = {
    "80": {"COLUMNS": "80", "FORCE_COLOR": "1", "TERM": "xterm-256color"},
    "120": {"COLUMNS": "120", "FORCE_COLOR": "1", "TERM": "xterm-256color"},
    "dumb": {"COLUMNS": "80", "TERM": "dumb"},
}
SCREEN = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="-12 -8 WIDTH {terminal_height}">
<style>text {{ font: {char_height}px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
white-space: pre }} {styles}</style>
<rect x="-12" y="-8" width="100%" height="100%" rx="8" fill="#1b2129"/>
<defs>{lines}</defs>
{backgrounds}{matrix}
</svg>
"""
"""rich's frame around a screen, without the font that rich would download."""
COLUMN = 12.2
"""Width of a letter in rich's picture of a screen."""


def screens(work: Path) -> None:
    """Output of the main command on a terminal; the run is kept in ``work / "run"``."""
    from rich.console import Console
    from rich.text import Text

    for name, environment in TERMINALS.items():
        words = [sys.executable, "-m", "novelty_metric.cli", "score", "out=run"]
        path = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        done = subprocess.run(
            words,
            cwd=work,
            env={**os.environ, **environment, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # progress bars
            check=True,
            text=True,
        )
        width = int(environment["COLUMNS"])
        console = Console(record=True, width=width, file=io.StringIO())
        console.print(Text.from_ansi(done.stdout))
        frame = SCREEN.replace("WIDTH", str(round(COLUMN * width) + 24))
        drawn = console.export_svg(code_format=frame, unique_id=f"screen-{name}")
        (FOLDER / f"terminal_{name}.svg").write_text(drawn, encoding="utf-8")


def pages(run: Path) -> None:
    """The page of the run and of the leaderboard, on a wide screen and on a phone."""
    from playwright.sync_api import sync_playwright

    from novelty_metric.cli import main as command

    page = run.parent / "packaged-sample.html"
    assert command(["report", str(run), f"out={page}"]) == 0
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for name, path, place in (
            ("report", page, "#crystals"),
            ("leaderboard", ROOT / "leaderboards" / "index.html", "h1"),
        ):
            for width, height in ((1280, 1000), (390, 844)):
                for scheme in ("light", "dark"):
                    shown = browser.new_page(
                        viewport={"width": width, "height": height}, color_scheme=scheme
                    )
                    shown.goto(path.as_uri())
                    shown.locator(place).first.evaluate("one => one.scrollIntoView()")
                    shown.wait_for_timeout(1000)
                    picture = Image.open(io.BytesIO(shown.screenshot()))
                    # A third of the size; this method keeps rare colours such as those of elements.
                    small = picture.convert("RGB").quantize(
                        256, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE
                    )
                    small.save(FOLDER / f"{name}_{width}_{scheme}.png", optimize=True)
                    shown.close()
        browser.close()


def main() -> None:
    """Write the pictures."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        screens(work)
        report = NoveltyReport.load(work / "run", structures=True)
        rows = {row.id: row for row in report.results}
        for verdict, identifier in PAIRS.items():
            assert rows[identifier].verdict == verdict, rows[identifier]
            (FOLDER / f"pair_{verdict}.png").write_bytes(draw_pair(rows[identifier], dpi=110))
        pages(work / "run")


if __name__ == "__main__":
    main()
