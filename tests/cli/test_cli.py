"""The command line: arguments, exit status and output."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from novelty_metric.cli import main
from novelty_metric.cli.one_run import not_of_model
from novelty_metric.errors import InputError
from novelty_metric.protocol import Protocol
from novelty_metric.report.context import RunContext
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.samples.base import Sample
from novelty_metric.screening.entries import EntriesHull
from novelty_metric.screening.matbench_discovery import MatbenchDiscoveryHull
from novelty_metric.settings.compose import compose_config
from novelty_metric.settings.score_settings import ScoreSettings
from novelty_metric.terminal import progress_lines
from novelty_metric.verdict import CrystalResult, Verdict

CIF = """data_NaCl
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na1 Na 0 0 0
Cl1 Cl 0.5 0.5 0.5
"""


class FakeMetric:
    """Record the arguments from the command, and call every readable sample unmatched."""

    calls: list[dict[str, Any]]
    failure: BaseException | None = None

    def __init__(self, reference: Any, protocol: Protocol, **options: Any) -> None:
        self.calls.append({"reference": reference, "protocol": protocol, **options})
        self.protocol = protocol
        self.progress = options["progress"]
        self.reference = SimpleNamespace(store_hash="")
        clock = SimpleNamespace(take_seconds=lambda: {"score": 1.0})
        self.pipeline = SimpleNamespace(score_each=self.score_each, clock=clock)

    def __enter__(self) -> FakeMetric:
        return self

    def __exit__(self, *exception: object) -> None:
        self.calls[-1]["closed"] = True

    def prepare(self) -> None:
        self.progress("relax samples", 0, 1)
        os.write(1, b"noise from C\n")
        os.write(2, b"noise from C\n")
        print("CHGNet v0.3.0 initialized")
        print("warning", file=sys.stderr)

    def score_each(
        self, samples: Iterable[Sample], on_result: Callable[[Sample, CrystalResult], None]
    ) -> None:
        self.prepare()
        if self.failure is not None:
            raise self.failure
        for s in samples:
            if s.structure is None:
                row = CrystalResult(id=s.id, error=s.error, readable=False)
            else:
                verdict = Verdict.UNMATCHED
                row = CrystalResult(id=s.id, smact_valid=True, eligible=True, verdict=verdict)
            on_result(s, row)

    def context(self, **given: Any) -> RunContext:
        return RunContext(
            protocol=self.protocol,
            reference_name="fake",
            reference_size=1,
            crystals_hash="",
            store_hash="",
            **given,
        )

    def with_rediscovery(
        self, report: NoveltyReport, rows: Iterable[CrystalResult]
    ) -> NoveltyReport:
        return report


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeMetric]:
    module = ModuleType("novelty_metric.metric")
    metric = type("Metric", (FakeMetric,), {"calls": [], "failure": None})
    module.SubstitutionNovelty = metric  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "novelty_metric.metric", module)
    monkeypatch.delenv("NOVELTY_METRIC_DEBUG", raising=False)
    return metric


@pytest.fixture
def cif(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sample file outside the working folder, which is empty."""
    path = tmp_path / "crystal.cif"
    path.write_text(CIF)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return path


@pytest.mark.parametrize("wanted", [True, False])
def test_progress_lines_of_a_log(
    wanted: bool,
    fake: type[FakeMetric],
    cif: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress_lines, "FIRST", 0.0)
    monkeypatch.setattr(progress_lines, "_POLL", 0.001)
    prepare = fake.prepare

    outs, errs = [], []

    def read() -> None:
        out, err = capfd.readouterr()
        outs.append(out)
        errs.append(err)

    def slowly(self: FakeMetric) -> None:
        prepare(self)
        read()
        while wanted and "novelty-metric: relax samples" not in "".join(errs):
            read()

    monkeypatch.setattr(fake, "prepare", slowly)
    assert main(["score", f"samples={cif}", *([] if wanted else ["progress=false"])]) == 0
    read()
    assert wanted or "".join(errs) == ""
    assert "relax samples" not in "".join(outs)


