"""The table of options: parsing of arguments, and the help."""

from pathlib import Path

import pytest

from novelty_metric import cli
from novelty_metric.cli.options import Option, Verb, help_text, one_of, parse, table, whole
from novelty_metric.errors import InputError

INNER = Verb(
    name="make",
    usage="NAME [size=N]",
    about="make a thing.",
    options=table(
        """
what
size=N (3): how large
share=P: a part
keep=true: or not
by=id|content: how
-a, --all: everything
--from FILE: where from
--again[=N]: once more
other=, more=: for somebody
  else
""",
        {"size": whole(1, 500), "share": whole(0, 9), "by": one_of("id", "content")},
    ),
    least=1,
    most=2,
    needs="needs one NAME",
)
VERB = Verb(name="thing", verbs=(INNER, Verb(name="drop", about="drop it.")))


def read(*arguments: str) -> dict[str, object]:
    given = parse(VERB, arguments)
    return {"verb": given.verb, "names": given.names, **given.given}


def test_order_of_arguments_does_not_matter() -> None:
    made = {"verb": "make", "names": ["a"]}
    assert read("make", "a", "size=7", "-a") == {**made, "size": 7, "all": True}
    assert read("make", "--all", "share=5", "a") == {**made, "all": True, "share": 5}
    for arguments in (["--from", "x=y.csv", "a"], ["a", "--from=x=y.csv"]):
        assert read("make", *arguments) == {**made, "from": Path("x=y.csv")}
    assert read("make", "--again", "a") == {**made, "again": "all"}
    assert read("make", "--again=2", "a", "keep=false") == {**made, "again": 2, "keep": False}
    assert read("make", "--", "--all") == {"verb": "make", "names": ["--all"]}
    assert read("drop") == {"verb": "drop", "names": []}


def test_missing_options_have_defaults() -> None:
    given = parse(VERB, ["make", "a"])
    assert (given["size"], given["share"], "size" in given) == (3, None, False)


def test_existing_file_with_an_equals_sign_is_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model=a").touch()
    assert read("make", "model=a", "runs/model=b")["names"] == ["model=a", "runs/model=b"]
    assert parse(Verb(name="v", most=2, any_name=True), ["a=b", "-5"]).names == ["a=b", "-5"]


def test_settings_of_another_verb_are_passed_through() -> None:
    some = Verb(name="v", options=(Option("n", "N"),), passes=("hull",))
    given = parse(some, ["hull=none", "n=1", "+hull.file=x"])
    assert (given.passed, given.given) == (["hull=none", "+hull.file=x"], {"n": "1"})
    assert parse(Verb(name="v", passes=None), ["word", "~a"]).passed == ["word", "~a"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mak"], "no verb named 'thing mak'; did you mean 'thing make'?"),
        (["xyz"], "no verb named 'thing xyz'; known: thing make, thing drop"),
        (["make"], "thing make needs one NAME, none was given"),
        (["make", "a", "b", "c"], "thing make needs one NAME, 3 were given: a, b, c"),
        (["make", "a", "sice=1"], "thing make: no setting named 'sice'; did you mean 'size'?"),
        (["make", "a", "--al"], "no option named --al; did you mean '--all'?"),
        (["make", "a", "--xyz"], "no option named --xyz; `novelty-metric thing --help` lists"),
        (["make", "a", "size="], "size= has no value; write size=N"),
        (["make", "a", "--from"], "--from has no value; write --from FILE"),
        (["make", "a", "--all=1"], "--all takes no value"),
        (["make", "a", "size=1", "size=2"], "size= is given twice"),
        (["make", "a", "size=0"], "size is '0'; it must be a whole number from 1 to 500"),
        (["make", "a", "size=" + "9" * 5000], "it must be a whole number from 1 to 500"),
        (["make", "a", "size=٣"], "it must be a whole number"),
        (["make", "a", "keep=yes"], "keep is 'yes'; it must be true or false"),
        (["make", "a", "by=name"], "by is 'name'; it must be id or content"),
        (["drop", "a"], "'a' is not of the form key=value"),
    ],
)
def test_invalid_option_gives_one_clear_error(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(VERB, arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_help_is_generated_from_the_table() -> None:
    assert (
        help_text(VERB)
        == """\
usage: novelty-metric thing make NAME [size=N]
       novelty-metric thing drop

make: make a thing.

what
  size=N         how large (3)
  share=P        a part
  keep=true      or not
  by=id|content  how
  -a, --all      everything
  --from FILE    where from
  --again[=N]    once more
  other=, more=  for somebody else

drop: drop it.
"""
    )


@pytest.mark.parametrize("name", cli.VERBS)
def test_help_of_every_verb_lists_every_setting(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([name, "--help"]) == 0
    text = capsys.readouterr().out
    verb = cli.verb_of(name)
    for one in (verb, *verb.verbs):
        for option in one.own:
            assert option.written in text
    assert max(map(len, text.splitlines())) <= 96
