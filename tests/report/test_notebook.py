"""Display of a report in a notebook."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from novelty_metric import Reference, SubstitutionNovelty
from novelty_metric.errors import InputError
from novelty_metric.protocol import Protocol
from novelty_metric.reference.calibration import Calibration, LeftOutCrystal
from novelty_metric.relaxation.base import PotentialInfo
from novelty_metric.report.context import RunContext
from novelty_metric.report.crystal_viewer import viewer_script
from novelty_metric.report.notebook import MOST_CRYSTALS
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.verdict import CrystalResult, Verdict

CHGNET = PotentialInfo(name="chgnet", version="0.3.0", weights_hash="ab" * 32)


class Parts(HTMLParser):
    """Collect text, elements and table rows of a page; fail on unclosed elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.elements, self.rows = "", list[tuple[str, dict[str, str | None]]](), []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag != "br":
            self._open.append(tag)
        if tag == "tr":
            self.rows.append(list[str]())
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._open and self._open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def report_of(counts: dict[tuple[str, Verdict], int], **changes: Any) -> NoveltyReport:
    given_context: dict[str, Any] = {
        "protocol": Protocol.named("paper"),
        "reference_name": "mp_20",
        "reference_size": 9,
        "crystals_hash": "c",
        "store_hash": "d",
        "potential": CHGNET,
        **changes,
    }
    rows = [
        CrystalResult(
            id=f"{system}-{verdict}-{number}",
            smact_valid=True,
            converged=True,
            e_above_hull=0.0,
            crystal_system=system,
            eligible=True,
            verdict=verdict,
        )
        for (system, verdict), count in counts.items()
        for number in range(count)
    ]
    rows.append(CrystalResult(id="bad", readable=False, error="no atoms"))
    return NoveltyReport.from_results(rows, RunContext(**given_context))


MIXED = {
    ("cubic", Verdict.DUPLICATE): 3,
    ("cubic", Verdict.UNMATCHED): 1,
    ("triclinic", Verdict.SUBSTITUTED): 2,
    ("triclinic", Verdict.UNMATCHED): 2,
}


def test_headline_bar_and_table() -> None:
    shown = Parts(report_of(MIXED)._repr_html_())
    assert "novelty 37.5 %" in shown.text and "37.5 [13.7–69.4]" in shown.text
    assert "9 samples, 8 eligible, against mp_20" in shown.text
    for expected in ("duplicate 3 (38 %)", "substituted 2 (25 %)", "undecided 0 (0 %)"):
        assert expected in shown.text
    assert shown.rows[0] == [
        *("crystal system", "eligible", "duplicate", "substituted", "unmatched", "undecided"),
        "novelty, % [95 % interval]",
    ]
    rows = {row[0]: row[1:] for row in shown.rows[1:]}
    assert rows == {
        "cubic": ["4", "3", "0", "1", "0", "25 [5–70]"],
        "triclinic": ["4", "0", "2", "2", "0", "50 [15–85]"],
    }


def test_widths_of_the_bar_sum_to_100() -> None:
    shown = Parts(report_of(MIXED)._repr_html_())
    parts = [a for _, a in shown.elements if "width:" in (a.get("style") or "") and "title" in a]
    widths = [float(re.findall(r"width:([\d.]+)%", str(part["style"]))[0]) for part in parts]
    assert widths == pytest.approx([37.5, 25, 37.5])
    (label,) = (a["aria-label"] for _, a in shown.elements if a.get("role") == "img")
    assert label == (
        "duplicate 3 (38 %), substituted 2 (25 %), unmatched 3 (38 %), undecided 0 (0 %)"
    )


def test_run_without_relaxation_shows_the_bound() -> None:
    counts = {("cubic", Verdict.DUPLICATE): 1, ("cubic", Verdict.UNDECIDED): 1}
    shown = Parts(report_of(counts, potential=None)._repr_html_())
    assert "novelty at most 50.0 %: nothing was relaxed" in shown.text
    assert "95 % interval]: " not in shown.text
    assert shown.rows[1] == ["cubic", "2", "1", "0", "0", "1", "at most 50"]


def test_base_rate_of_a_calibrated_reference() -> None:
    verdicts = [Verdict.UNMATCHED, Verdict.SUBSTITUTED, Verdict.DUPLICATE, Verdict.DUPLICATE]
    crystals = [
        LeftOutCrystal(number, "cubic", eligible=True, verdict=verdict.value, cost=1.0)
        for number, verdict in enumerate(verdicts)
    ]
    calibration = Calibration("key", 0, tuple(crystals))
    shown = Parts(report_of(MIXED, calibration=calibration)._repr_html_())
    assert "base rate of 4 real crystals, % [95 % interval]: 25.0 [4.6–69.9]" in shown.text
    assert "base rate" not in Parts(report_of(MIXED)._repr_html_()).text
    assert shown.rows[0][-1] == "real crystals, %"
    assert [row[-1] for row in shown.rows[1:]] == ["–", "25 [5–70]"]


def test_nothing_eligible() -> None:
    shown = Parts(report_of({})._repr_html_())
    assert "novelty unknown" in shown.text and "1 sample, 0 eligible" in shown.text
    assert shown.rows == []


