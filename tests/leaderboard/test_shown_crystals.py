"""Unmatched crystals on the leaderboard: selection, check, recomputation, and rotation."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from board_files import edit_submission
from pymatgen.core import Structure
from test_build import checked

from novelty_metric import NoveltyReport
from novelty_metric.cli import main
from novelty_metric.errors import InputError
from novelty_metric.leaderboard.build import build
from novelty_metric.leaderboard.check import check_folder, check_one
from novelty_metric.leaderboard.crystals import MOST_CRYSTALS, foreign_parents, shown_rows
from novelty_metric.reference.named import open_reference
from novelty_metric.verdict import Verdict

FILE = Path("crystals/mine.json")
WITH_PARENTS = (4, 5, 6, 7, 8, 9)
"""Undecided rows of the scored run; each has a parent."""


def add(run: Path, board: Path, *more: str) -> int:
    answers = ["name=mine", "model=Mine", "authors=A", "generated=41", "training_set=aflow"]
    return main(["leaderboard", "add", str(run), f"into={board}", *answers, *more])


@pytest.fixture(scope="module")
def added(scored: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run whose undecided crystals are called unmatched, and its submission."""
    root = tmp_path_factory.mktemp("shown")
    shutil.copytree(scored / "run", root / "run")
    report = NoveltyReport.load(root / "run", structures=True)
    rows = [
        replace(row, verdict=Verdict.UNMATCHED) if row.verdict is Verdict.UNDECIDED else row
        for row in report.results
    ]
    NoveltyReport.from_results(rows, report.context).save(root / "run")
    (root / "board" / "submissions").mkdir(parents=True)
    assert add(root / "run", root / "board") == 0
    return root


@pytest.fixture
def mine(added: Path, tmp_path: Path) -> Path:
    """A copy of the leaderboard."""
    return Path(shutil.copytree(added / "board", tmp_path / "mine"))


def edit_crystals(board: Path, edit: Callable[[list[dict[str, Any]]], Any]) -> None:
    """Change the shown crystals, and their hash in the submission."""
    content = json.loads((board / FILE).read_text())
    edit(content["crystals"])
    replace_crystals(board, json.dumps(content).encode())


def replace_crystals(board: Path, data: bytes) -> None:
    (board / FILE).write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    edit_submission(board, lambda content: content["crystals"].update(sha256=sha256), "mine")


def test_crystals_agree_with_the_run(added: Path) -> None:
    report = NoveltyReport.load(added / "run", structures=True)
    crystals = {one.properties["id"]: one for one in report.crystals()}
    found = check_one(added / "board", "mine")
    assert list(found.crystals) == shown_rows(report) == list(WITH_PARENTS)
    assert (added / "board" / FILE).stat().st_size < 20_000
    for one in found.crystals.values():
        ours, kept = one.crystal.structure(), crystals[one.id]
        assert [site.specie for site in ours] == [site.specie for site in kept]
        assert ours.frac_coords == pytest.approx(kept.frac_coords, abs=1e-4)
        assert ours.lattice.matrix == pytest.approx(kept.lattice.matrix, abs=1e-4)
        assert one.parent is not None
        assert sorted(set(one.parent.new_elements)) == sorted(set(one.crystal.elements))
    assert list(foreign_parents(found.crystals, report.results, open_reference("aflow"))) == []


def test_lowest_energies_are_selected_and_equal_crystals_once() -> None:
    base = checked("a", 12, rows=14).report
    energies = [0.09, 0.02, 0.02, -0.5, 0.01, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.1, -1.0, -1.0]
    rows = [
        replace(row, e_above_hull=energy, n_sites=4)
        for row, energy in zip(base.results, energies, strict=True)
    ]
    rows[2] = replace(rows[2], duplicate_group=0)
    rows[3] = replace(rows[3], energy_suspect=True)
    rows[5] = replace(rows[5], duplicate_group=0)
    rows[6] = replace(rows[6], n_sites=201)
    rows[7] = replace(rows[7], eligible=False)
    report = NoveltyReport.from_results(rows, base.context)
    assert shown_rows(report) == [4, 1, 2, 8, 9, 10] and len(shown_rows(report)) == MOST_CRYSTALS
    without = [replace(row, e_above_hull=None) for row in rows]
    report = NoveltyReport.from_results(without, base.context)
    assert shown_rows(report) == [0, 1, 2, 4, 8, 9]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.reverse(), "its crystals are not the unmatched ones of lowest energy"),
        (lambda c: c.pop(), "its crystals are not the unmatched ones of lowest energy"),
        (lambda c: c.extend(c), "has 12 entries"),
        (lambda c: c[0].update(cell=1), "no key named 'crystals[0].cell'"),
        (lambda c: c[0]["crystal"].update(elements=["Na", "Cl"]), "2 elements on 3 sites"),
        (lambda c: c[0]["crystal"].update(elements=["Li", "Li", "O"]), "the crystal is Li2O, the"),
        (lambda c: c[0]["crystal"].update(elements=["Xx", "Na", "O"]), "Xx"),
        (lambda c: c[0]["crystal"].update(lattice=[[0, 0, 0]] * 3), "the cell has no volume"),
        (lambda c: c[0]["crystal"].update(lattice=[[1, 0]] * 3), "three numbers"),
        (lambda c: c[0]["crystal"]["frac_coords"].__setitem__(0, [1e99, 0, 0]), "coordinate is"),
        (lambda c: c[0]["crystal"].update(frac_coords=[[0, 0, float("inf")]]), "three numbers"),
        (lambda c: c[0]["parent"].update(id="x"), "the parent is x, the table of verdicts has"),
        (lambda c: c[1]["parent"]["new_elements"].reverse(), "do not agree with element_map"),
        (lambda c: c[0]["parent"]["new_elements"].pop(), "must have one element per site"),
        (lambda c: c[0]["parent"]["new_elements"].extend(["O"] * 200), "has 203 entries"),
    ],
)
def test_other_crystal_is_refused(
    mine: Path, edit: Callable[[list[dict[str, Any]]], Any], message: str
) -> None:
    edit_crystals(mine, edit)
    found, (problem,) = check_folder(mine)
    assert not found and message in problem and "\n" not in problem


