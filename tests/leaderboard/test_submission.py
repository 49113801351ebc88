"""The schema: published as used, strict, and robust against YAML features."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
import yaml
from board_files import BOARD
from hypothesis import given
from hypothesis import strategies as st

from novelty_metric.errors import InputError
from novelty_metric.leaderboard.submission import (
    MAX_BYTES,
    SCHEMA_FILE,
    Submission,
    dump,
    json_schema,
    json_schema_text,
    parse,
    plain,
)
from novelty_metric.screening.formation_hull import Mp20Hull
from novelty_metric.support.validation import validated

TEXT = (BOARD / "submissions" / "diffcsp.yaml").read_text()
CONTENT = yaml.safe_load(TEXT)

SCHEMA = jsonschema.Draft202012Validator(json_schema())


def keys(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if not isinstance(content, dict):
        return []
    found = []
    for key, value in content.items():
        found += [(*path, key), *keys(value, (*path, key))]
    return found


KEYS = [
    path for path in keys(CONTENT) if path[:2] not in (("scored", "hull"), ("scored", "versions"))
]


def at(content: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        content = content[key]
    return content


def accepts(content: Any) -> bool:
    try:
        parse(yaml.safe_dump(content))
    except InputError as error:
        assert "\n" not in str(error)
        return False
    return True


def test_run_with_the_default_hull_can_be_submitted() -> None:
    """The description of the packaged hull (source, scheme and scale) fits the schema."""
    content = copy.deepcopy(CONTENT)
    content["scored"]["hull"] = Mp20Hull().open("chgnet").describe()
    assert accepts(content)
    SCHEMA.validate(content)


def test_published_schema_agrees_with_the_code() -> None:
    assert (BOARD / SCHEMA_FILE).read_text() == json_schema_text()
    jsonschema.Draft202012Validator.check_schema(json_schema())


def test_every_submission_passes_schema_and_code() -> None:
    paths = sorted((BOARD / "submissions").glob("*.yaml"))
    assert len(paths) >= 6
    for path in paths:
        parse(path.read_text())
        SCHEMA.validate(yaml.safe_load(path.read_text()))


def test_written_submission_is_read_back(submission: Submission) -> None:
    assert parse(dump(submission)) == submission


def test_missing_and_extra_keys_are_refused() -> None:
    edits: dict[str, Callable[[dict[Any, Any], Any], object]] = {
        "missing": lambda holder, key: holder.pop(key),
        "new": lambda holder, key: holder.update({f"{key}_x": 1}),
        "odd": lambda holder, key: holder.update({key: {"an": ["odd", "value"]}}),
    }
    for path, name in itertools.product(KEYS, edits):
        content = copy.deepcopy(CONTENT)
        edits[name](at(content, path[:-1]), path[-1])
        with pytest.raises(InputError):
            validated(Submission, content)
        assert not SCHEMA.is_valid(content), (path, name)


@given(
    st.sampled_from(KEYS),
    st.none()
    | st.booleans()
    | st.integers(-5, 2**70)
    | st.floats()
    | st.text(max_size=20)
    | st.lists(st.integers(), max_size=3),
)
def test_code_and_schema_accept_the_same(path: tuple[Any, ...], value: Any) -> None:
    content = copy.deepcopy(CONTENT)
    at(content, path[:-1])[path[-1]] = value
    if accepts(content):
        SCHEMA.validate(content)


def test_error_for_an_extra_key_suggests_a_key() -> None:
    with pytest.raises(InputError, match=r"'samples\.generatd'; did you mean 'generated'"):
        content = copy.deepcopy(CONTENT)
        content["samples"]["generatd"] = 5
        parse(yaml.safe_dump(content))


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "anchor or alias"),
        ("[" * 50_000, "too deeply nested"),
        ("a:\n" * 3 + "x" * MAX_BYTES, "larger than 128 KiB"),
        ("!!python/object/apply:os.system ['true']", "has a tag"),
        ("model: !!str x", "has a tag"),
        ("model: A\nmodel: B", "'model' is given twice"),
        ("? [a, b]\n: c", "a key is not text"),
        ("model: [", "it is not YAML"),
        ("model: 2024-99-99", "can't be read"),
        ("- a", "must contain the keys"),
        ("", "must contain the keys"),
        ("model: A\n---\nmodel: B", "it is not YAML"),
        ("model: \x00", "it is not YAML"),
    ],
)
def test_unusual_yaml_gives_one_clear_error(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.update(model=None), "model is None; it must be text"),
        (lambda c: c.update(authors=[]), "authors has 0 entries"),
        (lambda c: c.update(paper="javascript:alert(1)"), "paper is .*https"),
        (lambda c: c["samples"].update(file="../x"), "a file name without a folder"),
        (lambda c: c["samples"].update(sha256="abc"), "64 hexadecimal digits"),
        (lambda c: c["samples"].update(generated=5), "less than the 10000 in the file"),
        (lambda c: c["samples"].update(generated=True), "must be a whole number"),
        (
            lambda c: c["samples"]["selection"].update(rule="best"),
            "known: all, first, drawn, random",
        ),
        (lambda c: c["samples"]["selection"].update(seed=None), "selection.seed is only for"),
        (lambda c: c["samples"]["selection"].update(count=90), "selection gives 90"),
        (lambda c: c["scored"]["protocol"].update(k=5), "its settings are those of"),
        (lambda c: c["scored"]["protocol"].update(fmax=float("nan")), "must be finite"),
        (
            lambda c: c["scored"].update(hull={"name": "reference", "crystals_hash": "0" * 64}),
            "scored.hull",
        ),
        (lambda c: c["verdicts"].update(file="verdicts/../../x.parquet"), "verdicts/NAME"),
        (lambda c: c.update(demonstration=False), "score against what the model was trained on"),
    ],
)
def test_inconsistent_submission_is_refused(
    edit: Callable[[dict[str, Any]], None], message: str
) -> None:
    content = copy.deepcopy(CONTENT)
    edit(content)
    with pytest.raises(InputError, match=message):
        parse(yaml.safe_dump(content))


def test_number_generated_agrees_with_the_rows(submission: Submission) -> None:
    def generated(**samples: Any) -> int | None:
        content = plain(submission)
        content["samples"].update(samples)
        selection = content["samples"]["selection"]
        if selection["rule"] == "all":
            content["counts"]["rows"] = content["samples"]["in_file"]
        return parse(yaml.safe_dump(content)).n_generated

    everything = {"rule": "all", "count": None, "seed": None}
    assert generated() == 1_000  # a random subset of an unfiltered file
    assert generated(generated=None) is None
    assert generated(generated=20_000) is None  # a random subset of a filtered file
    assert generated(selection=everything, generated=20_000) == 20_000
    assert generated(selection=everything) == 10_000
