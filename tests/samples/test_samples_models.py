"""Samples of each model are read by the model's name, and each model config is complete."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from model_layouts import (
    MODEL_LAYOUTS,
    Writer,
    cif,
    crystalite_tokens,
    extxyz,
    flat,
    geometric,
    lattices,
    saved,
    table,
)
from omegaconf import OmegaConf
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Element, Lattice, Structure

from novelty_metric.cli.one_run import read_settings
from novelty_metric.crystal import clean, shortest_distance
from novelty_metric.errors import InputError
from novelty_metric.samples import FORMATS, Sample
from novelty_metric.samples.plausibility import implausible
from novelty_metric.settings.compose import choices, compose_config, config_folder, model_choice
from novelty_metric.settings.score_settings import ModelSettings, ScoreSettings, sample_paths

ROOT = Path(__file__).resolve().parents[2]
MODELS = choices("model")
CASES = [(model, writer) for model, writers in MODEL_LAYOUTS.items() for writer in writers]
IDS = [f"{model}-{writer.__name__}" for model, writer in CASES]


def composed(*overrides: str, config_dir: Path | None = None) -> ScoreSettings:
    content = OmegaConf.to_container(compose_config(overrides, config_dir), resolve=True)
    assert isinstance(content, dict)
    return ScoreSettings.from_config({str(key): value for key, value in content.items()})


def read(model: str, path: Path, *overrides: str) -> list[Sample]:
    """Read samples in the same way as the command."""
    config = {**composed_for(model, *overrides), "samples": str(path)}
    return list(read_settings(ScoreSettings.from_config(config)))


@cache
def composed_for(model: str, *overrides: str) -> dict[str, Any]:
    """The composed config; `read` replaces the path of the samples."""
    config = compose_config([f"model={model}", "samples=.", "reference=aflow", *overrides])
    content = OmegaConf.to_container(config, resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


# --- the configs -------------------------------------------------------------------------------


def test_every_model_has_a_config_and_a_layout() -> None:
    assert set(MODELS) == set(MODEL_LAYOUTS)
    assert len(set(MODELS) - {"flowmm_relaxed", "wyckofftransformer_relaxed"}) == 18


@pytest.mark.parametrize("name", MODELS)
def test_every_config_is_complete(name: str) -> None:
    model = composed(f"model={name}", "reference=aflow").model
    assert model.name == name and model.title and model.writes
    assert model.format is None or model.format in FORMATS
    assert model.reference is None or model.reference in choices("reference")
    if name != "generic":
        assert model.paper is not None and model.paper.startswith("https://")
        assert model.repository is not None and model.repository.startswith("https://github.com/")
        assert model.citation is not None


def test_every_citation_is_in_the_bibliography() -> None:
    text = (ROOT / "docs" / "models.bib").read_text(encoding="utf-8")
    for name in MODELS:
        citation = composed(f"model={name}", "reference=aflow").model.citation
        assert citation is None or f"{{{citation}," in text, name


def test_model_gives_defaults_that_the_user_can_override() -> None:
    assert composed("model=diffcsp").reference == "mp_20"
    assert composed("model=diffcsp", "reference=aflow").reference == "aflow"
    assert composed("model=diffcsp", "reference=x.arrow").reference == "x.arrow"
    assert composed("model=mattergen").reference == "alex_mp_20"
    assert composed().reference == "aflow"
    assert composed("model=flowmm_relaxed").relax_samples is False
    assert composed("model=flowmm_relaxed", "relax_samples=true").relax_samples is True
    assert composed("model=flowmm").relax_samples is True
    with pytest.raises(InputError, match="what CrystaLLM was trained on has no name here"):
        composed("model=crystallm")


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("DiffCSP++", "diffcsp_pp"),
        ("DiffCSP", "diffcsp"),
        ("CrystaLLM-π", "crystallm_pi"),
        ("CrystaLLM-pi", "crystallm_pi"),
        ("Crystal-text-LLM", "crystal_text_llm"),
        ("Chemeleon-DNG", "chemeleon_dng"),
        ("ADiT", "adit"),
        ("mattergen", "mattergen"),
        ("no such model", "no such model"),
    ],
)
def test_model_is_found_by_the_name_of_its_authors(written: str, name: str) -> None:
    assert model_choice(written, MODELS) == name
    if name in MODELS:
        assert composed(f"model={written}", "reference=aflow").model.name == name


def test_model_of_the_user_needs_one_file(tmp_path: Path) -> None:
    """One YAML sets the names of arrays, the unit of lengths, and Cartesian coordinates."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text(
        "name: mine\nreference: /data/mine.arrow\nrelax_samples: false\nsamples: out/mine.pt\n"
        "arrays:\n  keys: {atom_types: Z, frac_coords: pos, lattices: cell}\n"
        "  coordinates: cartesian\n  lengths: nm\n"
    )
    made = composed("model=mine", config_dir=tmp_path)
    assert made.model.title == "mine" and made.reference == "/data/mine.arrow"
    assert made.samples == (Path("out/mine.pt"),) and made.relax_samples is False
    crystal = Structure(
        Lattice.from_parameters(4, 5, 6, 80, 95, 110),
        ["Li", "O"],
        [[0.1, 0.2, 0.3], [0.6, 0.5, 0.9]],
    )
    import torch

    path = saved(
        {
            "Z": torch.tensor(crystal.atomic_numbers),
            "pos": torch.tensor(crystal.cart_coords / 10),
            "cell": torch.tensor(crystal.lattice.matrix[None] / 10),
            "num_atoms": torch.tensor([2]),
        },
        tmp_path / "x.pt",
    )
    settings_ = composed("model=mine", f"samples={path}", config_dir=tmp_path)
    (sample,) = read_settings(settings_)
    assert sample.structure is not None
    np.testing.assert_allclose(sample.structure.lattice.matrix, crystal.lattice.matrix, atol=1e-6)
    np.testing.assert_allclose(sample.structure.frac_coords, crystal.frac_coords, atol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"name": "x", "colums": ["a"]}, "did you mean 'model.columns'?"),
        ({"name": "x", "columns": "cif"}, "model.columns is 'cif'; it must be a list of names"),
        ({"name": "x", "arrays": {"angle": "radians"}}, "no setting named 'model.arrays.angle'"),
        ({"name": "x", "arrays": {"angles": "turns"}}, "model.arrays.angles is 'turns'; known:"),
        ({"name": "x", "arrays": {"keys": {"Z": "a"}}}, "model.arrays.keys names 'Z'; known: num"),
        ({"name": "x", "arrays": {"keys": "Z"}}, "model.arrays.keys is 'Z'; it must map"),
        ({"name": "x", "arrays": "radians"}, "model.arrays is 'radians'; it must contain the keys"),
        ({"name": "x", "relax_samples": "no"}, "model.relax_samples is 'no'"),
        ({"name": "x", "paper": 3}, "model.paper is 3; it must be text or null"),
        ({"title": "X"}, "model.name is None; it must be text"),
    ],
)
def test_invalid_config_is_one_clear_error(content: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        ModelSettings.from_config(content)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_placeholder_for_the_name_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("diffcsp/a.pt", "flowmm/b.csv", "flowmm/c.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def found(text: str, model: str) -> list[str]:
        return [str(path) for path in sample_paths(text, model)]

    assert found("{model}/a.pt", "diffcsp") == found("{model}/*", "diffcsp") == ["diffcsp/a.pt"]
    assert found(f"{tmp_path}/{{model}}/*.pt", "diffcsp") == [f"{tmp_path}/diffcsp/a.pt"]
    with pytest.raises(InputError, match="adit/x: no such file"):
        sample_paths("{model}/x", "adit")
    with pytest.raises(InputError, match=r"fits 2 files .*it must fit one"):
        sample_paths("{model}/*.csv", "flowmm")
    with pytest.raises(InputError, match="fits no file"):
        sample_paths("{model}/*.cif", "flowmm")


# --- round trip --------------------------------------------------------------------------------

SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0] * 3, [0.5] * 3])
PEROVSKITE = Structure(
    Lattice.cubic(3.905),
    ["Sr", "Ti", "O", "O", "O"],
    [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
)
RUTILE = Structure.from_spacegroup(
    "P4_2/mnm", Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
)
CONVENTIONAL = SALT * (2, 5, 1)
"""80 atoms, like the conventional cells of DiffCSP++."""

ELEMENTS = [Element.from_Z(z) for z in range(1, 95)]


@st.composite
def structures(draw: st.DrawFn) -> Structure:
    """A known crystal, or 1 to 5 sites in a random cell with distances above 0.8 Å."""
    known = draw(st.sampled_from([SALT, PEROVSKITE, RUTILE, None, None, None]))
    if known is not None:
        return known.copy()
    lattice = Lattice.from_parameters(
        *(draw(st.floats(3, 12)) for _ in range(3)), *(draw(st.floats(65, 115)) for _ in range(3))
    )
    assume(lattice.volume > 0.3 * np.prod(lattice.abc))
    n_sites = draw(st.integers(1, 5))
    species = [draw(st.sampled_from(ELEMENTS)) for _ in range(n_sites)]
    coordinates = [[draw(st.floats(0, 0.9999)) for _ in range(3)] for _ in range(n_sites)]
    structure = Structure(lattice, species, coordinates)
    assume(shortest_distance(structure) > 0.8)
    return structure


def assert_equal(sample: Sample, written: Structure) -> None:
    """The matcher of pymatgen accepts them with much tighter tolerances than its defaults."""
    assert sample.structure is not None, sample.error
    crystal = clean(sample.structure)
    tight = StructureMatcher(ltol=1e-3, stol=5e-3, angle_tol=0.1, scale=False)
    assert tight.fit(crystal, written), (crystal, written)
    assert abs(crystal.density - written.density) < 1e-3 * written.density


@pytest.mark.parametrize(("model", "writer"), CASES, ids=IDS)
@settings(max_examples=6)
@example(written=[Structure(Lattice.from_parameters(3, 3, 3, 65, 65, 66), ["H"], [[0, 0, 0]])])
@example(written=[Structure(Lattice.from_parameters(3, 3, 3, 65, 66, 67), ["H"], [[0, 0, 0]])])
@given(written=st.lists(structures(), min_size=1, max_size=3))
def test_files_of_models_are_read_back(
    model: str, writer: Writer, written: list[Structure]
) -> None:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        samples = read(model, writer(written, Path(folder)))
        good = [sample for sample in samples if sample.structure is not None]
        assert len(good) == len(written)
        for sample, structure in zip(good, written, strict=True):
            assert_equal(sample, structure)


@pytest.mark.parametrize(("model", "writer"), CASES, ids=IDS)
def test_files_of_models_are_plausible(model: str, writer: Writer, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        samples = read(model, writer([SALT, PEROVSKITE, RUTILE], tmp_path))
    found = implausible((sample.structure, sample.error) for sample in samples)
    expected = 1 if model == "crystallm" else 0  # half of its CIFs are truncated
    assert len(found) == expected


@pytest.mark.parametrize(
    "writer", [w for m in ("diffcsp_pp", "cdvae", "flowmm", "crystalite") for w in MODEL_LAYOUTS[m]]
)
def test_conventional_cells_of_80_atoms(writer: Writer, tmp_path: Path) -> None:
    samples = read("diffcsp_pp", writer([CONVENTIONAL, SALT], tmp_path))
    assert [len(sample.structure or ()) for sample in samples] == [80, 8]
    assert_equal(samples[0], CONVENTIONAL)


def test_evaluations_are_concatenated(tmp_path: Path) -> None:
    import torch

    first, second = flat([SALT, RUTILE]), flat([SALT, RUTILE])
    second["lengths"] = second["lengths"] * 1.1
    cdvae = {key: torch.stack([first[key], second[key]]) for key in first}
    flowmm: dict[str, Any] = {key: [first[key], second[key]] for key in first}
    flowmm["lattices"] = [lattices([SALT, RUTILE]), lattices([SALT, RUTILE]) * 1.1]
    for data in (cdvae, flowmm):
        samples = read("cdvae", saved(data, tmp_path / "eval_gen.pt"))
        volumes = [sample.structure.volume for sample in samples if sample.structure]
        assert volumes[2:] == pytest.approx([1.331 * volume for volume in volumes[:2]], rel=1e-5)
        assert [sample.id for sample in samples] == [f"eval_gen-{index}" for index in range(4)]
        assert samples[2].source == "eval_gen.pt:evaluation 1, row 0"


def test_flowmm_evaluations_of_different_lengths(tmp_path: Path) -> None:
    first, second = flat([SALT]), flat([SALT, RUTILE, PEROVSKITE])
    data = {key: [first[key], second[key]] for key in first}
    samples = read("flowmm", saved(data, tmp_path / "consolidated_reconstruct.pt"))
    assert [len(sample.structure or ()) for sample in samples] == [8, 8, 6, 5]


# --- faults that are typical of a model --------------------------------------------------------


def test_dummy_cells_of_adit_are_rows(tmp_path: Path) -> None:
    from ase import Atoms

    for index, crystal in enumerate([SALT, RUTILE]):
        (tmp_path / f"crystal_{2 * index}.cif").write_text(cif(crystal))
    dummy = Atoms(numbers=[0], positions=[[0, 0, 0]], cell=[100, 100, 100], pbc=True)
    dummy.write(tmp_path / "crystal_1.cif")
    lines = cif(Structure(Lattice.cubic(100), ["H"], [[0, 0, 0]])).replace("  H  ", "  X0+  ")
    (tmp_path / "crystal_3.cif").write_text(lines.replace("H0  1", "X0  1"))
    samples = read("adit", tmp_path)
    assert [sample.structure is not None for sample in samples] == [True, False, True, False]
    for sample in (samples[1], samples[3]):
        assert sample.error is not None
        assert sample.error.startswith("a dummy cell of 100 Å sides with element number 0")


def test_malformed_cifs_of_crystallm_are_rows(tmp_path: Path) -> None:
    from model_layouts import crystallm

    samples = read("crystallm", crystallm([SALT, RUTILE], tmp_path))
    assert [sample.id for sample in samples] == ["mp-0__1", "mp-0__2", "mp-1__1", "mp-1__2"]
    assert [sample.structure is not None for sample in samples] == [True, False, True, False]
    assert len(samples[0].structure or ()) == 8


def test_cif_without_operations_is_refused(tmp_path: Path) -> None:
    """CrystaLLM's network writes such CIFs; its postprocessing adds the operations."""
    text = cif(RUTILE, symprec=0.01)
    start = text.index("loop_\n _symmetry_equiv_pos_site_id")
    end = text.index("loop_", start + 1)
    loop = "loop_\n _symmetry_equiv_pos_site_id\n _symmetry_equiv_pos_as_xyz\n  1  'x, y, z'\n"
    (tmp_path / "raw.cif").write_text(text[:start] + loop + text[end:])
    (tmp_path / "whole.cif").write_text(text)
    # All atoms are listed, so the name of the space group is enough.
    listed = cif(RUTILE).replace("'P 1'", "P4_2/mnm")
    (tmp_path / "listed.cif").write_text(listed)
    lines = [line for line in listed.splitlines() if "formula" not in line]
    (tmp_path / "nameless.cif").write_text("\n".join(lines))
    samples = {sample.id: sample for sample in read("crystallm", tmp_path)}
    assert "lists no operation but the identity" in str(samples["raw"].error)
    for name in ("whole", "listed", "nameless"):
        assert len(samples[name].structure or ()) == 6


def test_invalid_tokens_of_crystalite(tmp_path: Path) -> None:
    items = [crystalite_tokens(crystal, 8) for crystal in [SALT, RUTILE, PEROVSKITE, RUTILE, SALT]]
    items[1]["Y1"][4] = 1.02
    items[2]["A0"][0] = 0
    items[3]["Y1"][0] = 60.0
    items[4]["pad_mask"][:] = True
    samples = read("crystalite", saved(items, tmp_path / "samples.pt"))
    assert [sample.error for sample in samples] == [
        None,
        "no angle has the cosine 1.02",
        "atomic number 0 is not an element",
        "a length is exp(60) Å",
        "no atoms",
    ]
    items[0]["F1"] = items[0]["F1"][:5]
    with pytest.raises(InputError, match=r"F1 of crystal 0 has the shape \(5, 3\)"):
        read("crystalite", saved(items, tmp_path / "samples.pt"))


def test_interrupted_run_of_omatg_affects_one_frame(tmp_path: Path) -> None:
    path = extxyz([SALT, RUTILE], tmp_path / "generated.xyz")
    path.write_text("\n".join(path.read_text().splitlines()[:-2]) + "\n")
    extxyz([PEROVSKITE], path, append=True)
    samples = read("omatg", path)
    assert [len(sample.structure or ()) for sample in samples] == [8, 0, 5]
    assert samples[1].error == "ends after 4 of 6 atoms"


def test_text_of_a_language_model_may_contain_the_prompt(tmp_path: Path) -> None:
    from model_layouts import PROMPT, text_form

    rows = [PROMPT + text_form(SALT), text_form(RUTILE), "No crystal here.\n1 2 3\n90 90 90\nLi"]
    samples = read("crystal_text_llm", table(tmp_path / "x.csv", ["gen_str"], [[r] for r in rows]))
    assert [len(sample.structure or ()) for sample in samples] == [8, 6, 0]


def test_size_of_a_literal_is_limited(tmp_path: Path) -> None:
    deep = "{'lattice': " + "[" * 200 + "]" * 200 + ", 'sites': []}"
    long = "{'lattice': '" + "x" * 5_000_001 + "', 'sites': []}"
    calls = "{'lattice': __import__('os').getcwd(), 'sites': []}"
    rows = [[repr(SALT.as_dict())], [deep], [long], [calls]]
    samples = read("crystalformer", table(tmp_path / "output_1_struct.csv", ["cif"], rows))
    assert [sample.structure is not None for sample in samples] == [True, False, False, False]
    assert samples[1].error == "a Python literal of more than 100 nested brackets"
    assert samples[2].error == "a Python literal of 5 million characters"


# --- units and conventions ---------------------------------------------------------------------


def crystals() -> list[Structure]:
    return [
        SALT,
        RUTILE,
        PEROVSKITE,
        Structure(
            Lattice.from_parameters(5.1, 6.2, 7.3, 78, 96, 112),
            ["Li", "Fe", "P", "O"],
            [[0.1, 0.2, 0.4], [0.5, 0.6, 0.7], [0.9, 0.05, 0.4], [0.3, 0.8, 0.15]],
        ),
    ]


def plausibility_warnings(model: str, path: Path, *overrides: str) -> list[str]:
    samples = read(model, path, *overrides)
    return implausible((sample.structure, sample.error) for sample in samples)


def test_units_can_be_set_and_wrong_units_are_reported(tmp_path: Path) -> None:
    import torch

    arrays = flat(crystals())
    path = tmp_path / "eval_gen.pt"
    assert plausibility_warnings("diffcsp", saved(arrays, path)) == []
    radians = {**arrays, "angles": torch.deg2rad(arrays["angles"])}
    with pytest.raises(InputError, match="look like radians"):
        read("diffcsp", saved(radians, path))
    assert plausibility_warnings("diffcsp", path, "model.arrays.angles=radians") == []
    with pytest.raises(InputError, match="cannot be radians"):
        read("diffcsp", saved(arrays, path), "model.arrays.angles=radians")
    for unit, factor in (("nm", 0.1), ("bohr", 1 / 0.529177210544)):
        saved({**arrays, "lengths": arrays["lengths"] * factor}, path)
        (line,) = plausibility_warnings("diffcsp", path)
        assert "the volume per atom is" in line
        assert plausibility_warnings("diffcsp", path, f"model.arrays.lengths={unit}") == []
        for sample, crystal in zip(
            read("diffcsp", path, f"model.arrays.lengths={unit}"), crystals(), strict=True
        ):
            assert_equal(sample, crystal)
    cartesian = torch.tensor(np.concatenate([c.cart_coords for c in crystals()])).float()
    saved({**arrays, "frac_coords": cartesian, "lattices": lattices(crystals())}, path)
    (line,) = plausibility_warnings("diffcsp", path)
    assert "Cartesian coordinates were read as fractional" in line
    assert plausibility_warnings("diffcsp", path, "model.arrays.coordinates=cartesian") == []
    with pytest.raises(InputError, match="Cartesian coordinates need the cell vectors"):
        read("diffcsp", saved(arrays, path), "model.arrays.coordinates=cartesian")


def test_radians_and_cartesian_coordinates_of_cifs(tmp_path: Path) -> None:
    for index, crystal in enumerate(crystals()):
        text = cif(crystal)
        for angle in crystal.lattice.angles:
            text = text.replace(f"{angle:.8f}", f"{np.radians(angle):.8f}")
        (tmp_path / f"gen_{index}.cif").write_text(text)
    found = plausibility_warnings("mattergen", tmp_path)
    assert any("radians were read as degrees" in line or "can't be used" in line for line in found)
    for index, crystal in enumerate(crystals()):
        wrong = Structure(crystal.lattice, crystal.species, crystal.cart_coords)
        lines = cif(wrong).splitlines()
        sites = zip(lines[-len(wrong) :], wrong.frac_coords, strict=True)
        written = [
            " ".join([*line.split()[:3], *(f"{value:.6f}" for value in coords), "1"])
            for line, coords in sites
        ]
        lines[-len(wrong) :] = written
        (tmp_path / f"gen_{index}.cif").write_text("\n".join(lines) + "\n")
    (line,) = plausibility_warnings("mattergen", tmp_path)
    assert "Cartesian coordinates were read as fractional" in line


def test_fractional_coordinates_read_as_cartesian(tmp_path: Path) -> None:
    wrong = [
        Structure(c.lattice, c.species, c.frac_coords, coords_are_cartesian=True)
        for c in crystals()
    ]
    found = plausibility_warnings(
        "mattergen", extxyz(wrong, tmp_path / "generated_crystals.extxyz")
    )
    assert any("fractional coordinates were read as Cartesian" in line for line in found)


def test_failed_samples_are_reported(tmp_path: Path) -> None:
    from model_layouts import crystallm

    (line,) = plausibility_warnings("crystallm", crystallm(crystals(), tmp_path))
    assert line.startswith("4 of 8 samples can't be used; most often (")


def shuffled(structure: Structure, seed: int) -> Structure:
    coordinates = np.random.default_rng(seed).random((len(structure), 3))
    return Structure(structure.lattice, structure.species, coordinates)


def test_random_atoms_are_reported() -> None:
    (line,) = implausible((shuffled(CONVENTIONAL, seed), None) for seed in range(20))
    assert "of 20 samples have atoms nearer than 0.7 Å: the cells or the coordinates are" in line


# --- published files ---------------------------------------------------------------------------

PUBLISHED = {
    "diffcsp": ("diffcsp/DiffCSP_mp_20.pt", 10_000),
    "diffcsp_pp": ("diffcsp_pp/DiffCSP++_mp_20.pt", 10_000),
    "flowmm": ("flowmm/flowmm_mp20_all_result_filtered_withcif.csv", 997),
    "flowmm_relaxed": ("flowmm/flowmm_mp20_all_result_filtered_withcif.csv", 997),
    "crystalformer": ("crystalformer/CrystalFormer_mp_20.csv.gz", 999),
    "wyckofftransformer": ("wyckofftransformer/WyckoffTransformer_mp_20_DiffCSP++.json.gz", 1_000),
    "mattergen": ("mattergen/generated_crystals.extxyz", 2_048),
}


@pytest.fixture
def generated(shared_data: Path) -> Iterator[Path]:
    yield shared_data / "generated"


@pytest.mark.parametrize("model", PUBLISHED)
def test_published_samples_are_read_and_plausible(model: str, generated: Path) -> None:
    name, _ = PUBLISHED[model]
    samples = read(model, generated / name, "limit=100")
    assert len(samples) == 100 and all(sample.structure for sample in samples)
    assert implausible((sample.structure, sample.error) for sample in samples) == []


@pytest.mark.slow
@pytest.mark.parametrize("model", PUBLISHED)
def test_all_published_samples_are_plausible(model: str, generated: Path) -> None:
    name, n_crystals = PUBLISHED[model]
    samples = read(model, generated / name)
    assert len(samples) == n_crystals
    assert implausible((sample.structure, sample.error) for sample in samples) == []


def test_wyckoff_genes_are_refused_with_a_hint(generated: Path) -> None:
    path = generated / "wyckofftransformer" / "WyckoffTransformer_mp_20.json.gz"
    with pytest.raises(InputError, match="realise them as crystals first"):
        read("wyckofftransformer", path)


def test_config_folder_contains_all_models() -> None:
    assert {path.stem for path in (config_folder() / "model").glob("*.yaml")} == set(MODELS)


# --- content of .pt files -----------------------------------------------------------------------


def test_numpy_arrays_and_other_content_of_pt_files(tmp_path: Path) -> None:
    arrays = {key: array.numpy() for key, array in flat([SALT, RUTILE]).items()}
    arrays["frac_coords"] = np.asfortranarray(arrays["frac_coords"].astype(">f8"))
    extra = {
        "kept": [np.float64(1.5), np.array([True])],
        "eval_setting": argparse.Namespace(lr=np.float32(1e-5), tags=["a"]),
        "names": np.array(["a", None], dtype=object),
    }
    path = saved({**arrays, **extra}, tmp_path / "eval_gen.pt")
    for sample, crystal in zip(read("diffcsp", path), [SALT, RUTILE], strict=True):
        assert_equal(sample, crystal)
    objects = {**arrays, "lengths": np.array([[1.0, 2.0, None]] * 2, dtype=object)}
    with pytest.raises(InputError, match="lengths is a NoneType, not an array of numbers"):
        read("diffcsp", saved(objects, path))


def test_wrong_dtype_in_a_pickle_is_refused(tmp_path: Path) -> None:
    """NumPy would interpret these numbers as addresses of objects."""

    class WrongDtype:
        def __reduce__(self) -> tuple[Any, ...]:
            state = (3, "<", None, None, None, -1, -1, 63)  # all flags, also the one for references
            return (np.dtype, ("f8", False, True), state)

    class Array:
        def __reduce__(self) -> tuple[Any, ...]:
            build = np.zeros(1).__reduce__()[0]
            assert callable(build)
            raw = np.full((2, 3), 4.0).tobytes()
            return (build, (np.ndarray, (0,), b"b"), (1, (2, 3), WrongDtype(), False, raw))

    path = saved({**flat([SALT, RUTILE]), "lengths": Array()}, tmp_path / "x.pt")
    samples = read("diffcsp", path)
    assert all(sample.structure.lattice.a == 4.0 for sample in samples if sample.structure)


def test_pytorch_geometric_batch_is_read_without_that_package(tmp_path: Path) -> None:
    from model_layouts import cdvae_reconstruction

    path = cdvae_reconstruction([SALT, RUTILE], tmp_path)
    names = zipfile.ZipFile(path).read("eval_recon/data.pkl")
    assert b"torch_geometric.data.batch\nDynamicInheritanceGetter" in names
    before = set(sys.modules)
    assert len(read("cdvae", path)) == 2
    assert not any(name.startswith("torch_geometric") for name in set(sys.modules) - before)


class WritesOnUnpickling:
    """Create a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("where", ["namespace", "batch", "array", "tokens"])
def test_allowed_classes_cannot_hide_code(where: str, tmp_path: Path) -> None:
    mark = tmp_path / "it_ran"
    arrays: Any = flat([SALT])
    if where == "namespace":
        arrays["eval_setting"] = argparse.Namespace(run=WritesOnUnpickling(mark))
    elif where == "array":
        arrays["kept"] = np.array([WritesOnUnpickling(mark)], dtype=object)
    elif where == "batch":
        with geometric() as (data, batch):
            arrays["input_data_batch"] = batch._from(data(run=WritesOnUnpickling(mark)))
            path = saved(arrays, tmp_path / "x.pt")
    else:
        arrays = [{**crystalite_tokens(SALT, 8), "run": WritesOnUnpickling(mark)}]
    if where != "batch":
        path = saved(arrays, tmp_path / "x.pt")
    with pytest.raises(InputError, match=r"an object of \w+\.mkdir, .*allow_pickle=true"):
        read("diffcsp", path)
    assert not mark.exists()
