"""The base of all pages: escaping, sorting, and no external requests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import pytest

from novelty_metric.figures.page import environment, page_source, percent
from novelty_metric.report.colors import VERDICT_COLORS

PAGE = """\
{% extends "base.html.jinja" %}
{% block title %}{{ name }}{% endblock %}
{% block content %}
<h1>{{ name }}</h1>
<div class="scroll"><table class="sortable">
<thead><tr>
  <th data-first="ascending"><button>Name</button></th><th><button>Yield</button></th>
</tr></thead>
<tbody>
{% for row, value in rows %}
<tr><th>{{ row }}</th><td data-value="{{ '' if value is none else value }}">{{ value }}</td></tr>
{% endfor %}
</tbody></table></div>
<img id="chart" alt="chart" src="{{ chart }}">
{% endblock %}
"""


def chart() -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 1))
    figure.subplots().barh([0, 1], [1, 2])
    return page_source(figure)


def rendered(tmp_path: Path, **values: Any) -> Path:
    given = {"name": "a page", "rows": [], "chart": chart(), **values}
    path = tmp_path / "page.html"
    path.write_text(environment().from_string(PAGE).render(**given), encoding="utf-8")
    return path


def test_text_is_escaped(tmp_path: Path, open_page: Callable[..., Any]) -> None:
    nasty = "<img src=x onerror=\"document.title='run'\"></title><script>alert(1)</script>"
    page = open_page(rendered(tmp_path, name=nasty))
    assert page.title() == nasty
    assert page.inner_text("h1") == nasty
    assert page.locator("h1 *").count() == 0


def test_undefined_values_are_errors() -> None:
    with pytest.raises(jinja2.UndefinedError):
        environment().from_string("{{ nothing }}").render()


def test_table_sorts_by_mouse_and_keyboard(tmp_path: Path, open_page: Callable[..., Any]) -> None:
    rows = [("b", 9.0), ("a", 10.0), ("d", None), ("c", 0.5)]
    page = open_page(rendered(tmp_path, rows=rows))

    def order() -> str:
        return "".join(page.locator("tbody th").all_inner_texts())

    assert order() == "badc"
    page.get_by_role("button", name="Yield").click()
    # 10 is above 9, unlike in text order; missing values are last.
    assert order() == "abcd"
    assert page.get_attribute("th:nth-child(2)", "aria-sort") == "descending"
    page.keyboard.press("Enter")
    assert order() == "cbad"
    page.get_by_role("button", name="Name").focus()
    page.keyboard.press("Space")
    assert order() == "abcd"
    assert page.get_attribute("th:nth-child(2)", "aria-sort") is None


def test_picture_is_inlined_and_shown(tmp_path: Path, open_page: Callable[..., Any]) -> None:
    page = open_page(rendered(tmp_path))
    assert page.evaluate("document.getElementById('chart').naturalWidth") > 100


def test_narrow_screen_never_scrolls_horizontally(
    tmp_path: Path, open_page: Callable[..., Any]
) -> None:
    page = open_page(rendered(tmp_path, rows=[("long" * 60, 1.0)]), width=390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_figure_output_is_reproducible() -> None:
    assert chart() == chart()


def test_pages_contain_the_colours_of_the_verdicts() -> None:
    page = environment().from_string(PAGE).render(name="", rows=[], chart="")
    for verdict, color in VERDICT_COLORS.items():
        assert f"--{verdict.value}: {color};" in page


def test_percent() -> None:
    assert (percent(0.294), percent(0.294, 1), percent(None)) == ("29 %", "29.4 %", "–")
