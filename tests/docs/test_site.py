"""The documentation as a website: it builds without warnings and works from local files."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import novelty_metric

mkdocs_config = pytest.importorskip("mkdocs.config")
pytest.importorskip("material")
pytest.importorskip("mkdocstrings")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `mkdocs build --strict` builds it."""
    from mkdocs.commands.build import build

    folder = tmp_path_factory.mktemp("site")
    config = mkdocs_config.load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(folder))
    logging.getLogger("mkdocs").setLevel(logging.WARNING)
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    return folder


def text_of(page: Path) -> str:
    return re.sub(r"<[^>]*>", "", page.read_text(encoding="utf-8"))


def test_every_page_of_the_navigation_exists(site: Path) -> None:
    names = set(re.findall(r"(\w+)\.md\b", (ROOT / "mkdocs.yml").read_text()))
    assert len(names) > 15
    assert names <= {path.stem for path in site.glob("*.html")}


def test_pages_make_no_external_requests(site: Path) -> None:
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=\"?([^\s\">]+)", text)
        loaded += [
            tag
            for tag in re.findall(r"<link[^>]*>", text)
            if re.search(r"stylesheet|icon|preconnect|preload", tag)
        ]
        assert loaded
        assert not [item for item in loaded if "//" in item.replace("http://www.w3.org", "")], page


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    text = (site / "api.html").read_text(encoding="utf-8")
    for name in novelty_metric.__all__:
        assert f'id="novelty_metric.{name}"' in text, name
    assert "SubstitutionNovelty(" in text_of(site / "api.html")
    assert "novelty = unmatched / eligible" in text_of(site / "api.html")


def test_gallery_shows_every_picture(site: Path) -> None:
    from novelty_metric.figures import FIGURES

    page = (site / "gallery.html").read_text(encoding="utf-8")
    for spec in FIGURES:
        assert f'src="gallery/{spec.name}.png"' in page
        assert (site / "gallery" / f"{spec.name}.png").is_file()
        assert spec.shows in text_of(site / "gallery.html")


def test_sources_of_the_pages_are_not_published(site: Path) -> None:
    assert not list(site.rglob("*.py"))


@pytest.mark.parametrize("width", [390, 1280])
def test_pages_in_a_browser(site: Path, open_page: Callable[..., Any], width: int) -> None:
    page = open_page(site / "index.html", width=width)
    assert "training set" in page.locator("h1 ~ p").first.inner_text()
    assert page.locator(".md-search__input").count() == 1
    page = open_page(site / "api.html", width=width)
    assert page.locator('[id="novelty_metric.NoveltyReport"]').count() == 1
    # Only elements with their own scroll bar are wider than the window.
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_search_works_from_local_files(site: Path, open_page: Callable[..., Any]) -> None:
    page = open_page(site / "index.html")
    page.locator(".md-search__input").click()
    page.keyboard.type("accept_early")
    page.locator(".md-search-result__link").first.wait_for(timeout=0)
    links = page.locator(".md-search-result__link").evaluate_all("all => all.map(a => a.href)")
    assert any("settings.html" in link for link in links)
    assert "The fields of a protocol" in page.locator(".md-search-result__list").inner_text()
