"""``pytest --novelty`` from a user's perspective."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from novelty_metric.protocol import Protocol

WriteSamples = Callable[[str, str], Path]

MODELS = """
    import pytest

    @pytest.mark.novelty(model="diffcsp", samples="ten.json")
    def test_diffcsp(novelty_regression):
        report = novelty_regression()
        assert report.counts["unmatched"] == 5

    def test_plain():
        pass
"""
BASELINE = "novelty_baselines/test_models.test_diffcsp.json"


def models(project: pytest.Pytester, text: str = MODELS) -> None:
    project.makepyfile(test_models=text)


def run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run pytest with this plugin alone; each other one takes its time in every run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        return project.runpytest_inprocess("-p", "novelty", *arguments)


def baseline(project: pytest.Pytester, name: str = BASELINE) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((project.path / name).read_text())
    return content


def accepted(project: pytest.Pytester) -> None:
    """Write the baselines of a project."""
    run(project, "--novelty", "--novelty-update").assert_outcomes(passed=2)


# Run, or skipped


def test_without_the_option_checks_are_skipped_with_a_reason(project: pytest.Pytester) -> None:
    models(project)
    project.makefile(".yaml", novelty_release="samples: ten.json")
    result = run(project, "-rs")
    result.assert_outcomes(passed=1, skipped=2)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["SKIPPED * novelty test: run with --novelty"])
    result.stdout.no_fnmatch_line("*novelty: reference*")
    result.stdout.no_fnmatch_line("*= novelty =*")
    assert not (project.path / "novelty_baselines").exists()


def test_tests_with_only_our_fixtures_are_skipped_too(project: pytest.Pytester) -> None:
    models(project, "def test_a(novelty_metric): pass\ndef test_b(novelty_regression): pass")
    run(project).assert_outcomes(skipped=2)
    result = run(project, "--novelty")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["novelty_metric is for tests marked @pytest.mark.novelty(...)"])


def test_ini_file_can_enable_checks(project: pytest.Pytester) -> None:
    models(project)
    project.makeini(
        "[pytest]\nnovelty = true\nnovelty_reference = three.arrow\nnovelty_relaxer = none\n"
        "novelty_update = true"
    )
    result = run(project)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["novelty: baselines novelty_baselines, being updated, *"])


# Life cycle of a baseline


def test_life_cycle_of_a_baseline(project: pytest.Pytester, write_samples: WriteSamples) -> None:
    models(project)
    first = run(project, "--novelty")
    first.assert_outcomes(failed=1, passed=1)
    assert first.ret == pytest.ExitCode.TESTS_FAILED
    first.stdout.fnmatch_lines(
        [
            "novelty of diffcsp: there was no baseline to compare with",
            f"  written from this run: {BASELINE}",
            "  10 of 10 eligible: 3 duplicate, 0 substituted, 5 unmatched, 2 undecided",
            "diffcsp * 3 * 0 * 5 * 2 * 50.0 [[]24-76[]] * - * new baseline",
            f"diffcsp: baseline written to {BASELINE}; commit it",
        ]
    )
    written = (project.path / BASELINE).read_text()
    second = run(project, "--novelty")
    second.assert_outcomes(passed=2)
    assert second.ret == pytest.ExitCode.OK
    second.stdout.fnmatch_lines(["diffcsp * none * ok"])
    assert (project.path / BASELINE).read_text() == written, "a passing run changes nothing"

    write_samples("ten.json", "nnnnnncsss")
    models(project, MODELS.replace("== 5", "== 6"))
    run(project, "--novelty").assert_outcomes(passed=2)
    assert (project.path / BASELINE).read_text() == written, "a better run changes nothing either"
    updated = run(project, "--novelty", "--novelty-update")
    updated.assert_outcomes(passed=2)
    updated.stdout.fnmatch_lines(["diffcsp * updated"])
    assert baseline(project)["of the eligible"]["unmatched"]["count"] == 6


def test_baseline_contains_what_a_reader_needs(project: pytest.Pytester) -> None:
    models(project)
    accepted(project)
    content = baseline(project)
    assert content["model"] == "diffcsp"
    assert content["of the eligible"]["duplicate"]["count"] == 3
    assert set(content["of the eligible"]["unmatched"]) == {"count", "share", "low", "high"}
    assert content["reference"]["name"] == "three" and content["reference"]["size"] == 3
    assert len(content["reference"]["crystals_hash"]) == 64
    assert content["protocol"].startswith("fast settings")
    assert content["potential"] is None
    assert "pymatgen" in content["versions"]
    assert [row["id"] for row in content["crystals"]] == [f"gen_{i}" for i in range(10)]


def test_damaged_baseline_is_an_error(project: pytest.Pytester) -> None:
    models(project)
    accepted(project)
    (project.path / BASELINE).write_text("{")
    result = run(project, "--novelty")
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["novelty: *is not a readable baseline*"])
    run(project, "--novelty", "--novelty-update").assert_outcomes(passed=2)
    run(project, "--novelty").assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("novelty_reference = three.arrow", "novelty_reference = aflow", "  reference was three *"),
        (
            "novelty_relaxer",
            "novelty_protocol = paper\nnovelty_relaxer",
            f"  protocol.fmax was {Protocol.named('fast').fmax}*",
        ),
    ],
)
def test_other_reference_or_protocol_is_an_error(
    project: pytest.Pytester, old: str, new: str, text: str
) -> None:
    models(project)
    accepted(project)
    ini = project.path / "tox.ini"
    ini.write_text(ini.read_text().replace(old, new))
    result = run(project, "--novelty")
    result.assert_outcomes(errors=1, passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*is of another measurement, so nothing is compared:", text])
    result.stdout.no_fnmatch_line("*regressed*")
    result.stdout.no_fnmatch_line("*During handling of*")
    run(project, "--novelty", "--novelty-update").assert_outcomes(passed=2)


def test_other_potential_is_detected_after_the_run(project: pytest.Pytester) -> None:
    models(project)
    accepted(project)
    content = baseline(project)
    content["potential"] = {"name": "chgnet", "version": "0.3.0", "weights_hash": "ab" * 32}
    (project.path / BASELINE).write_text(json.dumps(content))
    result = run(project, "--novelty")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        ["  potential was chgnet-0.3.0-abababababab, is none", "diffcsp * MISMATCH"]
    )


# Regression


def test_deliberate_regression_is_detected(
    project: pytest.Pytester, write_samples: WriteSamples
) -> None:
    models(project, MODELS.replace("assert", "assert True or"))
    write_samples("ten.json", "n" * 12 + "c" * 8)
    accepted(project)
    write_samples("ten.json", "n" * 3 + "c" * 16 + "b")
    result = run(project, "--novelty")
    result.assert_outcomes(failed=1, passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "novelty of diffcsp regressed",
            "  unmatched   now 15.8 % [[]5.5-37.6[]] of 19",
            "              was 60.0 % [[]38.7-78.1[]] of 20",
            "              -44.2 points [[]*, -*[]]",
            "              more than the tolerance of 5.0 (unmatched:-0.05)",
            "              and more than sampling noise (paired permutation test, p = 0.00*)",
            "  duplicate   now 84.2 % *",
            "  10 of 20 crystals in common changed their verdict:",
            "    gen_3 SrTiO3: unmatched -> duplicate",
            "      was: no parent found",
            "      now: equals SrTiO3, rms 0.000",
            "    gen_19 SrTiO3: duplicate -> unreadable",
            "  baseline novelty_baselines/*",
            "If this is what you want, accept it with --novelty-update.",
            "diffcsp * REGRESSED",
        ],
        consecutive=False,
    )
    result.stdout.no_fnmatch_line("*Traceback*")


@pytest.mark.slow
def test_change_within_noise_is_not_a_regression(
    project: pytest.Pytester, write_samples: WriteSamples
) -> None:
    models(project, MODELS.replace("assert", "assert True or"))
    write_samples("ten.json", "n" * 12 + "c" * 8)
    accepted(project)
    # Ten points less, twice the tolerance: three of twenty crystals lost, one gained.
    write_samples("ten.json", "n" * 9 + "c" * 3 + "n" + "c" * 7)
    result = run(project, "--novelty")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "diffcsp * -10.0 [[]*, +*[]] * ok",
            "diffcsp: unmatched is worse than tolerated, but within sampling noise",
        ]
    )
    # A larger sample of the same two models shows the difference.
    write_samples("ten.json", "n" * 120 + "c" * 80)
    accepted(project)
    write_samples("ten.json", "n" * 90 + "c" * 30 + "n" * 10 + "c" * 70)
    run(project, "--novelty").assert_outcomes(failed=1, passed=1)


def test_change_within_the_tolerance_is_not_a_regression(
    project: pytest.Pytester, write_samples: WriteSamples
) -> None:
    models(project, MODELS.replace("assert", "assert True or"))
    write_samples("ten.json", "n" * 12 + "c" * 8)
    accepted(project)
    write_samples("ten.json", "n" * 3 + "c" * 17)
    run(project, "--novelty").assert_outcomes(failed=1, passed=1)
    for expression in ("unmatched:-75%", "unmatched:-0.45", "novel_yield:0.6,duplicate:-0"):
        run(project, "--novelty", "--novelty-fail", expression).assert_outcomes(passed=2)


def test_message_for_other_crystals(project: pytest.Pytester, write_samples: WriteSamples) -> None:
    models(project, MODELS.replace("assert", "assert True or"))
    write_samples("ten.json", "s" * 3 + "n" * 14 + "c" * 3)
    accepted(project)
    write_samples("ten.json", "c" * 19 + "s")
    result = run(project, "--novelty")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "              and more than sampling noise (Fisher's exact test, p = *)",
            "  other crystals than in the baseline: single crystals cannot be compared",
        ]
    )


# Options


def test_location_of_baselines(project: pytest.Pytester) -> None:
    models(project)
    for path, file in (
        ("kept", "kept/test_models.test_diffcsp.json"),
        ("all.json", "all.json"),
    ):
        arguments = ("--novelty", "--novelty-baseline", path)
        run(project, *arguments).assert_outcomes(failed=1, passed=1)
        assert (project.path / file).is_file()
        run(project, *arguments).assert_outcomes(passed=2)
    assert list(baseline(project, "all.json")["baselines"]) == ["test_models.test_diffcsp"]
    (project.path / "folder").mkdir()
    ini = project.path / "tox.ini"
    ini.write_text(ini.read_text() + "\nnovelty_baseline = from_ini")
    project.makepyfile(**{"folder/test_here": "def test(): pass"})
    os.chdir(project.path / "folder")
    run(project, "--novelty", "..").assert_outcomes(failed=1, passed=2)
    assert (project.path / "from_ini/test_models.test_diffcsp.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--novelty-fail", "unmatched"], "--novelty-fail: 'unmatched' is not of the form*"),
        (["--novelty-fail", "novel:5%"], "--novelty-fail: 'novel:5%': no share named 'novel'*"),
        (["--novelty-update"], "--novelty-update needs --novelty*"),
        (
            ["--novelty-baseline", "ten.txt"],
            "--novelty-baseline *ten.txt is a file; name a folder*",
        ),
        (["--novelty-report", "."], "--novelty-report * is a folder; name a file"),
    ],
)
def test_invalid_options(project: pytest.Pytester, arguments: list[str], complaint: str) -> None:
    (project.path / "ten.txt").write_text("")
    models(project)
    result = run(project, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {complaint}"])


def test_expression_in_the_ini_file(project: pytest.Pytester, write_samples: WriteSamples) -> None:
    models(project, MODELS.replace("assert", "assert True or"))
    ini = project.path / "tox.ini"
    before = ini.read_text()
    ini.write_text(before + "\nnovelty_fail = unmatched:-90%")
    write_samples("ten.json", "n" * 12 + "c" * 8)
    accepted(project)
    write_samples("ten.json", "n" * 3 + "c" * 17)
    result = run(project, "--novelty")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["novelty: * fails on unmatched:-90% if beyond noise"])
    given = run(project, "--novelty", "--novelty-fail=unmatched:5%")
    given.assert_outcomes(failed=1, passed=1)
    ini.write_text(before + "\nnovelty_fail = much")
    wrong = run(project)
    assert wrong.ret == pytest.ExitCode.USAGE_ERROR
    wrong.stderr.fnmatch_lines(["ERROR: novelty_fail of the ini file: 'much' is not*"])


def test_expression_on_the_command_line_has_priority(
    project: pytest.Pytester, write_samples: WriteSamples
) -> None:
    own = 'samples="ten.json", fail="unmatched:-90%"'
    models(project, MODELS.replace("assert", "#").replace('samples="ten.json"', own))
    write_samples("ten.json", "n" * 12 + "c" * 8)
    accepted(project)
    write_samples("ten.json", "n" * 3 + "c" * 17)
    run(project, "--novelty").assert_outcomes(passed=2)
    run(project, "--novelty", "--novelty-fail=unmatched:5%").assert_outcomes(failed=1, passed=1)


def test_report_file(project: pytest.Pytester) -> None:
    models(project)
    accepted(project)
    result = run(project, "--novelty", "--novelty-report", "out/novelty.json")
    result.stdout.fnmatch_lines(["report: out/novelty.json"])
    content = json.loads((project.path / "out/novelty.json").read_text())
    (check,) = content["checks"]
    assert check["nodeid"] == "test_models.py::test_diffcsp"
    assert check["model"] == "diffcsp" and check["outcome"] == "ok"
    assert check["counts"] == {"duplicate": 3, "substituted": 0, "unmatched": 5, "undecided": 2}
    assert [share["share"] for share in check["watched"]] == ["unmatched", "duplicate"]
    assert check["watched"][0]["status"] == "kept"
    assert check["changed"] == []


def test_report_that_cannot_be_written_is_an_error(project: pytest.Pytester) -> None:
    models(project)
    accepted(project)
    (project.path / "file").write_text("")
    result = run(project, "--novelty", "--novelty-report", "file/below.json")
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["novelty error: *file/below.json can't be written*"])


def test_baseline_that_cannot_be_written_is_an_error(project: pytest.Pytester) -> None:
    models(project)
    (project.path / "file").write_text("")
    result = run(project, "--novelty", "--novelty-update", "--novelty-baseline", "file/below")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*can't be *"])


def test_help_names_every_option(project: pytest.Pytester) -> None:
    result = run(project, "--help")
    for name in ("", "-baseline=PATH", "-update", "-fail=EXPR", "-report=PATH"):
        result.stdout.fnmatch_lines([f"*--novelty{name}*"])
    for name in ("", "_baseline", "_update", "_fail", "_report", "_files", "_reference"):
        result.stdout.fnmatch_lines([f"*novelty{name} (*"])


def test_marker_is_listed(project: pytest.Pytester) -> None:
    run(project, "--markers").stdout.fnmatch_lines(["@pytest.mark.novelty(model, samples, *"])


# Marker and fixtures


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("modle='x'", "no argument named 'modle'; did you mean 'model'?"),
        ("'x'", "'x' was given without a name; write it as model=, samples= *"),
        ("min_unmatched=5", "min_unmatched is 5; it must be a share from 0 to 1"),
        ("limit='all'", "limit is 'all'; it must be a whole number above 0"),
        ("fail='unmatched'", "fail: 'unmatched' is not of the form *"),
    ],
)
@pytest.mark.parametrize("words", [[], ["--novelty"]])
def test_error_for_an_invalid_marker_names_its_place(
    project: pytest.Pytester, arguments: str, complaint: str, words: list[str]
) -> None:
    models(
        project,
        f"""
        import pytest

        @pytest.mark.novelty({arguments})
        def test_a(): pass

        class TestX:
            def test_b(self): pass
        """,
    )
    result = run(project, *words)
    result.assert_outcomes(errors=1)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([f"test_models.py:3: test_a: @pytest.mark.novelty: {complaint}"])


def test_markers_of_module_class_and_function_are_combined(project: pytest.Pytester) -> None:
    models(
        project,
        """
        import pytest

        pytestmark = pytest.mark.novelty(model="of the module", limit=8)

        @pytest.mark.novelty(samples="ten.json")
        class TestAll:
            def test_a(self, novelty_regression):
                assert len(novelty_regression().results) == 8

            @pytest.mark.novelty(limit=3, model="own")
            @pytest.mark.parametrize("x", ["a/b", "a-b"])
            def test_b(self, x, novelty_regression):
                assert len(novelty_regression().results) == 3
        """,
    )
    result = run(project, "--novelty", "--novelty-update")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["of the module * updated", "own * updated", "own * updated"])
    assert len(list((project.path / "novelty_baselines").glob("*.json"))) == 3


def test_limits_of_the_marker(project: pytest.Pytester) -> None:
    text = """
    import pytest

    @pytest.mark.novelty(samples="ten.json", {limits})
    def test_diffcsp(): pass

    def test_plain(): pass
    """
    models(project, text.format(limits="min_unmatched=0.6, max_duplicate=0.2"))
    result = run(project, "--novelty")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "novelty of diffcsp is out of its limits",
            "  unmatched 50.0 % [[]*[]] of 10 eligible: below min_unmatched=0.6 (which lies *",
            "  duplicate 30.0 % [[]*[]] of 10 eligible: above max_duplicate=0.2 (which lies *",
            "  no baseline was written",
            "diffcsp * OUT OF LIMITS",
        ]
    )
    assert not (project.path / BASELINE).exists()
    run(project, "--novelty", "--novelty-update").assert_outcomes(failed=1, passed=1)
    assert not (project.path / BASELINE).exists(), "results outside the limits are not accepted"
    models(project, text.format(limits="min_unmatched=0.5, max_duplicate=0.3"))
    accepted(project)
    run(project, "--novelty").assert_outcomes(passed=2)


def test_minimum_ratio_needs_a_calibrated_reference(project: pytest.Pytester) -> None:
    models(
        project,
        """
        import pytest

        @pytest.mark.novelty(samples="ten.json", min_ratio=0.5)
        def test_diffcsp(): pass
        """,
    )
    result = run(project, "--novelty")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*min_ratio needs the novelty of real crystals, and the reference *three.arrow is not *"]
    )


def test_samples_are_checked_without_a_fixture(project: pytest.Pytester) -> None:
    models(
        project,
        """
        import pytest

        @pytest.mark.novelty(samples="ten.json")
        def test_diffcsp(): pass

        def test_plain(): pass
        """,
    )
    accepted(project)
    assert baseline(project)["of the eligible"]["unmatched"]["count"] == 5


def test_model_in_python(project: pytest.Pytester) -> None:
    models(
        project,
        """
        import pytest
        from novelty_metric import SubstitutionNovelty, read_samples

        def crystals(n):
            return [sample.structure for sample in read_samples("ten.json")][:n]

        @pytest.mark.novelty(model="mine", min_unmatched=0.5)
        def test_mine(novelty_metric, novelty_regression):
            assert isinstance(novelty_metric, SubstitutionNovelty)
            novelty_metric.update(crystals(10))
            report = novelty_metric.compute()
            assert novelty_regression(report) is report
            novelty_regression(novelty_metric(crystals(5)), name="first five")

        @pytest.mark.novelty()
        def test_alone(novelty_metric):
            assert novelty_metric(crystals(5)).novelty == 1.0
            assert novelty_metric.compute().n_generated == 0, "that of the other test is gone"
        """,
    )
    result = run(project, "--novelty", "--novelty-update")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["mine * 3 * updated", "mine (first five) * 5 * updated"])
    names = sorted(path.name for path in (project.path / "novelty_baselines").glob("*"))
    assert names == ["test_models.test_mine.first five.json", "test_models.test_mine.json"]
    run(project, "--novelty").assert_outcomes(passed=2)


def test_test_with_limits_but_without_a_check_fails(project: pytest.Pytester) -> None:
    models(
        project,
        MODELS.replace('samples="ten.json"', "min_unmatched=0.1").replace(
            "report = novelty_regression()", "return"
        ),
    )
    result = run(project, "--novelty")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["novelty: nothing was checked, though the test has limits*"])


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("ten.json", "none.json", "novelty: samples=*none.json: no such file or folder"),
        ('"ten.json"', '"ten.json", reference="b.arrow"', "novelty: *b.arrow: no such file*"),
        ('"ten.json"', '"ten.json", reference="mars"', "novelty: no reference named 'mars'*"),
        ('"ten.json"', '"ten.json", protocol="slow"', "novelty: no protocol named 'slow'*"),
        ('"ten.json"', '"ten.json", relaxer="vasp"', "novelty: no relaxer named 'vasp'*"),
    ],
)
def test_invalid_input_is_an_error_before_scoring(
    project: pytest.Pytester, old: str, new: str, complaint: str
) -> None:
    models(project, MODELS.replace(old, new))
    result = run(project, "--novelty")
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines([complaint])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_missing_reference_is_an_error(project: pytest.Pytester) -> None:
    models(project)
    project.makeini("[pytest]")
    result = run(project, "--novelty")
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "novelty: reference as each test names it, protocol fast",
            "novelty: no reference is named*",
        ]
    )


def test_unreadable_samples_give_one_clear_error(project: pytest.Pytester) -> None:
    models(project)
    (project.path / "ten.json").write_text("{")
    result = run(project, "--novelty")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["novelty: *ten.json*"])


def test_each_name_can_be_checked_once(project: pytest.Pytester) -> None:
    models(project, MODELS.replace("assert report", "novelty_regression(report) #"))
    run(project, "--novelty", "--novelty-update").stdout.fnmatch_lines(
        ["novelty: checked twice with one name*"]
    )


# YAML files


def test_yaml_file_is_a_test(project: pytest.Pytester) -> None:
    (project.path / "checks").mkdir()
    (project.path / "checks/novelty_release.yaml").write_text(
        "model: DiffCSP 1.0\nsamples: ../ten.json\nlimit: 9\nmin_unmatched: 0.4\n"
        "protocol:\n  name: fast\n  k: 2\n"
    )
    (project.path / "checks/other.yaml").write_text("not: a test")
    result = run(project, "--novelty")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*novelty: release*",
            "novelty of DiffCSP 1.0: there was no baseline*",
            "DiffCSP 1.0 * 5 *",
        ]
    )
    content = baseline(project, "novelty_baselines/checks.novelty_release.json")
    assert content["protocol_settings"]["k"] == 2
    passed = run(project, "--novelty", "-m", "novelty", "checks/novelty_release.yaml")
    passed.assert_outcomes(passed=1)


def test_invalid_yaml_file_is_a_collection_error(project: pytest.Pytester) -> None:
    project.makefile(".yaml", novelty_release="samples: ten.json\nmodle: x")
    run(project).assert_outcomes(skipped=1)
    result = run(project, "--novelty")
    result.assert_outcomes(errors=1)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        ["novelty_release.yaml: no key named 'modle'; did you mean 'model'?"]
    )


def test_pattern_of_yaml_files_can_be_set(project: pytest.Pytester) -> None:
    project.makefile(".yaml", novelty_release="samples: ten.json", check_b="samples: ten.json")
    ini = project.path / "tox.ini"
    ini.write_text(ini.read_text() + "\nnovelty_files = check_*.yaml")
    result = run(project, "--collect-only", "-q")
    result.stdout.fnmatch_lines(["check_b.yaml::check_b"])
    result.stdout.no_fnmatch_line("novelty_release*")


# Together with other parts of pytest


def test_only_collected(project: pytest.Pytester) -> None:
    models(project)
    project.makefile(".yaml", novelty_release="samples: ten.json")
    for arguments in ([], ["--novelty", "--novelty-report", "r.json"]):
        result = run(project, "--collect-only", *arguments)
        assert result.ret == pytest.ExitCode.OK
        result.stdout.fnmatch_lines(["*<NoveltyItem release>*", "*<Function test_diffcsp>*"])
        result.stdout.no_fnmatch_line("*= novelty =*")
    assert not (project.path / "r.json").exists()
    assert not (project.path / "novelty_baselines").exists()


def test_last_failed(project: pytest.Pytester) -> None:
    models(project)
    project.makefile(".yaml", novelty_release="samples: ten.json")
    run(project, "--novelty").assert_outcomes(failed=2, passed=1)
    run(project, "--novelty", "--lf").assert_outcomes(passed=2)
    (project.path / BASELINE).unlink()
    run(project, "--novelty").assert_outcomes(failed=1, passed=2)
    run(project, "--novelty", "--lf", "--lfnf=none").assert_outcomes(passed=1)


def test_switched_off(project: pytest.Pytester) -> None:
    project.makepyfile(test_plain="def test_plain(): pass")
    project.makefile(".yaml", novelty_release="samples: ten.json")
    without = ("-p", "no:hypothesispytest", "-p", "no:novelty")
    result = project.runpytest_inprocess(*without)
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.OK
    unknown = project.runpytest_inprocess(*without, "--novelty")
    assert unknown.ret == pytest.ExitCode.USAGE_ERROR
    unknown.stderr.fnmatch_lines(["*unrecognized arguments: --novelty*"])


def test_junit_properties(project: pytest.Pytester) -> None:
    models(project)
    accepted(project)
    run(project, "--novelty", "--junit-xml=j.xml")
    (case,) = ET.parse(project.path / "j.xml").findall(".//testcase[@name='test_diffcsp']")
    found = {item.get("name"): item.get("value") for item in case.findall("properties/property")}
    assert found["novelty.model"] == "diffcsp"
    assert found["novelty.outcome"] == "ok"
    assert found["novelty.unmatched"] == "5"
    assert found["novelty.unmatched_share"] == "0.5000"
    assert found["novelty.unmatched_low"] == "0.2366"
    assert found["novelty.unmatched_change"] == "+0.0000"
    assert found["novelty.protocol"].startswith("fast settings")
    assert found["novelty.reference"].startswith("three (3 crystals, ")


def test_two_workers_give_one_report(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    models(
        project,
        """
        import pytest

        @pytest.mark.parametrize("limit", [4, 5, 6, 7])
        @pytest.mark.novelty(samples="ten.json")
        def test_a(limit, novelty_metric, novelty_regression):
            from novelty_metric import read_samples

            crystals = [sample.structure for sample in read_samples("ten.json")]
            novelty_regression(novelty_metric(crystals[:limit]))
        """,
    )
    project.makefile(".yaml", novelty_release="samples: ten.json\nmodel: release")
    run(project, "--novelty", "-k", "not 7").assert_outcomes(failed=4, deselected=1)
    arguments = ("--novelty", "-n", "2", "--novelty-report=r.json", "--junit-xml=j.xml")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    plugins = ("-p", "xdist", "-p", "novelty")
    second = project.runpytest_subprocess(*plugins, *arguments)
    second.assert_outcomes(passed=4, failed=1)  # the new baseline
    assert len(list((project.path / "novelty_baselines").glob("*.json"))) == 5
    second.stdout.fnmatch_lines(["novelty: reference *three.arrow, protocol fast"])
    text = second.stdout.str()
    assert text.count("= novelty =") == 1
    assert text.count("  ok") == 4 and text.count("  new baseline") == 1
    checks = json.loads((project.path / "r.json").read_text())["checks"]
    assert [check["eligible"] for check in checks] == [10, 4, 5, 6, 7]
    cases = ET.parse(project.path / "j.xml").findall(".//property[@name='novelty.outcome']")
    assert [case.get("value") for case in cases] == [*["ok"] * 4, "new baseline"]


HEAVY = ("numpy", "torch", "pymatgen", "wandb", "hydra", "yaml", "rich", "scipy", "pandas")


@pytest.mark.parametrize("arguments", [[], ["--novelty"], ["--collect-only", "--novelty"]])
def test_heavy_packages_are_loaded_only_for_novelty_tests(
    pytester: pytest.Pytester, arguments: list[str], run_python: Callable[..., Any]
) -> None:
    """In a separate interpreter, without other plugins."""
    pytester.makepyfile(
        test_plain="""
        import sys

        def test_plain():
            assert "novelty_metric.testing.plugin" in sys.modules
        """,
        conftest=f"""
        import sys

        def pytest_unconfigure():
            print("loaded:", [name for name in {HEAVY} if name in sys.modules])
        """,
    )
    if not arguments:
        pytester.makefile(".yaml", novelty_release="samples: ten.json")
    if arguments != ["--novelty"]:
        pytester.makepyfile(
            test_not_run="""
            import pytest

            @pytest.mark.novelty(samples="none.json")
            def test_a(novelty_metric): pass
            """
        )
    done = run_python(
        *("-m", "pytest", "-p", "novelty_metric.testing.plugin", "-s", *arguments),
        env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "loaded: []" in done.stdout


# Nothing to check


@pytest.mark.parametrize("arguments", [(), ("--novelty-update",)])
def test_check_without_eligible_crystals_fails_and_writes_no_baseline(
    project: pytest.Pytester, write_samples: WriteSamples, arguments: tuple[str, ...]
) -> None:
    write_samples("ten.json", "xx")
    project.makefile(".yaml", novelty_release="samples: ten.json\nmax_duplicate: 0.5")
    models(
        project,
        """
        import pytest

        @pytest.mark.novelty(model="unreadable")
        def test_unreadable(novelty_metric, novelty_regression):
            novelty_regression(novelty_metric([None, None]))

        @pytest.mark.novelty(model="none")
        def test_none(novelty_metric, novelty_regression):
            novelty_regression(novelty_metric([]))
        """,
    )
    result = run(project, "--novelty", *arguments)
    result.assert_outcomes(failed=3)
    message = {
        "none": "no crystal was given",
        "release": "none of 2 crystals is eligible: 2 composition refused by SMACT",
        "unreadable": "none of 2 crystals could be read",
    }
    for model, why in message.items():
        result.stdout.fnmatch_lines([f"novelty of {model}: there is nothing to check, {why}"])
        result.stdout.fnmatch_lines([f"{model} *NOTHING TO CHECK"])
    assert not (project.path / "novelty_baselines").exists()


def test_check_without_eligible_crystals_passes_if_allowed(
    project: pytest.Pytester, write_samples: WriteSamples
) -> None:
    write_samples("ten.json", "xx")
    project.makefile(
        ".yaml", novelty_release="samples: ten.json\nmin_unmatched: 0.5\nallow_empty: true"
    )
    models(
        project,
        """
        import pytest

        @pytest.mark.novelty(model="marker", allow_empty=True)
        def test_marker(novelty_metric, novelty_regression):
            novelty_regression(novelty_metric([]))

        @pytest.mark.novelty(model="fixture")
        def test_fixture(novelty_metric, novelty_regression):
            novelty_regression(novelty_metric([]), allow_empty=True)

        @pytest.mark.novelty(model="neither")
        def test_neither(novelty_metric, novelty_regression):
            novelty_regression(novelty_metric([]))
        """,
    )
    run(project, "--novelty", "--novelty-update").assert_outcomes(passed=3, failed=1)
    result = run(project, "--novelty")  # also with a baseline
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(
        ["novelty of neither: there is nothing to check, no crystal was given"]
    )


# With names that a repository uses itself


OWN_OPTION = """
def pytest_addoption(parser):
    parser.addoption("--novelty", type=int, default=3, help="of the repository")
    parser.addini("novelty", "of the repository", default="seven")
