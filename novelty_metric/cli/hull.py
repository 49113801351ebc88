"""``novelty-metric hull fetch``: hulls that are made on a user's machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from novelty_metric.errors import InputError, near_or_known
from novelty_metric.settings.score_settings import user_path
from novelty_metric.support.quiet import quiet

if TYPE_CHECKING:
    from novelty_metric.screening.mp_fetch import FetchedHull

HELP = """\
usage: novelty-metric hull fetch mp [key=KEY] [out=FILE]

fetch mp: get the formation energies of the Materials Project as it is now (GGA
and GGA+U with the MP2020 corrections), a few MB, for hull=mp. It needs your own
API key, from https://next-gen.materialsproject.org/api. A broken transfer goes
on when the same command is run again; a version that is there already is not
fetched twice.

  key=KEY    your API key; better set MP_API_KEY in the environment, which other
             users of the machine can't see. It is never written or shown.
  out=FILE   where the file is written; by default in your cache folder, where
             hull=mp finds it; another one is used by hull=file hull.file=FILE

examples
  novelty-metric hull fetch mp
  novelty-metric score samples=gen.zip reference=mp_20 hull=mp
"""
_SETTINGS = ("key", "out")
_SOURCES = ("mp",)


def run(words: list[str]) -> int:
    """Run the verb on the words after ``hull``.

    Raises
    ------
    InputError
        If the call can't be used, or the hull can't be had.
    """
    if not words or {"-h", "--help"} & set(words):
        print(HELP, end="")
        return 0
    if words[0] != "fetch":
        raise InputError(f"no verb named 'hull {words[0]}'; known: hull fetch")
    names = [word for word in words[1:] if "=" not in word]
    settings = dict(word.split("=", 1) for word in words[1:] if "=" in word)
    for name, value in settings.items():
        if name not in _SETTINGS:
            raise InputError(f"no setting named {name!r}; {near_or_known(name, _SETTINGS)}")
        if not value:
            raise InputError(f"{name}= has no value")
    if len(names) != 1 or names[0] not in _SOURCES:
        raise InputError(f"hull fetch needs one NAME; known: {', '.join(_SOURCES)}")
    out = user_path(settings["out"]) if "out" in settings else None
    _print(_fetch(settings.get("key"), out), out)
    return 0


def _fetch(key: str | None, out: Path | None) -> FetchedHull:
    with quiet() as terminal:
        from novelty_metric.screening.mp_fetch import fetch_materials_project
        from novelty_metric.terminal.console import Progress

        with Progress(terminal) as progress:
            return fetch_materials_project(key, out=out, progress=progress)


def _print(fetched: FetchedHull, out: Path | None) -> None:
    known = fetched.known
    already = "" if fetched.fresh else ", which was there already"
    print(
        f"{fetched.path}: {len(known)} compositions of the Materials Project, database version "
        f"{known.about.date}{already}"
    )
    use = "hull=mp" if out is None else f"hull=file hull.file={fetched.path}"
    print(f"Use it with {use}")
