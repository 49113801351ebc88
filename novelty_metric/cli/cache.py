"""``novelty-metric cache``: what is kept of finished relaxations."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from novelty_metric.errors import InputError, near_or_known
from novelty_metric.settings.score_settings import user_path

if TYPE_CHECKING:
    from novelty_metric.relaxation.cache import RelaxationCache

HELP = """\
usage: novelty-metric cache [info|prune|clear] [KEY=VALUE ...]

Finished relaxations are kept by content (crystal, potential, settings), so that
nothing is relaxed twice. They may be dropped at any time, also during a run.

  info     what is kept, and where (the default)
  prune    drop some of it:
             unused=DAYS      what was not used for more than so many days
             size=500MB       what was not used for longest, until the rest is so small
             potential=NAME   what this potential gave, named as `info` does
  clear    drop everything

  cache=FILE   a file other than the user's, as given to `score`
"""
_SETTINGS: dict[str, tuple[str, ...]] = {
    "info": ("cache",),
    "prune": ("cache", "unused", "size", "potential"),
    "clear": ("cache",),
}
_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3}


def run(words: list[str]) -> int:
    """Run the verb on the words after ``cache``.

    Raises
    ------
    InputError
        If the call or the file can't be used.
    """
    if {"-h", "--help"} & set(words):
        print(HELP, end="")
        return 0
    verb = words[0] if words and "=" not in words[0] else "info"
    if verb not in _SETTINGS:
        known = [f"cache {name}" for name in _SETTINGS]
        close = difflib.get_close_matches(verb, _SETTINGS, n=1)
        hint = f"did you mean 'cache {close[0]}'?" if close else f"known: {', '.join(known)}"
        raise InputError(f"no verb named 'cache {verb}'; {hint}")
    settings = _settings(verb, words[1:] if words and words[0] == verb else words)

    from novelty_metric.relaxation.cache import RelaxationCache, default_path

    path = user_path(settings["cache"]) if "cache" in settings else default_path()
    if not path.exists():
        if "cache" in settings:
            raise InputError(f"cache={path}: no such file")
        print(f"{path}: nothing is kept yet")
        return 0
    cache = RelaxationCache(path)
    try:
        if verb == "info":
            _info(cache)
        elif verb == "clear":
            print(f"{path}: {_relaxations(cache.clear())} dropped")
        else:
            dropped = cache.prune(
                max_bytes=_bytes(settings["size"]) if "size" in settings else None,
                unused_days=_days(settings["unused"]) if "unused" in settings else None,
                potential=settings.get("potential"),
            )
            kept = f"{_relaxations(len(cache))} kept, {_megabytes(cache.size)}"
            print(f"{path}: {_relaxations(dropped)} dropped, {kept}")
    finally:
        cache.close()
    return 0


def _settings(verb: str, words: list[str]) -> dict[str, str]:
    known = _SETTINGS[verb]
    settings = {}
    for word in words:
        name, is_setting, value = word.partition("=")
        if not is_setting or name not in known:
            hint = near_or_known(name, known)
            raise InputError(f"{word!r} is no setting of `cache {verb}`; {hint}")
        if not value:
            raise InputError(f"{word} has no value")
        settings[name] = value
    if verb == "prune" and not settings.keys() - {"cache"}:
        raise InputError("cache prune needs unused=DAYS, size=BYTES or potential=NAME")
    return settings


def _info(cache: RelaxationCache) -> None:
    entries = cache.entries()
    total = sum(entry.count for entry in entries)
    print(f"{cache.path}: {_relaxations(total)}, {_megabytes(cache.size)}")
    for entry in entries:
        settings = entry.settings.strip("{}").replace('"', "")
        print(f"  {entry.count:>7}  {entry.potential}  {settings}  last used {entry.last_used}")


def _relaxations(count: int) -> str:
    return f"{count} relaxation{'' if count == 1 else 's'}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKmMgG]?)[bB]?", text)
    if match is None:
        raise InputError(f"size is {text!r}; write bytes, or a size such as 500MB")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def _days(text: str) -> int:
    if not text.isdecimal():
        raise InputError(f"unused is {text!r}; it must be a whole number of days")
    return int(text)