def error_line(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The error line of an invalid call."""
    assert main(arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("novelty-metric: error: ")
    assert err.count("\n") == 1 and err.endswith("\n")
    return err


# Values are kept unchanged

ODD_NAMES = [
    "a(1).zip",
    "x,y.csv",
    "a=b.csv",
    "run[1]/x",
    "{a: b}",
    " spaces  here ",
    'it\'s "quoted"',
    "'wholly quoted'",
    "$HOME",
    "${samples}",
    "\\${x}",
    "\\",
    "ends with \\",
    "~/home",
    "~",
    "#1",
    "a:b",
    "a@b",
    "glob*(1,2)",
    "choice(1,2)",
    "123",
    "1e5",
    "true",
    "nan",
    "Ünïcode 金",
    "-x",
    "+x",
    "tab\there",
    "caf\udce9",
    "???",
]


def composed(*arguments: str) -> dict[str, Any]:
    content = OmegaConf.to_container(compose_config(arguments), resolve=True)
    assert isinstance(content, dict)
    return {str(name): value for name, value in content.items()}


@pytest.mark.parametrize("value", ODD_NAMES)
def test_unusual_values_reach_the_settings_unchanged(value: str) -> None:
    keys = ("samples", "out", "column", "format", "device")
    config = composed("hull=entries", f"hull.file={value}", *(f"{key}={value}" for key in keys))
    assert {key: config[key] for key in keys} == dict.fromkeys(keys, value)
    assert Path(config["hull"]["file"]) == Path(value)


names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)
tricky = st.text(st.sampled_from("ab\\'\"${}[]()=,: ~#\t*?"), min_size=1)


@settings(max_examples=20)
@given(names | tricky)
@example("a\\${b}'")
def test_any_printable_name_reaches_the_settings_unchanged(name: str) -> None:
    if name == "null":
        return
    config = composed(f"samples={name}", f"reference=./{name}")
    assert config["samples"] == name
    assert config["reference"]["path"] == f"./{name}"


@pytest.mark.parametrize("name", [n for n in ODD_NAMES if n not in ("~", "~/home")])
def test_unusual_file_names_are_read_and_written(
    name: str, cif: Path, fake: type[FakeMetric], capfd: pytest.CaptureFixture[str]
) -> None:
    source, out = Path("in", name), Path("new", name)
    source.parent.mkdir(parents=True)
    source.write_bytes(cif.read_bytes())
    assert main(["score", f"samples={source}", "format=cif", f"out={out}"]) == 0
    assert len(NoveltyReport.load(out).results) == 1
    assert capfd.readouterr().err == ""


def test_null_means_null_and_a_file_named_null_needs_a_path() -> None:
    assert compose_config(["samples=null"]).samples is None
    assert compose_config(["samples=./null"]).samples == "./null"


@pytest.mark.parametrize(
    ("word", "value"),
    [("true", True), ("false", False), ("null", False), ("a(1).sqlite", Path("a(1).sqlite"))],
)
def test_cache_is_a_flag_or_a_file(word: str, value: object) -> None:
    assert ScoreSettings.from_config(composed(f"cache={word}")).cache == value


def test_tilde_means_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake: type[FakeMetric]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.cif").write_text(CIF)
    assert main(["score", "samples=~/a.cif", "out=~/run"]) == 0
    assert (tmp_path / "run" / "report.json").exists()


# Arguments of the metric


@pytest.mark.parametrize("name", ODD_NAMES[:2])
def test_file_of_a_hull_is_kept_unchanged(name: str, cif: Path, fake: type[FakeMetric]) -> None:
    assert main(["score", f"samples={cif}", "hull=entries", f"hull.file={name}"]) == 0
    (call,) = fake.calls
    assert isinstance(call["hull"], EntriesHull) and Path(call["hull"].file) == Path(name)


def test_settings_of_the_matbench_discovery_hull(cif: Path, fake: type[FakeMetric]) -> None:
    arguments = ["hull=matbench_discovery", "hull.allow_pickle=true", "hull.energies=corrected"]
    assert main(["score", f"samples={cif}", *arguments]) == 0
    (call,) = fake.calls
    assert call["hull"] == MatbenchDiscoveryHull(energies="corrected", allow_pickle=True)


def test_settings_reach_the_metric(cif: Path, fake: type[FakeMetric]) -> None:
    arguments = (
        "protocol=paper protocol.fmax=0.02 protocol.k=5 relaxer=none hull=none scope=all "
        "exhaustive=true relax_samples=false workers=2 device=cuda:0 max_sites=50 cache=false"
    )
    assert main(["score", f"samples={cif}", *arguments.split()]) == 0
    (call,) = fake.calls
    assert call["reference"] == "aflow"
    assert call["protocol"] == Protocol(name="paper (modified: fmax=0.02, k=5)", fmax=0.02, k=5)
    assert {key: call[key] for key in ("relaxer", "hull", "scope", "device", "cache")} == {
        "relaxer": "none",
        "hull": "none",
        "scope": "all",
        "device": "cuda:0",
        "cache": False,
    }
    assert (call["exhaustive"], call["relax_samples"]) == (True, False)
    assert (call["workers"], call["max_sites"]) == (2, 50)
    assert call["closed"]


def test_unmodified_protocol_keeps_its_name(cif: Path, fake: type[FakeMetric]) -> None:
    fast = Protocol.named("fast")
    assert main(["score", f"samples={cif}", f"protocol.fmax={fast.fmax}"]) == 0
    assert fake.calls[0]["protocol"] == fast


def test_reference_can_be_a_file(cif: Path, fake: type[FakeMetric]) -> None:
    Path("my(1),ref.arrow").write_text("")
    assert main(["score", f"samples={cif}", "reference=my(1),ref.arrow"]) == 0
    assert fake.calls[0]["reference"] == Path("my(1),ref.arrow")


def test_limit_reaches_the_reader(cif: Path, fake: type[FakeMetric]) -> None:
    cif.write_text(CIF + CIF.replace("data_NaCl", "data_b") + CIF.replace("data_NaCl", "data_c"))
    assert main(["score", f"samples={cif}", "limit=2", "out=run"]) == 0
    assert len(NoveltyReport.load("run").results) == 2


def test_seed_selects_a_random_subset(cif: Path, fake: type[FakeMetric]) -> None:
    cif.write_text("".join(CIF.replace("data_NaCl", f"data_{i}") for i in range(9)))
    assert main(["score", f"samples={cif}", "limit=2", "seed=1", "out=run"]) == 0
    drawn = [row.id for row in NoveltyReport.load("run").results]
    assert len(drawn) == 2 and drawn != ["NaCl-0", "NaCl-1"]


def test_configs_of_the_user_are_found(cif: Path, fake: type[FakeMetric], tmp_path: Path) -> None:
    folder = tmp_path / "my, configs (1)"
    (folder / "protocol").mkdir(parents=True)
    (folder / "protocol" / "mine.yaml").write_text(
        "defaults:\n  - paper\n  - _self_\nname: mine\nk: 4\n"
    )
    (folder / "relaxer").mkdir()
    (folder / "relaxer" / "own.yaml").write_text("_target_: fractions.Fraction\nnumerator: 3\n")
    (folder / "model").mkdir()
    (folder / "model" / "mine.yaml").write_text("name: mine\nformat: cif\n")
    arguments = ["--config-dir", str(folder), "protocol=mine", "relaxer=own", "model=mine"]
    assert main(["score", f"samples={cif}", *arguments]) == 0
    assert fake.calls[0]["protocol"] == Protocol(name="mine", k=4)
    assert fake.calls[0]["relaxer"] == 3


def test_invalid_relaxer_is_one_clear_error(
    cif: Path, fake: type[FakeMetric], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "relaxer").mkdir()
    (tmp_path / "relaxer" / "own.yaml").write_text("_target_: no.such.Thing\n")
    arguments = ["score", f"samples={cif}", f"--config-dir={tmp_path}", "relaxer=own"]
    assert "relaxer=no.such.Thing can't be made" in error_line(capfd, *arguments)


# Output


def test_screen_shows_only_the_report(
    cif: Path, fake: type[FakeMetric], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", f"samples={cif}"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert out.startswith("novelty at most 100.0 %: nothing was relaxed")
    assert "noise" not in out and "CHGNet v0.3.0 initialized" not in out
    assert "out=run  # keeps all results, for explain, report and export" in out
    assert list(Path.cwd().iterdir()) == []


def test_out_contains_the_report_and_the_settings(
    cif: Path, fake: type[FakeMetric], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", f"samples={cif}", "out=deep/run"]) == 0
    assert "novelty-metric report deep/run  #" in capfd.readouterr().out
    assert sorted(path.name for path in Path("deep/run").iterdir()) == [
        "config.json",
        "evidence.parquet",
        "parents.parquet",
        "quality.parquet",
        "report.json",
        "verdicts.csv",
        "verdicts.parquet",
    ]
    assert json.loads(Path("deep/run/config.json").read_text())["protocol"]["name"] == "fast"


def test_every_written_file_is_listed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["score", "relaxer=none", "limit=3", "workers=1", "out=run", "--full"]) == 0
    output = capfd.readouterr().out.split("Written to run: ")[1].split("\n\n")[0]
    written = {path.name for path in Path("run").iterdir()}
    assert {name.split(".")[0] for name in written} <= set(re.findall(r"\w+", output))
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    listed = readme.split("`out=run` holds")[1].split("`novelty-metric report run`")[0]
    assert set(re.findall(r"`(\w+\.\w+)`", listed)) == written
    assert main(["score", "--help"]) == 0
    listed = capfd.readouterr().out.split("out=DIR ")[1].split("overwrite=")[0]
    assert set(re.findall(r"^ +(\w+\.\w+) ", listed, flags=re.MULTILINE)) == written


def test_run_is_continued_only_with_equal_settings(
    cif: Path, fake: type[FakeMetric], capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["score", f"samples={cif}", "out=run"]
    assert main(arguments) == 0
    assert main([*arguments, "workers=2", "cache=false"]) == 0
    # The same samples under another name.
    Path("copy.cif").write_bytes(cif.read_bytes())
    assert main(["score", "samples=copy.cif", "out=run"]) == 0
    capfd.readouterr()
    line = error_line(capfd, *arguments, "protocol.k=5")
    assert "protocol.k was 3, is 5" in line and "overwrite=true" in line
    Path("copy.cif").write_text(CIF.replace("Na", "K"))
    assert "other samples" in error_line(capfd, "score", "samples=copy.cif", "out=run")
    assert main([*arguments, "protocol.k=5", "overwrite=true"]) == 0
    assert NoveltyReport.load("run").context.protocol.k == 5
    # An old run, from before these settings existed, counts as equal.
    config = json.loads(Path("run/config.json").read_text())
    del config["progress"], config["model"]["formats"]
    Path("run/config.json").write_text(json.dumps(config))
    assert main([*arguments, "protocol.k=5"]) == 0
    Path("run/config.json").unlink()
    capfd.readouterr()
    assert "settings are not known" in error_line(capfd, *arguments)


def test_out_folder_with_other_files(
    cif: Path, fake: type[FakeMetric], capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["score", f"samples={cif}", "out=mine"]
    Path("mine").mkdir()
    # Batch systems write such files there.
    Path("mine/slurm-1.out").write_text("")
    fake.failure = KeyboardInterrupt()
    assert main(arguments) == 3
    assert capfd.readouterr().err.count("\n") == 1
    fake.failure = None
    assert main(arguments) == 0  # an interrupted run continues
    assert main(arguments) == 0
    assert capfd.readouterr().err == ""

    Path("theirs").mkdir()
    for name in ("a.csv", "b.csv", "c.csv", "d.csv"):
        Path("theirs", name).write_text("x")
    assert main(["score", f"samples={cif}", "out=theirs"]) == 0
    assert capfd.readouterr().err == (
        "novelty-metric: warning: out=theirs contains no run but a.csv, b.csv, c.csv and 1 more; "
        "the "
        "report goes beside them\n"
    )
    assert main(["score", f"samples={cif}", "out=theirs"]) == 0
    assert capfd.readouterr().err == ""

    Path("model").mkdir()
    Path("model/config.json").write_text('{"layers": 6}')
    message = error_line(capfd, "score", f"samples={cif}", "out=model")
    assert "out=model contains config.json, but no report that it could be of" in message
    assert Path("model/config.json").read_text() == '{"layers": 6}'
    assert main(["score", f"samples={cif}", "out=model", "overwrite=true"]) == 0


@pytest.mark.parametrize(
    ("model", "name", "content", "message"),
    [
        ("diffcsp", "a.cif", CIF, "is cif, which model=diffcsp does not write (pt)"),
        ("mattergen", "a.csv", f'cif\n"{CIF}"\n', "is csv, which model=mattergen does not write"),
        ("flowmm", "a.csv", f'cif\n"{CIF}"\n', "has no column relxed_structure or relaxed_struc"),
        ("flowmm", "a.csv", f'relxed_structure\n"{CIF}"\n', None),
        ("mattergen", "a.cif", CIF, None),
        ("crystalformer", "a.csv", f'cif\n"{CIF}"\n', None),
        ("generic", "a.csv", f'mine\n"{CIF}"\n', None),
    ],
)
def test_warning_for_samples_of_another_model(
    model: str,
    name: str,
    content: str,
    message: str | None,
    *,
    cif: Path,
    fake: type[FakeMetric],
    capfd: pytest.CaptureFixture[str],
) -> None:
    Path(name).write_text(content)
    arguments = ["score", f"model={model}", f"samples={name}", "reference=aflow", "out=run"]
    assert main(arguments) == 0
    err = capfd.readouterr().err
    warnings = NoveltyReport.load("run").context.warnings
    if message is None:
        assert (err, warnings) == ("", ())
    else:
        assert err.count("\n") == 1 and f"warning: samples={name} {message}" in err
        assert any(message in line for line in warnings)


@pytest.mark.parametrize(
    ("model", "file"),
    [
        ("crystalformer", "crystalformer/CrystalFormer_mp_20.csv.gz"),
        ("diffcsp", "diffcsp/DiffCSP_mp_20.pt"),
        ("diffcsp_pp", "diffcsp_pp/DiffCSP++_mp_20.pt"),
        ("flowmm", "flowmm/flowmm_mp20_all_result_filtered_withcif.csv"),
        ("flowmm_relaxed", "flowmm/flowmm_mp20_all_result_filtered_withcif.csv"),
        ("mattergen", "mattergen/generated_crystals.extxyz"),
        ("mattergen", "mattergen/generated_crystals_cif.zip"),
        ("wyckofftransformer", "wyckofftransformer/WyckoffTransformer_mp_20_DiffCSP++.json.gz"),
    ],
)
def test_published_samples_give_no_warning(model: str, file: str, shared_data: Path) -> None:
    path = shared_data / "generated" / file
    content = composed(f"model={model}", f"samples={path}", "reference=aflow")
    assert not_of_model(ScoreSettings.from_config(content)) is None


def test_folder_of_samples_is_compared_by_content(
    cif: Path, fake: type[FakeMetric], capfd: pytest.CaptureFixture[str]
) -> None:
    Path("in").mkdir()
    Path("in/a.cif").write_text(CIF)
    arguments = ["score", "samples=in", "out=run"]
    assert main(arguments) == 0
    assert main(arguments) == 0
    Path("in/b.cif").write_text(CIF)
    capfd.readouterr()
    assert "other samples" in error_line(capfd, *arguments)


def test_cfg_prints_the_settings(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "protocol=paper", "--cfg", "job", "reference=a(1).arrow", "limit=3"]) == 0
    config = OmegaConf.create(capfd.readouterr().out)
    assert config.protocol.fmax == 0.001
    assert config.reference.path == "a(1).arrow"
    assert config.limit == 3


@pytest.mark.parametrize("arguments", [[], ["--help"], ["score", "-h"], ["reference", "--help"]])
def test_help(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    out, err = capfd.readouterr()
    assert out.startswith("usage: novelty-metric")
    assert err == ""
    assert max(map(len, out.splitlines())) <= 88


def test_version(capfd: pytest.CaptureFixture[str]) -> None:
    from novelty_metric import __version__

    assert main(["--version"]) == 0
    assert capfd.readouterr().out == f"novelty-metric {__version__}\n"


# Invalid calls


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("scor", "did you mean 'score'?"),
        ("score smples=x", "did you mean 'samples'?"),
        ("score k=3", "did you mean 'protocol.k'?"),
        ("score protocol.fmx=1", "did you mean 'protocol.fmax'?"),
        ("score +new=1", "no setting named 'new'"),
        ("score ++protocol.new=1", "no setting named 'protocol.new'"),
        ("score ~limit", "write limit=null"),
        ("score protocol=pap", "did you mean 'paper'?"),
        ("score relaxer=mace", "relaxer=mace needs mace-torch; install it with pip install"),
        (
            "score hull=oqmd",
            "no hull named 'oqmd'; known: auto, entries, file, matbench_discovery, mp",
        ),
        ("score hull=entries", "hull.file has no value; write hull.file=VALUE"),
        ("score model=zzz", "known: adit, cdvae"),
        ("score model=diffcsp", "model=diffcsp needs samples="),
        ("score logger=x", "known: none"),
        ("score reference=mp20", "did you mean 'mp_20'?"),
        ("score reference=/no/file.arrow", "neither a known reference nor a file"),
        ("score reference=", "or a file"),
        ("score reference=file", "write reference=FILE"),
        ("score samples=/no/such.zip", "samples=/no/such.zip: no such file or folder"),
        ("score samples=", "samples= has no value"),
        ("score limit=0", "limit is 0; it must be a whole number above 0"),
        ("score limit=many", "limit is 'many'"),
        ("score seed=-1 limit=3", "seed is -1; it must be a whole number"),
        ("score seed=1", "add limit=N, or remove seed="),
        ("score workers=-1", "workers is -1"),
        ("score exhaustive=perhaps", "exhaustive is 'perhaps'; it must be true or false"),
        ("score scope=some", "scope is 'some'; known: eligible, all"),
        ("score smact_oxidation_states=x", "no oxidation states named 'x'; known to SMACT: icsd24"),
        ("score protocol.fmax=fast", "protocol.fmax is 'fast'; it must be a number"),
        ("score protocol.fmax=nan", "protocol.fmax is nan; it must be finite"),
        ("score protocol.fmax=-1", "it must be above 0"),
        ("score protocol.k=1.5", "protocol.k is 1.5"),
        ("score protocol.k=1,2", "'protocol.k=1,2' can't be read"),
        ("score limit=(", "'limit=(' can't be read"),
        ("score word", "'word' is not of the form key=value"),
        ("score --frob", "no option named --frob"),
        ("score --cfg", "--cfg"),
        ("score --config-dir /no/folder", "--config-dir /no/folder: no such folder"),
        ("reference fetched", "did you mean 'reference fetch'?"),
        ("reference build", "needs a SOURCE"),
        ("reference build /no/such.csv out=x.arrow", "/no/such.csv: no such file or folder"),
        ("reference build . ot=x.arrow", "did you mean 'out'?"),
        ("reference build .", "needs out=FILE.arrow"),
        ("reference build . out=x.arrow workers=0", "workers is '0'"),
        ("reference build . out=", "out= has no value"),
        ("reference build . out=x.arrow relaxer=x", "no relaxer named 'x'"),
    ],
)
def test_invalid_call_gives_one_clear_error(
    arguments: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert message in error_line(capfd, *arguments.split())


def test_error_suggests_the_key_of_a_file(cif: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert f"is it samples={cif}?" in error_line(capfd, "score", str(cif))


def test_out_that_is_a_file_is_refused_before_scoring(
    cif: Path, fake: type[FakeMetric], capfd: pytest.CaptureFixture[str]
) -> None:
    Path("taken").write_text("")
    assert "can't be written" in error_line(capfd, "score", f"samples={cif}", "out=taken")
    assert "can't be written" in error_line(capfd, "score", f"samples={cif}", "out=taken/run")
    assert fake.calls == []


def test_messages_of_package_errors_are_kept(
    cif: Path, fake: type[FakeMetric], capfd: pytest.CaptureFixture[str]
) -> None:
    fake.failure = InputError("the reference\nis empty")
    line = error_line(capfd, "score", f"samples={cif}")
    assert line == "novelty-metric: error: the reference is empty\n"
    assert fake.calls[0]["closed"]


def test_internal_error_is_one_line_and_names_the_debug_variable(
    cif: Path,
    fake: type[FakeMetric],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake.failure = ZeroDivisionError("division by zero")
    assert main(["score", f"samples={cif}"]) == 2
    err = capfd.readouterr().err
    assert "internal error: ZeroDivisionError: division by zero" in err
    assert "NOVELTY_METRIC_DEBUG=1" in err and err.count("\n") == 1
    monkeypatch.setenv("NOVELTY_METRIC_DEBUG", "1")
    assert main(["score", f"samples={cif}"]) == 2
    assert "Traceback" in capfd.readouterr().err


def test_interruption_prints_the_command_to_continue(
    cif: Path, fake: type[FakeMetric], capfd: pytest.CaptureFixture[str]
) -> None:
    fake.failure = KeyboardInterrupt()
    source = cif.with_name("a b.cif")
    source.write_text(CIF)
    assert main(["score", f"samples={source}"]) == 3
    out, err = capfd.readouterr()
    assert out == ""
    assert err == (
        "novelty-metric: interrupted; finished crystals are kept, go on with: "
        f"novelty-metric score 'samples={source}'\n"
    )
    assert main(["score", f"samples={source}", "cache=false"]) == 3
    assert "nothing was kept" in capfd.readouterr().err


# In a separate process


@pytest.fixture
def run(run_python: Callable[..., Any]) -> Callable[..., Any]:
    return partial(run_python, "-m", "novelty_metric.cli")


def test_exit_status_of_the_process(tmp_path: Path, run: Callable[..., Any]) -> None:
    assert run("--version", cwd=tmp_path).returncode == 0
    refused = run("score", "limit=0", cwd=tmp_path)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM]
)
def test_exit_status_of_an_interrupted_process(
    name: signal.Signals, cif: Path, start_python: Callable[..., Any]
) -> None:
    script = (
        "import signal, sys, time, types\n"
        # Background processes of a shell ignore Ctrl-C.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from pathlib import Path\n"
        "class Metric:\n"
        "    def __init__(self, *given, **options): pass\n"
        "    def __enter__(self): return self\n"
        "    def __exit__(self, *error): pass\n"
        "    reference = types.SimpleNamespace(store_hash='')\n"
        "    @property\n"
        "    def pipeline(self):\n"
        "        Path('running').touch()\n"
        "        time.sleep(3600)\n"
        "module = types.ModuleType('novelty_metric.metric')\n"
        "module.SubstitutionNovelty = Metric\n"
        "sys.modules['novelty_metric.metric'] = module\n"
        "from novelty_metric.cli import main\n"
        f"sys.exit(main(['score', 'samples={cif}']))\n"
    )
    process = start_python("-c", script, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not Path("running").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(name)
    out, err = process.communicate()
    assert (process.returncode, out) == (3, "")
    assert "go on with: novelty-metric score" in err and err.count("\n") == 1


def test_closed_pipe_is_not_an_error(start_python: Callable[..., Any]) -> None:
    command = ["-m", "novelty_metric.cli", "score", "--help"]
    process = start_python(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    head = subprocess.Popen(["head", "-1"], stdin=process.stdout, stdout=subprocess.DEVNULL)
    process.stdout.close()  # so that only `head` reads
    assert (process.stderr.read(), process.wait(), head.wait()) == ("", 0, 0)


@pytest.mark.parametrize("encoding", ["ascii", pytest.param("utf-8", marks=pytest.mark.slow)])
def test_any_terminal_encoding_works(encoding: str, run: Callable[..., Any]) -> None:
    done = run(
        "score", "reference=référence 金.arrow", "--cfg", "job", env={"PYTHONIOENCODING": encoding}
    )
    assert (done.returncode, done.stderr) == (0, "")
    done = run("score", "samples=金", env={"PYTHONIOENCODING": encoding})
    assert done.returncode == 2 and "no such file" in done.stderr


HEAVY = ("torch", "pymatgen", "pandas", "pyarrow", "ase", "chgnet", "smact", "rich", "wandb")


def test_heavy_packages_are_loaded_after_the_arguments_are_checked(
    run_python: Callable[..., Any],
) -> None:
    script = (
        "import sys\n"
        "from novelty_metric.cli import main\n"
        "for words in ('--help', 'score --help', 'score samples=/no/file', 'score k=1'):\n"
        "    main(words.split())\n"
        f"    print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = run_python("-c", script, check=True)
    assert [line for line in done.stdout.splitlines() if line.startswith("[")] == ["[]"] * 4


# Several files of samples


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["samples=gen_*.cif"], ["gen_1.cif", "gen_2.cif", "gen_10.cif"]),
        (["samples=[gen_2.cif,gen_1.cif]"], ["gen_2.cif", "gen_1.cif"]),
        (["samples=[ gen_2.cif , gen_1.cif ]"], ["gen_2.cif", "gen_1.cif"]),
        (["samples=gen_2.cif", "samples=gen_1.cif"], ["gen_2.cif", "gen_1.cif"]),
        (["samples=gen_1*.cif", "samples=gen_1.cif"], ["gen_1.cif", "gen_10.cif"]),
        (["samples=gen_?.cif", "samples=[gen_10.cif]"], ["gen_1.cif", "gen_2.cif", "gen_10.cif"]),
        (["samples=['x,y.csv',gen_1.cif]"], ["x,y.csv", "gen_1.cif"]),
        (["samples=x,y.csv", "samples=a(1).zip"], ["x,y.csv", "a(1).zip"]),
        (['samples=["it\'s","a=b.csv"]'], ["it's", "a=b.csv"]),
        (["samples=it's", "samples=a=b.csv"], ["it's", "a=b.csv"]),
        (["samples=*.cif"], ["gen_1.cif", "gen_2.cif", "gen_10.cif"]),
        (["samples=[list]"], ["[list]"]),
        (["samples=[list]", "samples=gen_1.cif"], ["[list]", "gen_1.cif"]),
        (["samples=run[1]/x"], ["run[1]/x"]),
        (["samples=**/x"], ["run[1]/x"]),
        (["samples=gen_[12].cif"], ["gen_1.cif", "gen_2.cif"]),
        (["samples=null"], []),
        (["samples=none.cif"], ["none.cif"]),
    ],
)
def test_samples_can_be_files_lists_and_patterns(
    arguments: list[str], expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["gen_1.cif", "gen_2.cif", "gen_10.cif", "x,y.csv", "a(1).zip", "it's", "a=b.csv"]
    for name in [*names, "[list]", "run[1]/x"]:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    Path(".hidden.cif").touch()
    found = ScoreSettings.from_config(composed(*arguments)).samples
    assert found == tuple(map(Path, expected))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("none_*.cif", "samples=none_*.cif: fits no file or folder"),
        ("a**b", "samples=a**b is not a pattern"),
        ("[]", "samples=[] names no file"),
        (3, "samples is 3; it must be text, a list of texts, or null"),
        (["a", 3], "samples is ['a', 3]; it must be text"),
        ("a\0*", "which is not a valid file name"),
    ],
)
def test_invalid_samples_are_one_clear_error(value: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        ScoreSettings.from_config({**composed(), "samples": value})
    assert message in str(caught.value)


def test_several_files_are_one_run(
    cif: Path, fake: type[FakeMetric], capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("gen_1.cif", "gen_2.cif", "gen_10.cif"):
        Path(name).write_bytes(cif.read_bytes())
    arguments = ["score", "samples=gen_*.cif", f"samples={cif}", "out=run"]
    assert main(arguments) == 0
    rows = NoveltyReport.load("run").results
    assert [row.id for row in rows] == ["gen_1", "gen_2", "gen_10", "crystal"]
    assert main(arguments) == 0  # the same samples are recognised
    assert main([*arguments[:1], "limit=2", "seed=1", *arguments[1:3], "out=two"]) == 0
    assert len(NoveltyReport.load("two").results) == 2
    capfd.readouterr()
    Path("gen_2.cif").write_text(CIF.replace("Na", "K"))
    assert "other samples" in error_line(capfd, *arguments)
    Path("gen_2.cif").write_bytes(cif.read_bytes())
    Path("gen_3.cif").write_bytes(cif.read_bytes())
    assert "other samples" in error_line(capfd, *arguments)
    Path("gen_3.cif").unlink()
    assert main(arguments) == 0
    assert main(["score", "-m", *arguments[1:3], "protocol.k=1,3", "out=all"]) == 0
    assert len(NoveltyReport.load("all/protocol.k=3").results) == 4
    capfd.readouterr()
    assert "no such file" in error_line(capfd, "score", f"samples={cif}", "samples=none.cif")


def test_id_column_is_a_setting(
    cif: Path, fake: type[FakeMetric], capfd: pytest.CaptureFixture[str]
) -> None:
    Path("x.csv").write_text(f'id,"no, of run",path\na,00123,{cif.name}\n')
    Path(cif.name).write_bytes(cif.read_bytes())
    assert main(["score", "samples=x.csv", "id_column=no, of run", "out=run"]) == 0
    assert [row.id for row in NoveltyReport.load("run").results] == ["00123"]
    capfd.readouterr()
    error = error_line(capfd, "score", "samples=x.csv", "id_column=label")
    assert "id_column=label: there is no such column; the columns are id, no, of run, path" in error
