"""The page of a run: its text, its self-contained figures, and its size."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from novelty_metric.comparison.compare import compare
from novelty_metric.comparison.pairwise import adjusted, pairwise
from novelty_metric.errors import InputError
from novelty_metric.figures import FIGURES, Needs
from novelty_metric.figures.bars import verdict_bars
from novelty_metric.figures.page import LARGEST_SVG, page_source, save_picture
from novelty_metric.figures.report_page import (
    MOST_RUNS_PAIRED,
    MOST_UNMATCHED,
    Run,
    p_text,
    report_page,
)
from novelty_metric.figures.style import COLUMN, PAGE
from novelty_metric.reference.calibration import Calibration, LeftOutCrystal
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.report.rediscovery import Rediscovered, Rediscovery, with_rediscovery

NASTY = "<script>document.title='run'</script>\"'&{{ 7*7 }}$x^2"


def text_of(page: str) -> str:
    body = re.sub(r"(?s)<(style|script)>.*?</\1>", "", page)
    return " ".join(unescape(re.sub(r"<[^>]*>", "", body)).split())


@pytest.fixture(autouse=True)
def few_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw only two figures; all figures take seconds per run."""
    monkeypatch.setattr("novelty_metric.figures.report_page.FIGURES", FIGURES[:2])


def test_text_of_one_run(make_report: Callable[..., NoveltyReport]) -> None:
    report = make_report(duplicate=5, substituted=19, unmatched=10, n_left_out=16)
    text = text_of(report_page([Run(name="diffcsp", report=report)]))
    assert "Novelty of diffcsp Against mine, 27,136 crystals" in text
    assert "novelty29.4 %10 of 34 eligible; 95 %: 16.8–46.2" in text
    assert "novel yield20.0 %unique unmatched crystals of 50 generated; 95 %: 11.2–33.0" in text
    assert "substituted1955.9 [39.5–71.1]" in text
    assert "composition refused by SMACT16" in text
    assert "c" * 64 in text and "spglib 2.7.1" in text and "accept_early=0.02" in text
    assert "More than chance?" not in text and "Crystals beside" not in text


@pytest.mark.parametrize(
    ("n_new", "message"),
    [
        (5, "novelty ratio5.995 %: 2.2–15.4; real crystals: 5.0 % of 100 unmatched"),
        (0, "novelty ratioat least 7.9real crystals: 0.0 % of 100 unmatched"),
    ],
)
def test_calibrated_run_is_compared_with_real_crystals(
    make_report: Callable[..., NoveltyReport], n_new: int, message: str
) -> None:
    crystals = tuple(
        LeftOutCrystal(i, "cubic", True, "unmatched" if i < n_new else "substituted", 1.0)
        for i in range(100)
    )
    made = make_report(duplicate=5, substituted=19, unmatched=10)
    context = dataclasses.replace(made.context, calibration=Calibration("key", 0, crystals))
    report = NoveltyReport.from_results(made.results, context)
    page = report_page([Run(name="mine", report=report)])
    assert message in text_of(page)
    assert "In short: new " in text_of(page)
    assert page.count('alt="Novelty ratio to real crystals, with 95 % intervals. mine: ') == 1
    without = report_page([Run(name="mine", report=made)])
    assert "novelty ratio" not in text_of(without) and "In short" not in text_of(without)
    assert 'alt="Novelty ratio' not in without


def test_rediscovery_of_a_run(make_report: Callable[..., NoveltyReport]) -> None:
    made = make_report(duplicate=5, unmatched=1)
    found = Rediscovery("test.csv", 200, 0, 0, 0, (Rediscovered("mp-1", None, ("gen_1",)),), {})
    report = with_rediscovery(made, found)
    page = report_page([Run(name="mine", report=report), Run(name="other", report=made)])
    assert "crystals of the test set rediscovered" in text_of(page)
    alone = text_of(report_page([Run(name="mine", report=report)]))
    assert "rediscovered1of 200 crystals of test.csv; 95 %: 0.5 [0.1–2.8] %" in alone
    assert "rediscovered" not in text_of(report_page([Run(name="other", report=made)]))


def test_run_without_relaxation_has_a_bound(
    make_report: Callable[..., NoveltyReport],
) -> None:
    made = make_report(duplicate=5, unmatched=1, undecided=4)
    context = dataclasses.replace(made.context, potential=None)
    searched = NoveltyReport.from_results(made.results, context)
    text = text_of(report_page([Run(name="searched", report=searched)]))
    assert "at most 50.0" in text
    assert "nothing was relaxed: 1 of 10 eligible unmatched, 4 undecided" in text
    assert "Nothing was relaxed, so 4 of 10 eligible crystals are undecided" in text
    several = text_of(
        report_page([Run(name="searched", report=searched), Run(name="whole", report=made)])
    )
    assert "at most 50.0" in several


