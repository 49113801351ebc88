"""``novelty-metric cache``: the cache of finished relaxations."""

from __future__ import annotations

import re

from novelty_metric.cli.options import Verb, parse, table
from novelty_metric.errors import InputError

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3}


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKmMgG]?)[bB]?", text)
    if match is None:
        raise ValueError("a number of bytes, or a size such as 500MB")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def _days(text: str) -> int:
    if not text.isdecimal():
        raise ValueError("a whole number of days")
    return int(text)


_FILE = "cache=FILE: another file than the default one, as given to `score`"
VERB = Verb(
    name="cache",
    usage="[info|prune|clear] [KEY=VALUE ...]",
    about="""\
Finished relaxations are stored by content (crystal, potential, settings), so that nothing is
relaxed twice. You can delete them at any time, even during a run.
""",
    verbs=(
        Verb(
            name="info",
            about="show the stored relaxations and their file (the default)",
            options=table(_FILE),
        ),
        Verb(
            name="prune",
            about="delete some of them",
            options=table(
                f"""
unused=DAYS: those that were not used for more than this number of days
size=500MB: the least recently used ones, until the rest has this size
potential=NAME: those of this potential, with its name as in `info`
{_FILE}
""",
                {"unused": _days, "size": _bytes},
            ),
        ),
        Verb(name="clear", about="delete all of them", options=table(_FILE)),
    ),
)


def run(words: list[str]) -> int:
    """Run the verb with its arguments. `InputError` if they or their input can't be used."""
    given = parse(VERB, words)
    if given.verb == "prune" and not given.given.keys() - {"cache"}:
        raise InputError("cache prune needs unused=DAYS, size=BYTES or potential=NAME")

    from novelty_metric.relaxation.cache import RelaxationCache, default_path

    path = given["cache"] or default_path()
    if not path.exists():
        if "cache" in given:
            raise InputError(f"cache={path}: no such file")
        print(f"{path}: no relaxation is stored yet")
        return 0
    cache = RelaxationCache(path)
    try:
        if given.verb == "info":
            entries = cache.entries()
            total = sum(entry.count for entry in entries)
            print(f"{path}: {_relaxations(total)}, {_megabytes(cache.size)}")
            for entry in entries:
                used = entry.settings.strip("{}").replace('"', "")
                print(f"  {entry.count:>7}  {entry.potential}  {used}  last used {entry.last_used}")
        elif given.verb == "clear":
            print(f"{path}: {_relaxations(cache.clear())} dropped")
        else:
            dropped = cache.prune(
                max_bytes=given["size"],
                unused_days=given["unused"],
                potential=given["potential"],
            )
            kept = f"{_relaxations(len(cache))} kept, {_megabytes(cache.size)}"
            print(f"{path}: {_relaxations(dropped)} dropped, {kept}")
    finally:
        cache.close()
    return 0


def _relaxations(count: int) -> str:
    return f"{count} relaxation{'' if count == 1 else 's'}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
