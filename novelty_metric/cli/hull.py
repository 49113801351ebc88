"""``novelty-metric hull fetch``: hulls that are made on the user's machine."""

from __future__ import annotations

from novelty_metric.cli.options import Verb, parse, table
from novelty_metric.errors import InputError, near_or_known

_SOURCES = ("mp",)
VERB = Verb(
    name="hull",
    needs_verb=True,
    verbs=(
        Verb(
            name="fetch",
            usage="mp [key=KEY] [out=FILE]",
            about="""\
fetch the current formation energies of the Materials Project (GGA and GGA+U with the MP2020
corrections; a few MB) for hull=mp. It needs your own API key, from
https://next-gen.materialsproject.org/api. If the transfer breaks, the same command continues it. A
version that was already fetched is not fetched again.
""",
            options=table(
                """
key=KEY: your API key. MP_API_KEY in the environment is safer, because other users of the machine
  cannot see it. The key is never stored or shown.
out=FILE: the output file (default: in your cache folder, where hull=mp finds it). Use another file
  with hull=file hull.file=FILE
"""
            ),
            least=1,
            most=1,
            needs="needs one NAME",
            hint=lambda: f"known: {', '.join(_SOURCES)}",
        ),
    ),
    closing="""\
examples
  novelty-metric hull fetch mp
  novelty-metric score samples=gen.zip reference=mp_20 hull=mp
""",
)


def run(words: list[str]) -> int:
    """Run the verb with its arguments. `InputError` if they or their input can't be used."""
    given = parse(VERB, words)
    (name,), out = given.names, given["out"]
    if name not in _SOURCES:
        raise InputError(f"no hull named {name!r}; {near_or_known(name, _SOURCES)}")

    from novelty_metric.terminal.progress import quiet_with_progress

    with quiet_with_progress() as progress:
        from novelty_metric.screening.mp_fetch import fetch_materials_project

        fetched = fetch_materials_project(given["key"], out=out, progress=progress)
    known = fetched.known
    already = "" if fetched.fresh else ", which was already fetched"
    print(
        f"{fetched.path}: {len(known)} compositions of the Materials Project, database version "
        f"{known.about.date}{already}"
    )
    print(f"Use it with {'hull=mp' if out is None else f'hull=file hull.file={fetched.path}'}")
    return 0