def test_unmatched_crystals_are_sorted_by_distance_from_parents(
    make_report: Callable[..., NoveltyReport],
) -> None:
    page = report_page([Run(name="a", report=make_report(unmatched=4, duplicate=1))])
    listed = re.findall(r"<td>(gen-unmatched-\d)</td>", page)
    # Numbers 1 and 3 have no parent; 2 has a cost above 0.
    assert listed == [f"gen-unmatched-{number}" for number in (1, 3, 2, 0)]


def test_every_figure_is_shown_or_listed_as_missing(
    make_report: Callable[..., NoveltyReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("novelty_metric.figures.report_page.FIGURES", FIGURES)
    page = report_page([Run(name="a", report=make_report(unmatched=2, substituted=2))])
    text = text_of(page)
    for spec in FIGURES:
        at_the_top = spec.name == "novelty_ratio"  # and only with a calibrated reference
        assert at_the_top or (f'id="{spec.name}"' in page and spec.shows in text)
    needs_reference = sum(spec.needs is not Needs.REPORT for spec in FIGURES)
    assert needs_reference > 2
    assert text.count("Left out: needs the reference (mine)") == needs_reference
    # The figure of kinds needs an exhaustive run.
    assert page.count("<figure") == len(FIGURES) - needs_reference - 2


def test_several_runs_are_compared(make_report: Callable[..., NoveltyReport]) -> None:
    reports = {
        "flowmm": make_report(prefix="f", substituted=20, unmatched=20),
        "crystalformer": make_report(prefix="c", substituted=39, unmatched=1),
        "diffcsp": make_report(prefix="d", substituted=22, unmatched=18),
    }
    page = report_page([Run(name=name, report=one) for name, one in reports.items()])
    text = text_of(page)
    assert "Novelty of 3 runs" in text
    change = compare(reports["flowmm"], reports["crystalformer"]).differences["unmatched"]
    assert change.change is not None
    shown = f"{100 * change.change.value:+.1f} [{100 * change.change.low:+.1f}, "
    assert f"flowmm crystalformer {shown}" in text.replace(
        "flowmmcrystal", "flowmm crystal"
    ).replace("crystalformer-", "crystalformer -")
    rows = re.findall(r"<tr class=\"beyond\"><td>(\w+)</td><td>(\w+)</td>", page)
    assert rows == [("flowmm", "crystalformer"), ("crystalformer", "diffcsp")]
    assert "cubic" in text and "These runs do not measure the same thing" not in text


def test_warning_for_runs_with_other_settings(make_report: Callable[..., NoveltyReport]) -> None:
    one = make_report(unmatched=1, duplicate=1)
    other = dataclasses.replace(
        one, context=dataclasses.replace(one.context, crystals_hash="f" * 64)
    )
    text = text_of(report_page([Run(name="a", report=one), Run(name="b", report=other)]))
    assert "These runs do not measure the same thing." in text
    assert "reference: mine (cccccccccccc) for a, mine (ffffffffffff) for b" in text


def test_many_runs_are_compared_with_the_first(
    make_report: Callable[..., NoveltyReport],
) -> None:
    report = make_report(unmatched=1, duplicate=3)
    runs = [Run(name=f"run {n}", report=report) for n in range(MOST_RUNS_PAIRED + 1)]
    page = report_page(runs)
    assert len(re.findall(r"<td>run 0</td><td>run \d+</td>", page)) == MOST_RUNS_PAIRED
    assert "<td>run 1</td><td>run 2</td>" not in page
    assert "compared only with the first" in page


@pytest.mark.parametrize("counts", [{}, {"undecided": 4}, {"n_left_out": 3}])
def test_run_without_results_has_a_page(
    make_report: Callable[..., NoveltyReport], counts: dict[str, int]
) -> None:
    report = make_report(**counts)
    text = text_of(report_page([Run(name="a", report=report)]))
    if counts.get("undecided"):
        assert "4 of 4 eligible crystals are undecided" in text
        assert "its bounds, 0.0–100.0 %" in text
    else:
        assert "so the novelty is not defined" in text
        assert "novelty–none eligible" in text
    both = report_page([Run(name="a", report=report), Run(name="b", report=report)])
    assert "nan" not in text_of(both).lower().replace("nanometre", "")


def test_text_of_a_run_is_escaped(
    make_report: Callable[..., NoveltyReport], tmp_path: Path, open_page: Callable[..., Any]
) -> None:
    report = make_report(unmatched=2, duplicate=1)
    rows = [
        dataclasses.replace(row, id=f"{NASTY}{number}", parent_id=NASTY, formula=NASTY)
        for number, row in enumerate(report.results)
    ]
    context = dataclasses.replace(report.context, reference_name=NASTY, warnings=(NASTY,))
    report = NoveltyReport.from_results(rows, context)
    folder = report.save(tmp_path / "run")
    out = tmp_path / "page.html"
    runs = [Run(name=NASTY, report=report, folder=folder), Run(name="b", report=report)]
    out.write_text(report_page(runs[:1], figures=tmp_path / "a b#c"), encoding="utf-8")
    page = open_page(out)
    assert page.title() == f"Novelty of {NASTY}"
    assert page.locator("main script, main img[onerror]").count() == 0
    assert page.locator("figcaption").first.is_visible()
    assert f"{NASTY}1" in page.inner_text("#unmatched ~ .scroll")
    out.write_text(report_page(runs), encoding="utf-8")
    assert open_page(out).locator("main script").count() == 0


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("n_runs", [1, 3])
def test_in_a_browser(
    make_run: Callable[..., Path],
    tmp_path: Path,
    open_page: Callable[..., Any],
    width: int,
    n_runs: int,
) -> None:
    runs = []
    for number in range(n_runs):
        folder = make_run(f"model-{number}", duplicate=3, substituted=6, unmatched=1 + 2 * number)
        report = NoveltyReport.load(folder)
        runs.append(Run(name=folder.name, report=report, folder=folder))
    out = tmp_path / "page.html"
    out.write_text(report_page(runs, n_crystals=6), encoding="utf-8")
    page = open_page(out, width=width)
    pictures = page.locator("img")
    assert pictures.count() >= n_runs
    assert page.locator(".card").count() == 6
    sizes = pictures.evaluate_all("all => all.map(one => one.complete && one.naturalWidth)")
    assert all(size > 50 for size in sizes)
    assert all(pictures.evaluate_all("all => all.map(one => one.alt.length > 5)"))
    # The page never scrolls horizontally.
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for link in page.locator("nav.contents a").evaluate_all("all => all.map(a => a.hash)"):
        assert page.locator(link).count() == 1, link
    # With the keyboard: the first tab stop skips the contents, and tables can be sorted.
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    if n_runs > 1:
        table = page.locator("table.sortable").first
        button = table.locator("th:nth-child(2) button")
        button.focus()
        page.keyboard.press("Enter")
        names = table.locator("tbody th").all_inner_texts()
        assert names == ["model-2", "model-1", "model-0"]


@pytest.fixture
def crystals_page(
    make_run: Callable[..., Path], tmp_path: Path, open_page: Callable[..., Any]
) -> Callable[..., Any]:
    """The page of a run with crystals of three verdicts, and some without a verdict."""

    def opened(*, width: int = 1280, **counts: int) -> Any:
        given = counts or {"unmatched": 3, "substituted": 6, "duplicate": 4}
        folder = make_run("a b/c#d%e", **given)
        run = Run(name="run", report=NoveltyReport.load(folder), folder=folder)
        out = tmp_path / "page.html"
        out.write_text(report_page([run]), encoding="utf-8")
        return open_page(out, width=width)

    return opened


def shown_cards(page: Any) -> list[str]:
    """Ids of the visible cards, in order."""
    cards = page.locator(".card:not([hidden])")
    ids: list[str] = cards.evaluate_all("all => all.map(one => one.id)")
    return [name.removeprefix("crystal-a b/c#d%e-") for name in ids]


def test_crystals_are_filtered_and_sorted(crystals_page: Callable[..., Any]) -> None:
    page = crystals_page()
    form = page.locator("#filter")
    status = form.locator("output")
    every = shown_cards(page)
    assert [name.split("-")[0] for name in every] == (
        ["unmatched"] * 3 + ["substituted"] * 6 + ["duplicate"] * 4
    )
    assert status.inner_text() == "13 of 13 crystals"
    form.get_by_label("duplicate 4").uncheck()
    form.get_by_label("Crystal system").select_option("triclinic")
    assert shown_cards(page) == ["unmatched-2", "substituted-2", "substituted-5"]
    form.get_by_label("Above hull, at most").fill("0.02")
    assert shown_cards(page) == ["unmatched-2", "substituted-2"]
    assert status.inner_text() == "2 of 13 crystals"
    form.get_by_role("button", name="Clear").click()
    page.wait_for_selector("#filter output:text('13 of 13')")
    assert shown_cards(page) == every
    for elements, n_shown in (("K", 13), ("br k", 13), ("KBr", 13), ("Na", 0), ("B", 0)):
        form.get_by_label("Contains").fill(elements)
        assert len(shown_cards(page)) == n_shown, elements
    form.get_by_label("Contains").fill("")
    # Only every second unmatched crystal has this id as its parent.
    form.get_by_label("Search").fill("MP-1 unmatched")
    assert shown_cards(page) == ["unmatched-0", "unmatched-2"]
    page.keyboard.press("Enter")  # does not submit a form
    form.get_by_label("Search").fill("")
    form.get_by_label("Sort by").select_option("cost, greatest first")
    assert shown_cards(page)[:2] == ["substituted-5", "substituted-4"]
    assert shown_cards(page)[-1] == "unmatched-1"  # has no cost


def test_link_opens_a_crystal_and_returns(crystals_page: Callable[..., Any]) -> None:
    page = crystals_page()
    page.get_by_label("unmatched 3").uncheck()
    page.locator("#unmatched ~ .scroll a", has_text="unmatched-2").click()
    card = page.locator(".card:target")
    card.wait_for()  # the filters follow a moment later
    assert "unmatched-2" in (card.text_content() or "")  # not the visible text: it is drawn later
    assert page.get_by_label("unmatched 3").is_checked()
    page.wait_for_selector(".card:target.drawn")
    assert page.evaluate(
        "document.querySelector('.card:target').getBoundingClientRect().top < innerHeight"
    )
    page.go_back()
    page.wait_for_function("!document.querySelector('.card:target')")
    assert "#" not in page.url
    address = page.locator(".card a").first.evaluate("link => link.href")
    page.goto(address)
    page.reload()
    assert page.locator(".card:target").count() == 1


def test_crystals_are_drawn_when_visible_and_rotate_together(
    crystals_page: Callable[..., Any],
) -> None:
    page = crystals_page(unmatched=1, substituted=60, width=390)
    page.locator("#settings").scroll_into_view_if_needed()
    card = page.locator(".card").nth(1)
    card.scroll_into_view_if_needed()
    page.wait_for_selector(".card:nth-child(2).drawn")
    assert 1 < page.locator(".card.drawn").count() < 15
    canvases = card.locator("canvas")
    picture = "all => all.map(one => one.toDataURL())"
    before = canvases.evaluate_all(picture)
    assert len(before) == 2 and min(map(len, before)) > 3000
    canvases.first.focus()
    page.keyboard.press("ArrowLeft")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    after = canvases.evaluate_all(picture)
    assert after[0] != before[0] and after[1] != before[1]
    assert card.locator(".element").all_inner_texts() == ["Br", "K", "Cl", "Na"]
    assert all(canvases.evaluate_all("all => all.map(one => one.ariaLabel.length > 5)"))
    # Invisible crystals release their memory; in print the first ones are drawn.
    page.locator("#settings").scroll_into_view_if_needed()
    page.wait_for_selector(".card:nth-child(2):not(.drawn)")
    assert canvases.first.evaluate("one => one.width") == 0
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert card.evaluate("one => one.matches('.drawn')")


def test_figures_are_written_for_publications(
    make_report: Callable[..., NoveltyReport], tmp_path: Path
) -> None:
    from PIL import Image

    report = make_report(unmatched=2, duplicate=3)
    page = report_page(
        [Run(name="a/b: c", report=report)],
        figures=tmp_path / "the figures",
        out=tmp_path / "here" / "page.html",
    )
    names = sorted(path.name for path in (tmp_path / "the figures").iterdir())
    assert "a_b_c-verdict_flow.png" in names and "a_b_c-verdict_flow.svg" in names
    assert 'href="./../the%20figures/a_b_c-verdict_flow.svg"' in page
    for path in (tmp_path / "the figures").glob("*.png"):
        with Image.open(path) as picture:
            assert round(picture.width / 300, 1) in (round(COLUMN, 1), round(PAGE, 1)), path


def test_folder_that_cannot_be_written(
    make_report: Callable[..., NoveltyReport], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't be written"):
        save_picture(verdict_bars({"a": make_report(duplicate=1)}), tmp_path / "file" / "x", "a")


def test_logarithmic_axes_have_plain_numbers() -> None:
    from matplotlib.figure import Figure

    from novelty_metric.figures.style import plain_numbers

    figure = Figure()
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.set_xlim(0.3, 1.05)
    plain_numbers(axes.xaxis)
    figure.draw_without_rendering()
    shown = {label.get_text() for label in axes.get_xticklabels(which="both")}
    assert {"0.3", "0.4", "1"} <= shown and not any("e" in text or "$" in text for text in shown)


def test_figures_of_many_points_are_rasterised() -> None:
    import numpy as np
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3, 2))
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1])
    assert page_source(figure).startswith("data:image/svg+xml")
    axes.scatter(*np.random.default_rng(0).random((2, 10_000)))
    source = page_source(figure)
    assert source.startswith("data:image/png")
    assert len(source) < 4 * LARGEST_SVG


