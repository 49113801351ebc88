"""Data of the viewer, the alignment of pairs, and the rotation of the canvas."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from novelty_metric.crystal import reduce
from novelty_metric.crystal_records import CrystalRecord, CrystalRecords
from novelty_metric.report.crystal_viewer import viewer_data, viewer_pair, viewer_script
from novelty_metric.verdict import CrystalResult, Parent, Route, TriedParent, Verdict

CELLS = {
    "rock salt": ("Fm-3m", Lattice.cubic(5.6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
    "rutile": (
        "P4_2/mnm",
        Lattice.tetragonal(4.6, 2.95),
        ["Ti", "O"],
        [[0] * 3, [0.305, 0.305, 0]],
    ),
    "hcp": ("P6_3/mmc", Lattice.hexagonal(3.2, 5.2), ["Mg"], [[1 / 3, 2 / 3, 0.25]]),
    "corundum": (
        "R-3c",
        Lattice.hexagonal(4.76, 13),
        ["Al", "O"],
        [[0, 0, 0.352], [0.306, 0, 0.25]],
    ),
}


def known(name: str) -> Structure:
    return reduce(Structure.from_spacegroup(*CELLS[name]))


def drawn(data: dict[str, Any]) -> Structure:
    """The crystal that the viewer draws, without periodic copies."""
    symbols = [data["elements"][kind] for kind in data["kinds"]]
    return Structure(data["cell"], symbols, np.reshape(data["positions"], (-1, 3)))


def handedness(structure: Structure) -> float:
    """Signed volume (Å³) of one site and three others; a mirror image has the negative value."""
    to_others = []
    for other in (1, 2, 3):
        _, image = structure[0].distance_and_image(structure[other])
        step = structure[other].frac_coords + image - structure[0].frac_coords
        to_others.append(structure.lattice.get_cartesian_coords(step))
    return float(np.linalg.det(to_others))


def pair(
    generated: Structure, parent: Structure, elements: list[str], supercell: Any = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Data of a crystal and of a parent whose sites get these elements."""
    found = Parent(
        route=Route.LATTICE_SITES,
        rank=1,
        index=0,
        parent_id="mp-1",
        cost=1.0,
        match_rms=0.0,
        supercell=supercell,
        elements=tuple(elements),
        element_map={},
        share_exchanged=1.0,
    )
    result = CrystalResult(
        id="a",
        verdict=Verdict.SUBSTITUTED,
        parent_id="mp-1",
        parents=(TriedParent(parent=found, confirmed=True),),
    )
    records = CrystalRecords(relaxed=CrystalRecord.of(generated), parent=CrystalRecord.of(parent))
    first, second = viewer_pair(result, records)
    assert first is not None and second is not None
    return first, second


@pytest.mark.parametrize(
    ("name", "n_sites", "n_drawn"),
    [("rock salt", 8, 27), ("rutile", 6, 15), ("hcp", 2, 2), ("corundum", 30, None)],
)
def test_data_contain_the_crystal_in_its_conventional_cell(
    name: str, n_sites: int, n_drawn: int | None
) -> None:
    structure = known(name)
    data = json.loads(json.dumps(viewer_data(CrystalRecord.of(structure))))
    shown = drawn(data)
    assert len(shown) == n_sites and data["exchanged"] == []
    # This matcher also accepts other numbers of sites, unlike that of the alignment.
    assert StructureMatcher(ltol=0.01, stol=0.01, angle_tol=0.1, scale=False).fit(shown, structure)
    expected = Structure.from_spacegroup(*CELLS[name]).lattice
    assert sorted(shown.lattice.abc) == pytest.approx(sorted(expected.abc), abs=2e-3)
    if n_drawn is not None:
        assert n_sites + len(data["images"]) // 4 == n_drawn
    assert len(data["colors"]) == len(data["radii"]) == len(data["elements"])


def test_colours_agree_with_jmol() -> None:
    data = viewer_data(CrystalRecord.of(known("rock salt")))
    # jmol.sourceforge.net/jscolors: Na [171,92,242], Cl [31,240,31].
    assert dict(zip(data["elements"], data["colors"], strict=True)) == {
        "Na": "#ab5cf2",
        "Cl": "#1ff01f",
    }


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_triclinic_cells_are_drawn_unchanged(seed: int) -> None:
    draw = np.random.default_rng(seed)
    lattice = Lattice(4 * np.eye(3) + draw.uniform(-0.9, 0.9, (3, 3)))
    if seed % 2:
        lattice = Lattice(-lattice.matrix)  # left-handed
    coords = draw.uniform(-2, 2, (5, 3))
    structure = Structure(lattice, ["Na", "Cl", "O", "O", "K"], coords)
    data = viewer_data(CrystalRecord.of(structure))
    order = [data["elements"][kind] for kind in data["kinds"]]
    assert order == ["Na", "Cl", "O", "O", "K"]  # P1 has no symmetry to expand
    shown = drawn(data)
    assert np.allclose(shown.distance_matrix, structure.distance_matrix, atol=0.01)
    assert handedness(shown) == pytest.approx(handedness(structure), rel=0.02, abs=0.05)


