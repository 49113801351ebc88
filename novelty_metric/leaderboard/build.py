"""Makes the tables and the page from the submissions of a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from novelty_metric.leaderboard.board import read_board
from novelty_metric.leaderboard.files import read_inside
from novelty_metric.leaderboard.page import page
from novelty_metric.leaderboard.submission import SCHEMA_FILE, json_schema_text
from novelty_metric.leaderboard.tables import csv_text, json_text, markdown

CAVEAT_FILE = "DEMONSTRATION.md"
"""A paragraph on the limits of the demonstrations."""

MAX_CAVEAT_BYTES = 8 * 1024


def outputs(folder: Path) -> Mapping[str, str]:
    """Files made from a folder's submissions, by name; equal submissions give equal files.

    `InputError` if a submission does not pass the check.
    """
    sections, caveat = read_board(folder), ""
    if (folder / CAVEAT_FILE).exists():
        words = read_inside(folder, CAVEAT_FILE, most=MAX_CAVEAT_BYTES)
        caveat = " ".join(words.decode("utf-8", errors="replace").split())
    return {
        "README.md": markdown(sections, caveat),
        "leaderboard.csv": csv_text(sections),
        "leaderboard.json": json_text(sections),
        "index.html": page(sections, caveat),
        SCHEMA_FILE: json_schema_text(),
    }


def build(folder: Path, out: Path | None = None) -> tuple[Path, ...]:
    """Write the files, into the same folder by default.

    `InputError` if a submission does not pass the check, or the folder can't be written.
    """
    from novelty_metric.support.folders import write_atomically, writing

    made = outputs(folder)
    place = folder if out is None else out
    with writing(place, place):
        for name, text in made.items():
            write_atomically(place / name, text.encode())
    return tuple(place / name for name in made)
