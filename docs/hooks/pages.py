"""Hooks of mkdocs: pages made from the code, and pages from outside `docs`.

The settings, commands and files are generated each time the site is built, so that they can't fall
behind the code. Readmes of other folders become pages, and links between files of the repository
become links between pages; what is on no page loses its link and keeps its text.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import commands_page
import files_page
import settings_page
from mkdocs.structure.files import File

from novelty_metric.figures import FIGURES

ROOT = Path(__file__).resolve().parents[2]
GENERATED: dict[str, Callable[[], str]] = {
    "settings.md": settings_page.markdown,
    "commands.md": commands_page.markdown,
    "files.md": files_page.markdown,
}
OUTSIDE = {
    "benchmarks/README.md": "benchmarks.md",
    "examples/model_repository/README.md": "example_repository.md",
    "leaderboards/README.md": "leaderboards.md",
    "leaderboards/CONTRIBUTING.md": "leaderboard_rules.md",
    "leaderboards/DEMONSTRATION.md": "leaderboard_demonstration.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
FIGURES_HERE = (
    "<!-- the figures of novelty_metric.figures.FIGURES, put in when the site is built -->"
)
# Pages that only the site has: elsewhere a link leads to what they are made of.
MADE_OF = {
    "configs": "settings.md",
    "novelty_metric/protocol.py": "settings.md",
    "novelty_metric/cli": "commands.md",
    "novelty_metric/report/files.py": "files.md",
}
_PAGES = {**OUTSIDE, **MADE_OF, "README.md": "index.md"}
_SOURCES = {page: source for source, page in OUTSIDE.items()}
_LINK = re.compile(
    r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)#\s:]+)(?P<anchor>#[^)\s]*)?\)"
)


def on_files(files: Any, *, config: Any) -> Any:
    """Add the pages that are not files of `docs`."""
    for name, markdown in GENERATED.items():
        files.append(File.generated(config, name, content=markdown()))
    for source, name in OUTSIDE.items():
        content = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Make links between files of the repository links between pages."""
    name = page.file.src_uri
    if name == "gallery.md":
        markdown = markdown.replace(FIGURES_HERE, figures())
    return relinked(markdown, _SOURCES.get(name, f"docs/{name}"), name)


def figures() -> str:
    """All kinds of pictures with descriptions; the pictures are those of the analyses page."""
    return "\n".join(
        f"## {spec.title}\n\n{spec.shows}\n\n![{spec.title}](gallery/{spec.name}.png)\n"
        for spec in FIGURES
    )


def relinked(markdown: str, source: str, page: str) -> str:
    """The text of a file of the repository, with its links as they are on the site.

    Parameters
    ----------
    markdown : str
    source : str
        The file, from the root of the repository.
    page : str
        The page that it becomes, from the root of the site's sources.
    """

    def link(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match["target"]))
        if target in _PAGES:
            found = _PAGES[target]
        elif target.startswith("docs/"):
            found = target.removeprefix("docs/")
        elif (ROOT / target).exists() and not match["image"]:
            return match["text"]
        else:
            return match[0]  # mkdocs says what is wrong with it
        address = posixpath.relpath(found, posixpath.dirname(page) or ".")
        return f"{match['image']}[{match['text']}]({address}{match['anchor'] or ''})"

    # Blocks of code are left alone.
    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else _LINK.sub(link, part) for part in parts)
