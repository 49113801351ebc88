"""Settings of a check, from a marker or a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from novelty_metric.errors import InputError
from novelty_metric.testing.checks import NoveltyCheck, read_check, read_yaml_check
from novelty_metric.testing.scoring import protocol_of
from novelty_metric.testing.tolerance import parse_tolerances

HERE = Path("/models")


def read(**given: Any) -> NoveltyCheck:
    return read_check(given, folder=HERE, default_model="diffcsp", what="argument")


def test_missing_settings_are_not_set() -> None:
    assert read() == NoveltyCheck(model="diffcsp")
    assert read(samples=None, limit=None) == NoveltyCheck(model="diffcsp")


def test_every_setting() -> None:
    found = read(
        model="m",
        samples="a/b.zip",
        reference="mp_20",
        protocol={"name": "fast", "k": 5},
        relaxer="none",
        hull="none",
        scope="all",
        device="cpu",
        relax_samples=False,
        exhaustive=True,
        limit=10,
        max_sites=40,
        workers=2,
        format="zip",
        column="cif",
        min_unmatched=0.1,
        max_duplicate=1,
        min_ratio=1,
        fail="unmatched:-5%",
        allow_empty=True,
    )
    assert found.samples == HERE / "a/b.zip"
    assert found.fail == parse_tolerances("unmatched:-5%")
    assert found.max_duplicate == 1.0 and found.has_floor
    assert all(getattr(found, key) is not None for key in vars(found))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("mp_20", "mp_20"),
        ("train.arrow", "/models/train.arrow"),
        ("data/train", "/models/data/train"),
        ("/data/train.arrow", "/data/train.arrow"),
        (Path("data/train.arrow"), "/models/data/train.arrow"),
    ],
)
def test_reference_is_a_name_or_a_file_relative_to_the_test(given: Any, kept: str) -> None:
    assert read(reference=given).reference == kept


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"modle": "x"}, "no argument named 'modle'; did you mean 'model'?"),
        ({"zzz": 1}, "no argument named 'zzz'; known: model, samples"),
        ({"model": 3}, "model is 3; it must be text"),
        ({"model": ""}, "model is ''; it must be text"),
        ({"samples": 3}, "samples is 3; it must be a path"),
        ({"samples": ""}, "samples is ''; it must be a path"),
        ({"reference": ["a"]}, "reference is ['a']; it must be a path"),
        ({"limit": 0}, "limit is 0; it must be a whole number above 0"),
        ({"limit": True}, "limit is True; it must be a whole number above 0"),
        ({"workers": 1.5}, "workers is 1.5"),
        ({"min_unmatched": 10}, "min_unmatched is 10; it must be a share from 0 to 1"),
        ({"min_unmatched": float("nan")}, "min_unmatched is nan; it must be a share"),
        ({"min_ratio": -1}, "min_ratio is -1; it must be a number of at least 0"),
        ({"min_ratio": float("inf")}, "min_ratio is inf; it must be finite"),
        ({"min_ratio": "1"}, "min_ratio is '1'; it must be a number of at least 0"),
        ({"max_duplicate": "0.1"}, "max_duplicate is '0.1'; it must be a share"),
        ({"max_duplicate": True}, "max_duplicate is True; it must be a share"),
        ({"relax_samples": "no"}, "relax_samples is 'no'; it must be true or false"),
        ({"scope": "some"}, "scope is 'some'; known: eligible, all"),
        ({"fail": "unmatched"}, "fail: 'unmatched' is not of the form"),
        ({"fail": 0.05}, "fail is 0.05; it must be text such as unmatched:-5%"),
        ({"protocol": {"k": 5}}, "protocol needs a name"),
        ({"protocol": 3}, "protocol is 3; it must be text"),
    ],
)
def test_invalid_setting_gives_one_clear_error(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError) as caught:
        read(**given)
    assert str(caught.value).startswith(complaint)
    assert "\n" not in str(caught.value)


def test_protocols_by_name_and_with_modifications() -> None:
    assert protocol_of("paper").fmax == 0.001
    changed = protocol_of({"name": "fast", "k": 5})
    fast = protocol_of("fast")
    assert (changed.k, changed.fmax, changed.name) == (5, fast.fmax, "fast (modified: k=5)")
    for given, complaint in (
        ("slow", "no protocol named 'slow'"),
        ({"name": "fast", "kk": 5}, "no protocol setting named 'kk'; known: fmax"),
        ({"name": "fast", "k": 0}, "protocol.k is 0"),
        ({"name": "fast", "fmax": "low"}, "protocol: '>' not supported"),
    ):
        with pytest.raises(InputError, match=complaint.replace("(", r"\(")):
            protocol_of(given)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "must contain keys with values"),
        ("- samples", "must contain keys with values"),
        ("samples: [", "is not YAML"),
        ("samples: a\nsamples: b", "the key 'samples' is given twice"),
        ("model: x", "the key 'samples' is missing"),
        ("samples: a\nmin_unmached: 0.1", "no key named 'min_unmached'; did you mean"),
        ("samples: a\nlimit: many", "limit is 'many'"),
        ("samples: !!python/object:os.system x", "is not YAML"),
    ],
)
def test_invalid_yaml_file_gives_one_clear_error(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "novelty_x.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_yaml_check(path)
    assert str(caught.value).startswith("novelty_x.yaml")
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_yaml_file(tmp_path: Path) -> None:
    path = tmp_path / "novelty_diffcsp.yaml"
    path.write_text("samples: out/gen.zip\nreference: mp_20\nmin_unmatched: 0.05\nlimit: 200\n")
    assert read_yaml_check(path) == NoveltyCheck(
        model="diffcsp",
        samples=tmp_path / "out/gen.zip",
        reference="mp_20",
        min_unmatched=0.05,
        limit=200,
    )