def test_large_run_has_a_small_page(make_report: Callable[..., NoveltyReport]) -> None:
    report = make_report(duplicate=2000, substituted=4000, unmatched=4000)
    page = report_page([Run(name="a", report=report)])
    assert len(page) < 1_000_000
    assert len(re.findall(r"<td>gen-unmatched", page)) == MOST_UNMATCHED
    assert f"{MOST_UNMATCHED} of 4000" in page


def test_names_must_be_distinct(make_report: Callable[..., NoveltyReport]) -> None:
    report = make_report(duplicate=1)
    for runs in ([], [Run(name="a", report=report)] * 2):
        with pytest.raises(ValueError, match="its own name"):
            report_page(runs)


def test_damaged_crystals_give_one_clear_error(make_run: Callable[..., Path]) -> None:
    folder = make_run("a", unmatched=1)
    report = NoveltyReport.load(folder)
    (folder / "structures.parquet").write_bytes(b"no table")
    with pytest.raises(InputError, match="structures"):
        report_page([Run(name="a", report=report, folder=folder)])


def test_bars_show_every_share_and_the_interval(make_report: Callable[..., NoveltyReport]) -> None:
    report = make_report(duplicate=5, substituted=3, unmatched=2)
    axes = verdict_bars({"a": report, "none": make_report()}).axes[0]
    widths = [patch.get_width() for patch in axes.patches]
    assert widths == pytest.approx([20, 0, 30, 50])
    assert [patch.get_x() for patch in axes.patches] == pytest.approx([0, 20, 20, 50])
    (segments,) = [one.get_segments() for one in axes.collections]
    share = report.fractions["unmatched"]
    assert segments[0][:, 0] == pytest.approx([100 * share.low, 100 * share.high])
    assert [text.get_text() for text in axes.texts] == ["none eligible"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a (10)", "none (0)"]


def test_p_values_are_corrected_by_holm() -> None:
    # By hand: 0.01·4; 0.02·3 = 0.06; 0.03·2 = 0.06; 0.5·1.
    assert adjusted([0.03, 0.5, 0.01, 0.02]) == pytest.approx([0.06, 0.5, 0.04, 0.06])
    assert adjusted([0.9, 0.8]) == [1.0, 1.0]
    assert adjusted([]) == []


def test_pairs_agree_with_compare(make_report: Callable[..., NoveltyReport]) -> None:
    reports = {
        name: make_report(prefix=name, unmatched=n, duplicate=9)
        for name, n in (("a", 1), ("b", 5), ("c", 0))
    }
    pairs = pairwise(reports)
    assert [(pair.first, pair.second) for pair in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    for pair in pairs:
        wanted = compare(reports[pair.first], reports[pair.second]).differences["unmatched"]
        assert pair.difference == wanted
        assert pair.p_adjusted is not None and wanted.p_value is not None
        assert pair.p_adjusted >= wanted.p_value
    against = pairwise(reports, against="a")
    assert [(pair.first, pair.second) for pair in against] == [("a", "b"), ("a", "c")]


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (1e-9, "< 0.0001"), (0.026, "0.026")])
def test_p_values_as_text(value: float | None, text: str) -> None:
    assert p_text(value) == text


def test_decomposition_is_shown_for_unmatched_crystals(
    make_report: Callable[..., NoveltyReport],
) -> None:
    report = make_report(unmatched=2)
    told = [{"K": 0.5, "Br2": 0.5}, {"KBr": 0.5, "KBr3": 0.5}]
    rows = tuple(
        dataclasses.replace(row, decomposition=products, n_competing=2, e_above_hull=0.05)
        for row, products in zip(report.results, told, strict=True)
    )
    page = report_page([Run(name="a", report=dataclasses.replace(report, results=rows))])
    assert "decomposes into KBr + KBr3; 2 compounds known" in page
    assert "K + Br2, the elements alone; the 2 compounds known" in page
    assert "<dd>for 1 crystals, 1 of the 2 stable ones</dd>" in page