@pytest.mark.parametrize("bad", ["<script>alert(1)</script>", '"><img src=x onerror=y>', "a & b"])
def test_names_are_escaped(bad: str) -> None:
    report = report_of({(bad, Verdict.UNMATCHED): 1}, reference_name=bad)
    shown = Parts(report._repr_html_())
    assert shown.text.count(bad) == 2
    assert {tag for tag, _ in shown.elements} <= {
        *("div", "p", "b", "br", "span", "table", "thead", "tbody", "tr", "th", "td"),
    }
    known = {"style", "title", "role", "aria-label", "scope"}
    assert {name for _, attributes in shown.elements for name in attributes} <= known


@settings(max_examples=50)
@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), min_size=1))
def test_any_name_of_a_reference_is_shown_unchanged(name: str) -> None:
    report = report_of(MIXED, reference_name=name)
    assert f"against {report.context.reference_name}" in Parts(report._repr_html_()).text


def test_notebook_displays_the_report() -> None:
    formatters = pytest.importorskip("IPython.core.formatters")
    report = report_of(MIXED)
    shown, _ = formatters.DisplayFormatter().format(report)
    assert shown["text/html"] == report._repr_html_()


# Interactive crystals


def searched(name: str = "it") -> NoveltyReport:
    """A report of one crystal with a parent and their structures."""
    sites = [[0, 0, 0], [0.5, 0.5, 0.5]]
    reference = Reference.from_structures(
        [Structure(Lattice.cubic(4.1), ["Cs", "Cl"], sites)], ids=["<salt>"], name="one"
    )
    metric = SubstitutionNovelty(reference, relaxer=None, hull="none")
    return metric([Structure(Lattice.cubic(4.3), ["Cs", "Br"], sites)], ids=[name])


def test_crystals_are_shown_beside_their_parents() -> None:
    text = searched()._repr_html_()
    markup, _, script = text.partition("<script>")
    shown = Parts(markup + "</div>")
    assert [tag for tag, _ in shown.elements].count("canvas") == 2
    assert "it, CsBr, undecided; right: <salt>, cost 0.50" in shown.text
    assert viewer_script() in script and script.count("</script>") == 1
    for foreign in ("http://", "https://", "import(", "src="):
        assert foreign not in text
    # A report that was read without its crystals shows none.
    assert "<canvas" not in report_of(MIXED)._repr_html_()


def test_number_of_crystals_is_limited() -> None:
    sites = [[0, 0, 0], [0.5, 0.5, 0.5]]
    crystal = Structure(Lattice.cubic(4.3), ["Cs", "Br"], sites)
    reference = Reference.from_structures([crystal], ids=["salt"], name="one")
    report = SubstitutionNovelty(reference, relaxer=None, hull="none")([crystal] * 9)
    assert report._repr_html_().count("<canvas") == 2 * MOST_CRYSTALS


def test_one_crystal_in_our_viewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymatviz", None)  # as if pymatviz were not installed
    report = searched()
    shown = report.view("it")._repr_html_()
    assert shown.count("<canvas") == 2 and "it, CsBr, undecided; right: &lt;salt&gt;" in shown
    with pytest.raises(InputError, match="no sample 'at' in the run; there are 'it'"):
        report.view("at")
    with pytest.raises(InputError, match="structures=True"):
        report_of(MIXED).view("cubic-unmatched-0")


@pytest.fixture
def pymatviz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """pymatviz, if installed, with an empty script instead of the viewer that it would download."""
    monkeypatch.setenv("MATTERVIZ_ANYWIDGET_DIR", str(tmp_path))
    found = pytest.importorskip("pymatviz", reason="pymatviz is not installed")
    found.configure_assets()
    (tmp_path / "matterviz.js").write_text("export default { render() {} }")
    (tmp_path / "matterviz.css").write_text("")
    yield found
    found.configure_assets()


def test_one_crystal_in_the_pymatviz_widget(pymatviz: Any, tmp_path: Path) -> None:
    report = searched()
    (crystal,) = report.crystals()
    widget = report.view("it")
    assert isinstance(widget, pymatviz.StructureWidget)
    shown = Structure.from_dict(widget.structure)
    crystal.properties = {}
    assert shown == crystal and shown.composition.reduced_formula == "CsBr"


def test_our_viewer_is_used_without_a_network(
    pymatviz: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: Any, **__: Any) -> Any:
        raise URLError("no network")

    (tmp_path / "matterviz.js").unlink()
    monkeypatch.setenv("HOME", str(tmp_path))  # pymatviz's cache of downloads
    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    assert "<canvas" in searched().view("it")._repr_html_()


def test_crystals_rotate_in_a_browser(tmp_path: Path, open_page: Callable[..., Any]) -> None:
    shown = searched("</script><script>alert(1)</script>")._repr_html_()
    path = tmp_path / "notebook.html"
    # The same output twice, like two cells that show it.
    path.write_text(f"<!doctype html><meta charset=utf-8><body>{shown}{shown}</body>")
    page = open_page(path)

    def pictures() -> list[str]:
        found: list[str] = page.evaluate(
            "[...document.querySelectorAll('canvas')].map((canvas) => canvas.toDataURL())"
        )
        return found

    before = pictures()
    assert len(before) == 4 and all(len(picture) > 2000 for picture in before)
    canvas = page.locator("canvas").first
    canvas.focus()
    canvas.press("ArrowLeft")
    page.wait_for_timeout(100)
    changed = [one != other for one, other in zip(before, pictures(), strict=True)]
    assert changed == [True, True, False, False]
