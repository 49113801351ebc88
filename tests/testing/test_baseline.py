"""Baselines: readable, complete, and refused after manipulation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novelty_metric.comparison.compare import compare
from novelty_metric.errors import InputError
from novelty_metric.protocol import Protocol
from novelty_metric.relaxation.base import PotentialInfo
from novelty_metric.report.context import RunContext
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.testing.baseline import (
    BaselineStore,
    baseline_name,
    dumps,
    from_json,
    to_json,
)
from novelty_metric.verdict import CrystalResult, Route, Verdict

CONTEXT = RunContext(
    protocol=Protocol.named("paper"),
    reference_name="mp_20",
    reference_size=27136,
    crystals_hash="c" * 64,
    store_hash="d" * 64,
    potential=PotentialInfo(name="chgnet", version="0.3.0", weights_hash="ab" * 32),
    hull={"name": "reference", "crystals": 27136, "elements_from_table": ["Pt"]},
    versions={"pymatgen": "2026.3.23"},
    seconds={"relax": 12.5},
)


def crystal(i: int, **changes: Any) -> CrystalResult:
    given: dict[str, Any] = {
        "formula": "NaCl",
        "smact_valid": True,
        "converged": True,
        "e_above_hull": 0.0123456,
        "eligible": True,
        "verdict": Verdict.UNMATCHED,
        "duplicate_group": i,
    }
    return CrystalResult(id=f"gen_{i}", **{**given, **changes})


def small() -> NoveltyReport:
    return NoveltyReport.from_results(
        [
            crystal(0, verdict=Verdict.DUPLICATE, parent_id="mp-1", match_rms=0.01),
            crystal(1, verdict=Verdict.SUBSTITUTED, route=Route.WYCKOFF, cost=2.5, n_parents=3),
            crystal(2, energy_suspect=True, n_parents=0),
            crystal(3, verdict=None, eligible=False, error="not eligible: 0.3 eV/atom"),
            CrystalResult(id="half", readable=False, error="CIF: cut short"),
        ],
        CONTEXT,
    )


def test_baseline_is_readable() -> None:
    text = dumps(to_json(small(), "diffcsp"))
    content = json.loads(text)
    assert content["model"] == "diffcsp"
    assert content["of the eligible"]["unmatched"] == {
        "count": 1,
        "share": 0.3333,
        "low": 0.0615,
        "high": 0.7923,
    }
    assert content["novel_yield"]["share"] == 0.2
    assert content["reference"]["crystals_hash"] == "c" * 64
    assert content["protocol"] == "paper settings, CHGNet in place of MACE-MPA-0"
    assert content["potential"]["weights_hash"] == "ab" * 32
    assert content["versions"] == {"pymatgen": "2026.3.23"}
    assert content["not eligible"] == {"unreadable": 1, "not_metastable": 1}
    rows = [line for line in text.splitlines() if '"id"' in line]
    assert len(rows) == 5, "one line per crystal"
    assert rows[4].strip() == '{"id": "half", "readable": false, "error": "CIF: cut short"}'
    assert "12.5" not in text, "times would change the file at every run"


def test_report_is_read_back() -> None:
    report = small()
    again = from_json(json.loads(dumps(to_json(report, "m"))))
    assert again.counts == report.counts
    assert again.left_out == report.left_out
    assert again.fractions == report.fractions
    assert again.novelty_without_suspect == report.novelty_without_suspect
    found = compare(again, report)
    assert found.same_samples
    assert not found.changes and not found.mismatches and not found.versions
    assert dumps(to_json(again, "m")) == dumps(to_json(report, "m"))


texts = st.text(max_size=12)


@given(
    st.lists(
        st.tuples(
            texts,
            st.one_of(st.none(), st.sampled_from(list(Verdict))),
            st.one_of(st.none(), st.floats(-2, 2)),
            texts,
        ),
        max_size=8,
    )
)
def test_any_report_is_read_back(
    drawn: list[tuple[str, Verdict | None, float | None, str]],
) -> None:
    report = NoveltyReport.from_results(
        [
            CrystalResult(
                id=f"{i}{name}",
                formula=formula or None,
                smact_valid=True,
                eligible=verdict is not None,
                verdict=verdict,
                e_above_hull=energy,
                error=None if verdict else '"crystals": "\\u00000\\u0000"',
            )
            for i, (name, verdict, energy, formula) in enumerate(drawn)
        ],
        CONTEXT,
    )
    again = from_json(json.loads(dumps({"a": to_json(report, "m")}))["a"])
    assert again.counts == report.counts
    assert [row.id for row in again.results] == [row.id for row in report.results]
    assert not compare(again, report).changes


@pytest.mark.parametrize("name", ["baselines", "all.json"])
def test_store_keeps_several_baselines(name: str, tmp_path: Path) -> None:
    store = BaselineStore(tmp_path / "deep" / name)
    assert store.read("one") is None
    one, other = to_json(small(), "one"), to_json(small(), "other")
    store.write("one", one)
    store.write("other", other)
    store.write("one", one)
    for key in ("one", "other"):
        read = store.read(key)
        assert read is not None and read.counts == small().counts
    assert store.read("third") is None
    files = sorted(path.name for path in store.path.rglob("*") if path.is_file())
    assert files == ([] if name == "all.json" else ["one.json", "other.json"])


def tampered(**changes: Any) -> dict[str, Any]:
    return {**to_json(small(), "m"), **changes}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "is not a readable baseline"),
        ("[]", "is not a readable baseline"),
        ("{}", "'schema_version' is missing"),
        (json.dumps(tampered(schema_version=9)), "its schema version is 9, but 1 is expected"),
        (json.dumps(tampered(crystals=[])), "it counts 1 duplicate, but its crystals give 0"),
        (json.dumps(tampered(crystals=[{"id": "a", "mood": 1}])), "the unknown key 'mood'"),
        (json.dumps(tampered(protocol_settings={"kk": 1})), "unexpected keyword argument"),
        (json.dumps(tampered(protocol_settings={"k": 0})), "protocol.k is 0"),
    ],
)
def test_invalid_baseline_is_refused(text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(text)
    with pytest.raises(InputError) as caught:
        BaselineStore(tmp_path).read("one")
    assert complaint in str(caught.value)
    assert str(caught.value).endswith("or write a new one with --novelty-update")


def test_store_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't be written"):
        BaselineStore(tmp_path / "file" / "below").write("one", to_json(small(), "m"))
    (tmp_path / "mine.json").write_text('{"other": "content"}')
    with pytest.raises(InputError, match="contains no baselines"):
        BaselineStore(tmp_path / "mine.json").write("one", to_json(small(), "m"))
    assert (tmp_path / "mine.json").read_text() == '{"other": "content"}'


@pytest.mark.parametrize(
    ("nodeid", "name"),
    [
        ("tests/test_models.py::test_diffcsp", "tests.test_models.test_diffcsp"),
        ("test_a.py::TestX::test_b", "test_a.TestX.test_b"),
        ("tests/novelty_diffcsp.yaml", "tests.novelty_diffcsp"),
    ],
)
def test_names_of_baselines(nodeid: str, name: str) -> None:
    assert baseline_name(nodeid) == name


@given(st.lists(st.text(min_size=1, max_size=200), min_size=2, max_size=2, unique=True))
def test_two_tests_never_share_a_baseline(parameters: list[str]) -> None:
    names = {baseline_name(f"test_a.py::test_b[{parameter}]") for parameter in parameters}
    assert len(names) == 2
    for name in names:
        assert len(name) < 200
        assert Path(name).name == name
        assert name.encode(errors="strict")