@settings(max_examples=15)
@given(st.sampled_from(sorted(CELLS)), st.integers(0, 10**6))
def test_parent_is_aligned_with_its_crystal(name: str, seed: int) -> None:
    """A rotated, translated, reordered and perturbed parent is drawn at the same places."""
    draw = np.random.default_rng(seed)
    generated = known(name)
    new = {"Na": "K", "Cl": "Br", "Ti": "Sn", "O": "O", "Mg": "Zn", "Al": "Fe"}
    turn = np.linalg.qr(draw.normal(size=(3, 3)))[0]
    order = draw.permutation(len(generated))
    coords = generated.frac_coords[order] + draw.uniform(-1, 1, 3)
    coords += draw.uniform(-0.01, 0.01, coords.shape)
    own = [new[generated[int(site)].specie.symbol] for site in order]
    parent = Structure(1.05 * generated.lattice.matrix @ turn, own, coords)
    elements = [generated[int(site)].specie.symbol for site in order]
    first, second = pair(generated, parent, elements)
    one, other = (np.reshape(data["positions"], (-1, 3)) for data in (first, second))
    apart = one - other
    apart -= apart.mean(axis=0)  # the perturbation also moves the mean position
    assert np.abs(apart).max() < 0.04
    assert np.allclose(np.array(second["cell"]), 1.05 * np.array(first["cell"]), atol=0.02)
    assert first["images"] == second["images"]
    symbols = [[data["elements"][kind] for kind in data["kinds"]] for data in (first, second)]
    assert [new[symbol] for symbol in symbols[0]] == symbols[1]
    exchanged = [at for at, (a, b) in enumerate(zip(*symbols, strict=True)) if a != b]
    assert first["exchanged"] == second["exchanged"] == exchanged


def test_supercells_of_both_crystals_are_drawn() -> None:
    small = Structure(Lattice.cubic(3), ["Po"], [[0, 0, 0]])
    large = Structure(
        Lattice([[3, 0, 0], [0, 3, 0], [0, 0, 6]]), ["K", "Br"], [[0] * 3, [0, 0, 0.5]]
    )
    matrix = ((1, 0, 0), (0, 1, 0), (0, 0, 2))
    for first, second in (
        pair(large, small, ["K", "Br"], matrix),
        pair(small, large, ["Po", "Po"]),
    ):
        assert len(first["kinds"]) == len(second["kinds"]) == 2
        assert first["exchanged"] == [0, 1]
        assert np.allclose(first["cell"], second["cell"])


def test_conventional_cell_of_a_larger_parent_is_used() -> None:
    """Simple cubic polonium; rock salt has alternating elements on its sites."""
    small = Structure(Lattice.cubic(3), ["Po"], [[0, 0, 0]])
    large = reduce(
        Structure.from_spacegroup("Fm-3m", Lattice.cubic(6), ["Na", "Cl"], [[0] * 3, [0.5] * 3])
    )
    first, second = pair(small, large, ["Po", "Po"])
    assert np.allclose(second["cell"], 6 * np.eye(3), atol=1e-3)
    assert np.allclose(first["cell"], second["cell"])


def test_crystals_that_do_not_match_are_drawn_separately() -> None:
    generated, parent = known("corundum"), known("corundum")
    parent.scale_lattice(2 * parent.volume)
    for site in range(len(parent)):
        parent.translate_sites(site, np.random.default_rng(site).uniform(-0.3, 0.3, 3))
    elements = [site.specie.symbol for site in generated]
    parent = parent.replace_species({"Al": "Fe"}, in_place=False)
    first, second = pair(generated, parent, elements)
    assert len(first["kinds"]) == 30
    for data, name in ((first, "Al"), (second, "Fe")):
        marked = {data["elements"][data["kinds"][site]] for site in data["exchanged"]}
        assert marked == {name}


def test_missing_data_are_none() -> None:
    row = CrystalResult(id="a")
    record = CrystalRecord.of(known("hcp"))
    assert viewer_pair(row, CrystalRecords()) == (None, None)
    first, second = viewer_pair(row, CrystalRecords(generated=record))
    assert first == viewer_data(record) and second is None


