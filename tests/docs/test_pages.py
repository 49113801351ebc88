"""Pages generated from the code are complete, and their content is correct."""

from __future__ import annotations

import dataclasses
import doctest
import html
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from novelty_metric import cli
from novelty_metric.protocol import PRESETS, Protocol
from novelty_metric.settings.compose import GROUPS

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
PAGES_OF_THE_SITE = "[a](settings.md) [b](commands.md)"


@pytest.fixture
def settings_page() -> Any:
    pytest.importorskip("griffe")
    return import_module("settings_page")


@pytest.fixture
def settings(settings_page: Any) -> str:
    return html.unescape(settings_page.markdown())


def rows(page: str) -> dict[str, list[str]]:
    """Cells of the tables, by the first cell of their row."""
    found = {}
    for line in page.splitlines():
        if line.startswith(("| `", "| <code>")):
            cells = (
                re.sub(r"</?code>|<br>|`", "", cell).strip() for cell in line[1:-1].split(" | ")
            )
            first, *rest = (re.sub(r"\\(.)", r"\1", cell) for cell in cells)
            found[first] = rest
    return found


def leaves(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict) and value:
            flat.update(leaves(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def test_every_group_and_option_is_listed(settings: str) -> None:
    folders = {path.name for path in CONFIGS.iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders == set(GROUPS)
    for path in CONFIGS.glob("*/*.yaml"):
        assert f"{path.parent.name}={path.stem}" in settings, path


def test_every_key_of_every_config_is_explained(settings: str) -> None:
    shown = rows(settings)
    n_keys = 0
    for path in [CONFIGS / "config.yaml", *CONFIGS.glob("*/*.yaml")]:
        group = "" if path.parent == CONFIGS else path.parent.name
        if group in ("model", "protocol", "reference") and path.stem not in ("generic", "paper"):
            continue
        prefix = f"{group}." if group not in ("", "recipe") else ""
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        for key in leaves({k: v for k, v in content.items() if k not in ("defaults", "hydra")}):
            if key in ("name", "_recursive_", "_convert_"):
                continue
            assert prefix + key in shown, f"{path}: {key}"
            assert len(shown[prefix + key][-1]) > 5, f"{path}: {key} has no comment above it"
            n_keys += 1
    assert n_keys > 50
    assert shown["limit"] == ["null", "Score only the first N crystals; null: all."]
    assert shown["samples"][0] == "that of model.samples, else null"


def test_settings_of_each_model_are_listed(settings: str) -> None:
    shown = rows(settings)
    for path in CONFIGS.glob("model/*.yaml"):
        if path.stem == "generic":
            continue
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        title, sets = shown[f"model={path.stem}"]
        assert title == content["title"]
        for key in ("reference", "relax_samples", "columns", "format"):
            assert (f"{key}: " in sets) == (key in content), (path.stem, key)


def test_every_field_of_the_protocol_is_listed_with_both_values(settings: str) -> None:
    shown = rows(settings)
    for field in dataclasses.fields(Protocol):
        kind, paper, fast, meaning = shown[f"protocol.{field.name}"]
        assert kind == str(field.type)
        assert (paper, fast) == tuple(
            str(getattr(PRESETS[name], field.name)) for name in ("paper", "fast")
        )
        assert meaning


def test_new_key_or_field_is_detected(settings_page: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "# About it,\n# on two lines:\n#   set in\ndefaults:\n  - override /hull: none\n\n"
        "# Meaning\n# of it.\nfirst: '1'\nsecond: [a, b]\n\nbare: ${oc.select:model.x,3}\n"
        "deep:\n  # Inside.\n  key: null\n"
    )
    config = settings_page.read_config(path)
    assert config.about == "About it, on two lines: `set in`"
    assert config.starts_from == ("hull=none",)
    assert [(item.name, item.value, item.comment) for item in config.settings] == [
        ("first", "1", "Meaning of it."),
        ("second", "[a, b]", "Meaning of it."),
        ("bare", "${oc.select:model.x,3}", ""),
        ("deep.key", "null", "Inside."),
    ]


def test_environment_variables_are_listed(settings: str) -> None:
    code = "\n".join(path.read_text() for path in (ROOT / "novelty_metric").rglob("*.py"))
    named = set(re.findall(r"NOVELTY_METRIC_[A-Z_]+", code))
    assert named and named <= set(rows(settings))


def test_options_of_the_plugin_are_listed(settings: str) -> None:
    code = (ROOT / "novelty_metric" / "testing" / "declarations.py").read_text()
    named = re.findall(r'add(?:option|ini)\(\s*"([-\w]+)"', code)
    assert len(named) > 12
    assert set(named) <= {name.split(" ")[0] for name in rows(settings)}


def test_commands_show_the_help_of_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    page = import_module("commands_page").markdown()
    for verb in cli.VERBS:
        assert cli.main([verb, "--help"]) == 0
        assert capsys.readouterr().out.strip() in page


def test_files_show_every_column() -> None:
    from novelty_metric.report.files import COLUMNS

    files_page = import_module("files_page")
    page = html.unescape(files_page.markdown())
    assert {*COLUMNS["verdicts.parquet"], *COLUMNS["parents.parquet"]} <= set(rows(page))
    assert set(files_page.COLUMNS) == set(files_page.ABOUT_FILES)
    assert rows(page)["e_above_hull"] == ["double", "eV/atom", "distance from the hull"]


@pytest.mark.parametrize(
    ("markdown", "source", "page", "wanted"),
    [
        ("[a](../benchmarks/README.md#x)", "docs/hulls.md", "hulls.md", "[a](benchmarks.md#x)"),
        (
            "[`a` b](../docs/pytest.md)",
            "benchmarks/README.md",
            "benchmarks.md",
            "[`a` b](pytest.md)",
        ),
        ("[a](trust.md) [b](#c)", "docs/hulls.md", "hulls.md", "[a](trust.md) [b](#c)"),
        ("[a](../pyproject.toml)", "docs/hulls.md", "hulls.md", "a"),
        ("[a](../configs) [b](../novelty_metric/cli)", "docs/x.md", "x.md", PAGES_OF_THE_SITE),
        ("![a](toy.png)", "docs/hulls.md", "hulls.md", "![a](toy.png)"),
        ("[a](https://x.org/y)", "docs/hulls.md", "hulls.md", "[a](https://x.org/y)"),
        ("[a](../nothing.md)", "docs/hulls.md", "hulls.md", "[a](../nothing.md)"),
        ("```\n[a](../README.md)\n```", "docs/x.md", "x.md", "```\n[a](../README.md)\n```"),
    ],
)
def test_links_between_files_are_converted(
    markdown: str, source: str, page: str, wanted: str
) -> None:
    pytest.importorskip("mkdocs")
    assert import_module("pages").relinked(markdown, source, page) == wanted


@pytest.mark.parametrize(
    "page",
    [
        path.relative_to(ROOT).as_posix()
        for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")]
    ],
)
def test_links_between_files_exist(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text("utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)#\s:]+)(?:#[^)\s]*)?\)", text):
        assert (ROOT / page).parent.joinpath(target).exists(), f"{page} links to {target}"


def test_names_in_backticks_become_code() -> None:
    tables = import_module("tables")
    assert tables.prose("the ``a_b`` of *c*, `d|e`") == (r"the `a_b` of \*c\*, <code>d\|e</code>")


@pytest.mark.parametrize("text", ["a|b", "x_y *z*", "<script>", "[a](b)", "`a", "a & b"])
def test_plain_text_is_unchanged(text: str) -> None:
    tables = import_module("tables")
    markdown = pytest.importorskip("markdown")
    cell = markdown.markdown(tables.table(["h"], [[tables.escaped(text)]]), extensions=["tables"])
    inside = re.search(r"<td>(.*)</td>", cell)
    assert inside is not None and "<" not in inside[1]
    assert html.unescape(inside[1]) == text


def test_examples_of_the_python_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```pycon\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) > 8
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "python.md", None, 0)
    assert len(test.examples) > 20
    assert doctest.DocTestRunner().run(test).failed == 0