@pytest.mark.parametrize(
    "data", [b"", b"[" * 99_999, b"\xff", b"[]", b'{"schema_version": 1, "crystals": []}', b"{"]
)
def test_invalid_files_are_refused(mine: Path, data: bytes) -> None:
    replace_crystals(mine, data)
    with pytest.raises(InputError, match=r"crystals/mine\.json"):
        check_one(mine, "mine")


def test_hash_and_name_of_the_file_are_checked(mine: Path) -> None:
    data = (mine / FILE).read_bytes()
    (mine / FILE).write_bytes(data + b" ")
    assert "was changed: its SHA-256" in check_folder(mine)[1][0]
    (mine / FILE).write_bytes(data + b" " * 2**18)
    assert "at most 262,144 are allowed" in check_folder(mine)[1][0]
    edit_submission(mine, lambda content: content.update(crystals=None), "mine")
    assert check_folder(mine)[1] == (
        "crystals/mine.json: no submission names this file; remove it",
    )


def test_submission_without_crystals_lists_their_formulas(added: Path, tmp_path: Path) -> None:
    assert add(added / "run", tmp_path, "crystals=false") == 0
    assert not (tmp_path / "crystals").exists()
    (path,) = [path for path in build(tmp_path) if path.name == "index.html"]
    page = path.read_text()
    assert page.count("<canvas") == 0 and "mountCrystal" not in page
    assert "Na2O" in page.split('<table class="unmatched"')[1]


def test_crystals_are_recomputed(
    scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the unmodified run: its three unmatched crystals have no parents."""
    board = Path(shutil.copytree(scored / "board", tmp_path / "board"))
    arguments = ["leaderboard", "check", str(board), "--samples", str(scored / "samples")]
    arguments += ["--recompute=1", "--workers=1"]
    assert main(arguments) == 0
    n_again = int(capsys.readouterr().out.split(" crystals scored again")[0].split()[-1])
    assert n_again in (3, 4)  # the shown crystals and one random crystal

    def expand_cell(crystals: list[dict[str, Any]]) -> None:
        lattice = crystals[1]["crystal"]["lattice"]
        crystals[1]["crystal"]["lattice"] = [[1.4 * x for x in vector] for vector in lattice]

    edit_crystals(board, expand_cell)
    assert main(arguments) == 1
    output = [line for line in capsys.readouterr().out.splitlines() if line.startswith("wrong")]
    assert len(output) == 1 and "the crystal shown is not the relaxed one" in output[0]
    assert "other-TlAlF4" in output[0]


def test_parent_that_is_not_in_the_reference_is_detected(mine: Path) -> None:
    def move(crystals: list[dict[str, Any]]) -> None:
        crystals[1]["parent"]["lattice"][0][0] *= 1.05

    edit_crystals(mine, move)
    found = check_one(mine, "mine")
    (line,) = foreign_parents(found.crystals, found.report.results, open_reference("aflow"))
    assert "swap-CsCl-CsBr" in line and "AB_cP2_221_b_a of the reference" in line


def test_crystals_rotate_on_the_page_of_the_model(
    mine: Path, open_page: Callable[..., Any]
) -> None:
    shown = open_page(next(path for path in build(mine) if path.name == "index.html"))
    assert shown.locator("canvas:visible").count() == 0
    shown.locator("table.models").get_by_role("link", name="Mine").click()
    shown.wait_for_selector(".card.drawn")
    assert shown.locator(".card").count() == 6 and shown.locator("canvas:visible").count() == 12
    first = shown.locator(".card canvas").first
    pixels = "one => one.toDataURL()"
    second = shown.locator(".card canvas").nth(1)
    before = first.evaluate(pixels), second.evaluate(pixels)
    first.focus()
    shown.keyboard.press("ArrowLeft")
    shown.wait_for_function("([one, data]) => one.toDataURL() !== data", arg=[
        first.element_handle(), before[0]
    ])  # fmt: skip
    assert second.evaluate(pixels) != before[1]  # the parent rotates too
    captions = shown.locator(".card").first.locator("figcaption").all_inner_texts()
    assert "ABC_cF12_216_b_c_a" in captions[1] and "Na" in captions[0]


def test_link_opens_a_crystal(mine: Path, open_page: Callable[..., Any]) -> None:
    shown = open_page(next(path for path in build(mine) if path.name == "index.html"))
    shown.evaluate("location.hash = '#crystal-mine-5'")
    card = shown.locator("#crystal-mine-5")
    card.wait_for(state="visible")
    assert shown.locator("#table").is_hidden() and shown.title().startswith("Mine")
    assert -50 <= card.bounding_box()["y"] < 900
    card.locator("a").first.click()
    assert shown.evaluate("location.hash") == "#crystal-mine-5" and card.is_visible()


def test_pymatgen_reads_a_crystal_of_the_file(added: Path) -> None:
    """As a reader with only this file."""
    one = json.loads((added / "board" / FILE).read_text())["crystals"][1]["crystal"]
    made = Structure(one["lattice"], one["elements"], one["frac_coords"])
    assert made.composition.reduced_formula == "CsBr" and made.get_space_group_info()[1] == 221
