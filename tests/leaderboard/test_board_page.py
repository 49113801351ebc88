"""The page in a browser: sorting, details of a model, its crystals, and no external requests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from board_files import BOARD, edit_submission
from test_build import checked

from novelty_metric.leaderboard.board import sections
from novelty_metric.leaderboard.build import build
from novelty_metric.leaderboard.page import page

OpenPage = Callable[..., Any]
MODEL = "article[id^=model-]:visible"
MODELS = "section:nth-of-type(2) table.models"
"""The crystal of the demonstration."""


def names(shown: Any, table: str = MODELS) -> list[str]:
    return list(shown.locator(f"{table} tbody th a").all_inner_texts())


def test_table_sorts_by_mouse_and_keyboard(open_page: OpenPage) -> None:
    shown = open_page(BOARD / "index.html")
    first = names(shown)
    assert len(first) == 6
    heads = shown.locator(MODELS).get_by_role("button", name="Model", exact=True)
    heads.click()
    assert names(shown) == sorted(first, key=str.lower)
    shown.locator(MODELS).get_by_role("button", name="Duplicate").focus()
    shown.keyboard.press("Enter")
    values = shown.locator(f"{MODELS} tbody tr").evaluate_all(
        "rows => rows.map(row => Number(row.cells[10].dataset.value))"
    )
    assert values == sorted(values, reverse=True) and len(set(values)) > 1
    shown.locator("table.systems").nth(1).get_by_role("button", name="cubic").click()
    assert shown.locator("table.systems th[aria-sort]").inner_text().startswith("cubic")


def test_details_of_a_model_list_its_unmatched_crystals(open_page: OpenPage) -> None:
    shown = open_page(BOARD / "index.html")
    assert shown.locator(MODEL).count() == 0
    shown.locator(MODELS).get_by_role("link", name="MatterGen").click()
    article = shown.locator(MODEL)
    article.first.wait_for()
    assert article.count() == 1 and article.get_attribute("id") == "model-mattergen"
    assert shown.locator("#table").is_hidden()
    assert shown.title().startswith("MatterGen")
    crystals = article.locator(".card, table.unmatched tbody tr")
    assert crystals.count() == 6 and "mp-" in crystals.first.text_content()
    assert article.locator("table.breakdown").count() == 3
    shown.go_back()
    shown.wait_for_selector("#table:visible")
    assert shown.locator(MODEL).count() == 0 and shown.locator("#table").is_visible()


def test_charts_are_shown(open_page: OpenPage) -> None:
    shown = open_page(BOARD / "index.html")
    charts = shown.locator("#table figure img")
    assert charts.count() == 2 * shown.locator("#table section").count()
    widths = charts.evaluate_all("images => images.map(image => image.naturalWidth)")
    assert all(width > 300 for width in widths)


def test_link_opens_a_model(open_page: OpenPage, tmp_path: Path) -> None:
    shown = open_page(BOARD / "index.html")
    shown.evaluate("location.hash = '#model-flowmm'")
    shown.wait_for_selector("#model-flowmm:visible")
    shown.evaluate("location.hash = '#model-nobody'")
    shown.wait_for_selector("#table:visible")


@pytest.mark.parametrize("width", [390, 1280])
def test_page_never_scrolls_horizontally(open_page: OpenPage, width: int) -> None:
    shown = open_page(BOARD / "index.html", width=width)
    wide = "document.documentElement.scrollWidth"
    assert shown.evaluate(wide) <= width
    shown.evaluate("location.hash = '#model-diffcsp'")
    shown.wait_for_selector("#model-diffcsp:visible")
    assert shown.evaluate(wide) <= width


def test_wide_screen_shows_the_whole_table(open_page: OpenPage) -> None:
    shown = open_page(BOARD / "index.html")
    hidden = "boxes => boxes.map(box => box.scrollWidth - box.clientWidth)"
    assert all(more <= 1 for more in shown.locator("#table .scroll").evaluate_all(hidden))


def test_text_of_a_submission_is_escaped(board: Path, open_page: OpenPage) -> None:
    nasty = "<b>x</b><script>document.title='run'</script>"

    def edit(content: dict[str, Any]) -> None:
        content["model"] = nasty
        content["notes"] = f"\"'><img src=x onerror=\"document.title='run'\">{nasty}"
        content["authors"] = [nasty]
        content["training_set"]["name"] = nasty
        content["samples"]["relaxed_with"] = "{{ 7 * 7 }} $\\frac{1}{2}$"

    edit_submission(board, edit)
    build(board)
    shown = open_page(board / "index.html")
    assert nasty in names(shown, "table.models")
    assert shown.locator("b").count() == 0 and shown.title() != "run"
    shown.evaluate("location.hash = '#model-diffcsp'")
    shown.wait_for_selector("#model-diffcsp:visible")
    assert shown.locator("#model-diffcsp h1").inner_text() == nasty
    assert "{{ 7 * 7 }}" in shown.locator("#model-diffcsp .facts").inner_text()
    assert shown.locator("#content script").count() == 0


def test_ranked_models_come_first(open_page: OpenPage, tmp_path: Path) -> None:
    found = sections([checked("a", 100), checked("b", 20), checked("c", 9, generated=None)])
    path = tmp_path / "ranked.html"
    path.write_text(page(found), encoding="utf-8")
    shown = open_page(path)
    rows = shown.locator("table.models tbody tr").evaluate_all(
        "rows => rows.map(row => row.cells[0].textContent)"
    )
    assert rows == ["1", "2", "–"]
    shown.locator("table.models").get_by_role("button", name="Rank").click()
    shown.locator("table.models").get_by_role("button", name="Rank").click()
    assert names(shown, "table.models")[-1] == "c"  # unranked models come last both ways
    assert "the number of generated crystals is not known" in shown.locator("#table").inner_text()
