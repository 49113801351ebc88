"""The packaged configs: each one can be composed, is valid, and is installed."""

from __future__ import annotations

import runpy
import tomllib
from pathlib import Path

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from novelty_metric.cli.one_run import instance
from novelty_metric.cli.options import help_text
from novelty_metric.cli.score import VERB
from novelty_metric.protocol import PRESETS, Protocol
from novelty_metric.settings.compose import GROUPS, choices, compose_config, config_folder
from novelty_metric.settings.score_settings import ScoreSettings

ROOT = Path(__file__).resolve().parents[2]
EVERY_CONFIG = [(group, name) for group in GROUPS for name in choices(group)]


BESIDE = {
    ("hull", "entries"): ("hull.file=mine.json",),
    ("hull", "file"): ("hull.file=mine.parquet",),
}
"""Settings that a config requires."""


def required_settings(group: str, name: str) -> tuple[str, ...]:
    return BESIDE.get((group, name), ("reference=aflow",) if group == "model" else ())


def settings(*overrides: str) -> ScoreSettings:
    content = OmegaConf.to_container(compose_config(overrides), resolve=True)
    assert isinstance(content, dict)
    return ScoreSettings.from_config({str(key): value for key, value in content.items()})


@pytest.mark.parametrize(("group", "name"), EVERY_CONFIG)
def test_every_config_makes_valid_settings(group: str, name: str) -> None:
    made = settings(f"{group}={name}", *required_settings(group, name))
    if group == "protocol":
        assert made.protocol == Protocol.named(name)
    elif group == "model":
        assert made.model.name == name
    elif (group, name) == ("executor", "none"):
        assert made.executor is None
    elif group not in ("logger", "recipe"):
        value = getattr(made, group)
        # A config names a class, or a name that the metric knows.
        assert value == name or get_object(value["_target_"])


def test_every_preset_has_a_config() -> None:
    assert choices("protocol") == sorted(PRESETS)


def test_config_of_a_reference_file() -> None:
    assert settings("reference=file", "reference.path=x.arrow").reference == "x.arrow"


def test_groups_and_folders_agree() -> None:
    folders = {path.name for path in config_folder().iterdir() if path.is_dir()}
    assert folders - {"__pycache__"} == set(GROUPS)


def test_help_lists_every_choice() -> None:
    text = help_text(VERB)
    for group, name in EVERY_CONFIG:
        assert name in text, (group, name)


def test_metric_accepts_the_names_of_the_configs() -> None:
    from novelty_metric.metric import SubstitutionNovelty
    from novelty_metric.reference.named import known_names
    from novelty_metric.scoring.resources import HULLS
    from novelty_metric.screening.hull import HullSource

    for name in choices("relaxer"):
        relaxer = instance("relaxer", settings(f"relaxer={name}").relaxer)
        assert isinstance(relaxer, str) or relaxer.device_name in ("cpu", "cuda")
        for name in choices("hull"):
            made = settings(f"hull={name}", *required_settings("hull", name)).hull
            hull = instance("hull", made)
            assert isinstance(hull, (str, HullSource))
            SubstitutionNovelty("aflow", "fast", relaxer=relaxer, hull=hull)
    for hull in HULLS:
        assert hull in choices("hull")
    assert set(choices("reference")) <= set(known_names())


def test_defaults_agree_with_the_class() -> None:
    import inspect

    from novelty_metric.metric import SubstitutionNovelty

    made = settings()
    for name, parameter in inspect.signature(SubstitutionNovelty).parameters.items():
        # A command can use all cores; a library needs permission.
        if name in ("progress", "workers"):
            continue
        ours = made.protocol.name if name == "protocol" else getattr(made, name)
        assert ours == parameter.default, name


def test_all_packages_are_listed_for_installation() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "novelty_metric").rglob("__init__.py")
    }
    assert set(listed) == there | {"novelty_metric.configs"}


def test_every_config_is_covered_by_the_package_data() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert setuptools["package-dir"] == {"novelty_metric.configs": "configs"}
    patterns = setuptools["package-data"]["novelty_metric.configs"]
    installed = {path for pattern in patterns for path in (ROOT / "configs").glob(pattern)}
    assert installed == set((ROOT / "configs").rglob("*.yaml"))


def test_table_of_models_is_up_to_date() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "make_models_table.py"))
    text = script["DOCUMENT"].read_text(encoding="utf-8")
    assert script["updated"](text) == text, "run python scripts/make_models_table.py"


def test_commands_that_reproduce_the_paper() -> None:
    made = settings("recipe=reproduce_paper", "relaxer=chgnet", "model=flowmm_relaxed")
    assert made.protocol == Protocol.named("paper")
    assert (made.reference, made.scope) == ("mp_20", "eligible")
    assert made.exhaustive and made.relax_samples
    arguments = ["recipe=reproduce_paper", "relaxer=none", "reference=aflow", "exhaustive=false"]
    assert (settings(*arguments).relaxer, settings(*arguments).reference) == ("none", "aflow")
    assert not settings(*arguments).exhaustive