# Tests in a browser

PAGE = """\
<!doctype html><meta charset="utf-8"><title>viewer</title>
<style>canvas {{ width: 240px; height: 200px; background: #fff; color: #000 }}
body {{ height: 3000px }}</style>
<canvas id="one"></canvas><canvas id="other"></canvas><canvas id="alone"></canvas>
<script>{script}
const view = crystalView();
const data = {data};
const viewers = [mountCrystal(document.getElementById("one"), data, view),
  mountCrystal(document.getElementById("other"), data, view),
  mountCrystal(document.getElementById("alone"), data)];
</script>
"""


@pytest.fixture
def shown(tmp_path: Path, open_page: Callable[..., Any]) -> Any:
    data = viewer_data(CrystalRecord.of(known("corundum")))
    path = tmp_path / "viewer.html"
    path.write_text(PAGE.format(script=viewer_script(), data=json.dumps(data)), encoding="utf-8")
    return open_page(path, has_touch=True)


def pictures(page: Any) -> list[str]:
    """Images of the three canvases, after all requested frames are drawn."""
    found: list[str] = page.evaluate(
        """() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() =>
            done([...document.querySelectorAll("canvas")].map((one) => one.toDataURL())))))"""
    )
    return found


def changed(page: Any, before: list[str]) -> list[bool]:
    return [one != other for one, other in zip(before, pictures(page), strict=True)]


def test_canvases_of_a_view_rotate_together(shown: Any) -> None:
    first = pictures(shown)
    assert first[0] == first[1] and len(first[0]) > 5000
    box = shown.locator("#one").bounding_box()
    shown.mouse.move(box["x"] + 120, box["y"] + 100)
    shown.mouse.down()
    shown.mouse.move(box["x"] + 170, box["y"] + 130)
    shown.mouse.up()
    assert changed(shown, first) == [True, True, False]
    rotation = np.array(shown.evaluate("view.rotation"))
    assert np.allclose(rotation @ rotation.T, np.eye(3)) and np.linalg.det(rotation) > 0
    # The same movement without a mouse button rotates nothing.
    turned = pictures(shown)
    shown.mouse.move(box["x"] + 20, box["y"] + 30)
    assert changed(shown, turned) == [False] * 3
    shown.mouse.dblclick(box["x"] + 20, box["y"] + 30)
    assert changed(shown, first) == [False] * 3


def test_keys_rotate_and_zoom(shown: Any) -> None:
    first = pictures(shown)
    shown.locator("#alone").focus()
    for key in ("ArrowLeft", "ArrowUp", "+"):
        before = pictures(shown)
        shown.keyboard.press(key)
        assert changed(shown, before) == [False, False, True], key
    shown.keyboard.press("0")
    assert changed(shown, first) == [False] * 3
    shown.keyboard.press("Tab")  # leaves the canvas
    assert shown.evaluate("document.activeElement.id") != "alone"


def test_wheel_zooms_only_with_focus(shown: Any) -> None:
    first = pictures(shown)
    shown.mouse.move(100, 100)
    shown.mouse.wheel(0, 100)
    shown.wait_for_function("window.scrollY > 0")
    assert changed(shown, first) == [False] * 3
    shown.evaluate("window.scrollTo(0, 0)")
    shown.locator("#one").focus()
    shown.mouse.wheel(0, -100)
    assert changed(shown, first) == [True, True, False]


def test_pinch_zooms(shown: Any) -> None:
    session = shown.context.new_cdp_session(shown)

    def touch(kind: str, *points: tuple[int, int]) -> None:
        fingers = [{"x": x, "y": y, "id": at} for at, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    touch("touchStart", (100, 100), (140, 100))
    touch("touchMove", (80, 100), (160, 100))
    touch("touchEnd")
    assert shown.evaluate("view.zoom") == pytest.approx(2, rel=0.05)


def test_unmounted_canvas_is_cleared(shown: Any) -> None:
    first = pictures(shown)
    shown.evaluate("viewers[0].unmount()")
    assert shown.evaluate("document.getElementById('one').width") == 0
    shown.locator("#one").focus()
    shown.keyboard.press("ArrowLeft")
    assert changed(shown, first)[1:] == [False, False]
    assert shown.locator("#other").get_attribute("aria-label").startswith("crystal of Al, O;")


def test_script_defines_only_functions() -> None:
    """A notebook can then run it in every cell."""
    outside = [line for line in viewer_script().splitlines() if line[:1].isalpha()]
    assert outside and all(line.startswith("function ") for line in outside)
    assert "fetch(" not in viewer_script() and "http" not in viewer_script()
    assert len(viewer_script().splitlines()) < 300