"""


def test_option_of_the_repository_is_kept(project: pytest.Pytester) -> None:
    project.makeconftest(OWN_OPTION)
    models(
        project,
        MODELS
        + """
    def test_own(request):
        assert request.config.getoption("novelty") == request.config.getoption("--novelty") == 5
        assert request.config.getini("novelty") == "seven"
    """,
    )
    result = run(project, "--novelty=5", "-rs")
    result.assert_outcomes(passed=2, skipped=1)
    line = "novelty-metric: --novelty is this repository's own: novelty tests run with *-metric"
    result.stdout.fnmatch_lines([line])
    result.stdout.fnmatch_lines(["SKIPPED * novelty test: run with --novelty-metric"])
    run(project, "--novelty", "5", "--novelty-metric", "--novelty-update").assert_outcomes(passed=3)
    result = run(project, "--novelty=5", "--novelty-update")
    result.stderr.fnmatch_lines(["ERROR: --novelty-update needs --novelty-metric: *"])


def test_both_option_names_work_elsewhere(project: pytest.Pytester) -> None:
    accepted_by = ("--novelty-metric", "--novelty-update")
    models(project)
    result = run(project, *accepted_by)
    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("*this repository's own*")
    help_text = run(project, "--help").stdout.str()
    assert "--novelty " in help_text and "--novelty-metric " in help_text


@pytest.mark.parametrize("declared", ["ini", "conftest"])
def test_marker_of_the_repository_is_kept(project: pytest.Pytester, declared: str) -> None:
    line = "novelty(level): how new a test is"
    if declared == "ini":
        project.makeini(f"[pytest]\nmarkers =\n    {line}\naddopts = --strict-markers")
    else:
        project.makeconftest(
            f"def pytest_configure(config): config.addinivalue_line('markers', {line!r})"
        )
    models(
        project,
        """
        import pytest

        @pytest.mark.novelty("high", level=3)
        def test_own(request):
            assert request.node.get_closest_marker("novelty").args == ("high",)

        @pytest.mark.novelty
        def test_bare(): pass

        @pytest.mark.novelty_metric(
            model="ours", samples="ten.json", reference="three.arrow", relaxer="none"
        )
        def test_ours(): pass
        """,
    )
    result = run(project, "-rs")
    result.assert_outcomes(passed=2, skipped=1)
    result.stdout.fnmatch_lines(
        ["novelty-metric: the marker novelty is this repository's own: ours is novelty_metric"]
    )
    run(project, "--novelty", "--novelty-update").assert_outcomes(passed=3)
    assert (project.path / "novelty_baselines" / "test_models.test_ours.json").exists()
    result = run(project, "--markers")
    result.stdout.fnmatch_lines([f"@pytest.mark.{line}", "@pytest.mark.novelty_metric(model, *"])


def test_marker_without_arguments_and_fixtures_is_not_ours(
    project: pytest.Pytester,
) -> None:
    models(project, "import pytest\n@pytest.mark.novelty\ndef test_a(): pass")
    run(project).assert_outcomes(passed=1)
