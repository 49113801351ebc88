"""One table of options per verb; parsing and help are derived from it."""

from __future__ import annotations

import difflib
import functools
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from novelty_metric.errors import InputError, near_or_known
from novelty_metric.support.folders import user_path

_WIDTH = 80
_WIDEST_NAME = 20


def whole(least: int = 0, most: int = 10**12) -> Callable[[str], int]:
    """Parses an integer within limits."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or not least <= int(text[:20]) <= most:
            limits = f"from {least} to {most}" if most < 10**12 else f"of at least {least}"
            raise ValueError(f"a whole number {limits}")
        return int(text)

    return read


def flag(text: str) -> bool:
    """Parses ``true`` or ``false``."""
    if text not in ("true", "false"):
        raise ValueError("true or false")
    return text == "true"


def one_of(*known: str) -> Callable[[str], str]:
    """Parses one of a few words."""

    def read(text: str) -> str:
        if text not in known:
            raise ValueError(" or ".join(known))
        return text

    return read


@dataclass(frozen=True, slots=True)
class Option:
    """A setting ``name=VALUE``, or an option ``--name [VALUE]``; `table` makes it from its help.

    Attributes
    ----------
    name : str
        With its dashes, if it is written with any.
    value : str
        What the help calls the value; empty: an option without one.
    help : str, or what gives it
        Lines that begin with a blank are kept as they are.
    read : callable
        Makes the value from its text; its ValueError says what the text must be.
    default
        What is taken, and shown, if it is not given.
    bare : bool
        Without its value it stands for ``all``.
    passed : bool
        Only described here: read by `novelty-metric score`.
    short : str
        Such as ``-m``.
    """

    name: str
    value: str = ""
    help: str | Callable[[], str] = ""
    read: Callable[[str], Any] = str
    default: Any = None
    bare: bool = False
    passed: bool = False
    short: str = ""

    @property
    def key(self) -> str:
        """Its name in the parsed arguments."""
        return self.name.lstrip("-").replace("-", "_")

    @property
    def written(self) -> str:
        """Its form in the help."""
        short = f"{self.short}, " if self.short else ""
        if not self.value:
            return short + self.name
        if not self.name.startswith("-"):
            return f"{self.name}={self.value}"
        return f"{short}{self.name}" + (f"[={self.value}]" if self.bare else f" {self.value}")


_HEAD = re.compile(r"(?:(-\w), )?([\w-]+)(\[)?(?:[= ]([^],( ][^]( ]*)\]?)?(?: \((.+)\))?")


def table(
    text: str,
    read: Mapping[str, Callable[[str], Any] | None] | None = None,
    *,
    passed: bool = False,
    names: Callable[[str], Iterable[str]] = tuple,
) -> tuple[Option | str, ...]:
    """Options as their help is written.

    Parameters
    ----------
    text : str
        An entry per line: ``size=N (3): how large`` with its default, ``--from FILE: where from``,
        ``-a, --all: all``, ``--again[=N]: once more``, or a heading. Lines that begin with two
        blanks continue an entry; those with four are kept as they are. What is written in no such
        form is only described.
    read : mapping, optional
        From the key of an option to what reads its value, or None if it is only described. By
        default ``FILE`` and ``DIR`` are paths, ``N`` is a whole number above 0, ``true`` and
        ``true|false`` are flags, and all else is text.
    passed : bool
        All are only described.
    names : callable
        Gives the names that replace ``{key}`` in the help of the option with this key.
    """
    found: list[Option | str] = []
    for entry in re.split(r"\n+(?! )", text.strip()):
        head, colon, about = entry.partition(": ")
        if not colon and "=" not in head:
            found.append(head)
            continue
        about = re.sub(r"\n  (?! )", " ", about).replace("\n    ", "\n  ")
        match = _HEAD.fullmatch(head)
        short, name, bare, value, default = match.groups("") if match else ("", head, *[""] * 3)
        key = name.lstrip("-").replace("-", "_")
        reader = (read or {}).get(key, _READERS.get(value.partition(".")[0], str))
        found.append(
            Option(
                name,
                value,
                functools.partial(_filled, about, key, names) if f"{{{key}}}" in about else about,
                reader or str,
                default=reader(default) if reader and default else None,
                bare=bool(bare),
                passed=passed or reader is None or not (value or name.startswith("-")),
                short=short,
            )
        )
    return tuple(found)


_READERS = {
    **{"FILE": user_path, "DIR": user_path, "N": whole(1)},
    **{"true": flag, "true|false": flag},
}


def _filled(about: str, key: str, names: Callable[[str], Iterable[str]]) -> str:
    return about.replace(f"{{{key}}}", ", ".join(names(key)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """A verb of the command line, or a second one after it, such as ``cache prune``.

    `usage` has a line for each way to call it, without the names of program and verbs; text among
    the `options` is a heading, and `closing` ends the help. There are `least` to `most` arguments
    that are not settings; of another number, `needs` says what is missing, such as ``needs one
    ID``, and `hint` what to do. With `any_name`, a word that is not a known setting is such an
    argument, even with an equals sign. `passes` are the settings that are passed on to `score`;
    None: all that are not of this verb. Of `verbs` one may follow; the first of them if none does,
    unless `needs_verb`.
    """

    name: str
    usage: str = ""
    about: str = ""
    options: tuple[Option | str, ...] = ()
    closing: str | Callable[[], str] = ""
    least: int = 0
    most: int = 0
    needs: str = ""
    hint: Callable[[], str] | None = None
    any_name: bool = False
    passes: tuple[str, ...] | None = ()
    verbs: tuple[Verb, ...] = ()
    needs_verb: bool = False

    @property
    def own(self) -> tuple[Option, ...]:
        """The options of this verb."""
        return tuple(o for o in self.options if isinstance(o, Option) and not o.passed)


@dataclass(slots=True)
class Words:
    """The parsed arguments: the inner verb, names, settings to pass on, values by key."""

    verb: str
    names: list[str] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    given: dict[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        return self.given.get(key, self.defaults[key])

    def __contains__(self, key: str) -> bool:
        return key in self.given


def parse(verb: Verb, words: Sequence[str]) -> Words:
    """Parse the arguments after a verb.

    Raises
    ------
    InputError
        In one line, for the first word that can't be used.
    """
    if not verb.verbs:
        return _Reader(verb, verb.name).read(words)
    known = {inner.name: inner for inner in verb.verbs}
    named = bool(words) and (verb.needs_verb or "=" not in words[0])
    name = words[0] if named else verb.verbs[0].name
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        full = [f"{verb.name} {inner}" for inner in close or known]
        hint = f"did you mean {full[0]!r}?" if close else f"known: {', '.join(full)}"
        raise InputError(f"no verb named '{verb.name} {name}'; {hint}")
    return _Reader(known[name], f"{verb.name} {name}").read(words[1:] if named else words)


class _Reader:
    def __init__(self, verb: Verb, name: str) -> None:
        self._verb, self._name = verb, name
        self._options = {written: o for o in verb.own for written in (o.name, o.short) if written}
        self._words = Words(verb.name, defaults={o.key: o.default for o in verb.own})

    def read(self, words: Sequence[str]) -> Words:
        left = list(words)
        while left:
            word = left.pop(0)
            if word == "--":
                self._words.names += left
                break
            key, equals, value = word.partition("=")
            option = self._options.get(key)
            if option is None or (not equals and not word.startswith("-")):
                self._other(word)
            elif self._verb.any_name and option.key in self._words:
                self._words.names.append(word)
            elif equals:
                self._take(option, value)
            elif not option.value:
                self._words.given[option.key] = True
            elif option.bare:
                self._words.given[option.key] = "all"
            elif left:
                self._take(option, left.pop(0))
            else:
                raise InputError(f"{word} has no value; write {option.written}")
        self._count()
        return self._words

    def _take(self, option: Option, text: str) -> None:
        sign = "" if option.name.startswith("-") else "="
        if option.key in self._words:
            raise InputError(f"{option.name}{sign} is given twice")
        if not text or not option.value:
            missing = "has no value; write" if option.value else "takes no value; write"
            raise InputError(f"{option.name}{sign} {missing} {option.written}")
        try:
            self._words.given[option.key] = option.read(text)
        except ValueError as error:
            raise InputError(f"{option.name} is {text!r}; it must be {error}") from None

    def _other(self, word: str) -> None:
        verb, words = self._verb, self._words
        key, equals, _ = word.partition("=")
        is_setting = bool(equals) and key.isidentifier() and not Path(word).exists()
        if verb.any_name:
            words.names.append(word)
        elif word.startswith("-") and word != "-" and not Path(word).exists():
            close = near_or_known(key, [name for name in self._options if name[0] == "-"])
            more = f"`novelty-metric {self._name.split()[0]} --help` lists the known ones"
            hint = close if close.startswith("did") else more
            raise InputError(f"no option named {key}; {hint}")
        elif verb.passes is None or key.lstrip("+").split(".")[0] in verb.passes:
            words.passed.append(word)
        elif is_setting or not verb.most:
            if not equals:
                raise InputError(f"{word!r} is not of the form key=value")
            known = [o.name for o in verb.own if o.name[0] != "-"] + list(verb.passes)
            hint = near_or_known(key, known) if known else "it takes none"
            raise InputError(f"{self._name}: no setting named {key!r}; {hint}")
        else:
            words.names.append(word)

    def _count(self) -> None:
        verb, names = self._verb, self._words.names
        if verb.least <= len(names) <= verb.most:
            return
        were = "was" if len(names) == 1 else "were"
        given = f"{len(names)} {were} given: {', '.join(names)}" if names else "none was given"
        hint = f"; {verb.hint()}" if verb.hint is not None else f", {given}"
        raise InputError(f"{self._name} {verb.needs}{hint}")


def help_text(verb: Verb) -> str:
    """The text of ``--help``."""
    inner = [f"{one.name} {line}" for one in verb.verbs for line in one.usage.split("\n")]
    usages = verb.usage.split("\n") if verb.usage else inner
    calls = (f"novelty-metric {verb.name} {usage}" for usage in usages)
    parts = ["usage: " + "\n       ".join(map(str.rstrip, calls))]
    parts += _paragraphs(verb.about)
    for one in verb.verbs:
        parts += [*_paragraphs(f"{one.name}: {one.about}"), *_option_blocks(one.options)]
    parts += _option_blocks(verb.options)
    parts += _paragraphs(verb.closing if isinstance(verb.closing, str) else verb.closing())
    return "\n\n".join(parts) + "\n"


def _paragraphs(text: str) -> list[str]:
    """Wrapped paragraphs; those with an indented line are unchanged."""
    found = [part.strip("\n") for part in text.split("\n\n") if part.strip()]
    return [
        part if "\n " in part or part.startswith(" ") else textwrap.fill(part, _WIDTH)
        for part in found
    ]


def _option_blocks(options: Sequence[Option | str]) -> list[str]:
    blocks: list[list[str]] = []
    names = [len(option.written) for option in options if isinstance(option, Option)]
    width = min(max(names, default=0), _WIDEST_NAME) + 4
    for option in options:
        if isinstance(option, str):
            blocks.append([option])
            continue
        if not blocks:
            blocks.append([])
        blocks[-1] += _option_lines(option, width)
    return ["\n".join(block) for block in blocks]


def _option_lines(option: Option, width: int) -> list[str]:
    about = option.help if isinstance(option.help, str) else option.help()
    if option.default is not None:
        about += f" ({option.default})"
    lines: list[str] = []
    for part in about.split("\n"):
        wrapped = textwrap.wrap(part, _WIDTH - width, break_on_hyphens=False)
        lines += [part] if part.startswith(" ") else wrapped
    written = f"  {option.written}"
    lines = [" " * width + line for line in lines]
    if not lines or len(written) + 1 > width:
        return [written, *lines]
    return [written.ljust(width) + lines[0].lstrip(), *lines[1:]]


RUN = "run=DIR: folder that `novelty-metric score ... out=DIR` wrote"


def run_folder(given: Words) -> Path:
    """The given folder.

    Raises
    ------
    InputError
        If none was, or it holds no run or several.
    """
    if "run" not in given:
        raise InputError(f"{given.verb} needs run=DIR: the folder that `score ... out=DIR` wrote")
    folder: Path = given["run"]
    if not folder.exists():
        raise InputError(f"run={folder}: no such folder")
    if (folder / "report.json").exists():
        return folder
    inside = sorted(path.parent.name for path in folder.glob("*/report.json"))
    if inside:
        raise InputError(
            f"run={folder} contains {len(inside)} runs; name one of them: run={folder / inside[0]}"
        )
    raise InputError(
        f"run={folder} is not a run: it has no report.json; name a folder that `score ... "
        "out=DIR` wrote"
    )
