"""Start of a run: it imports only necessary packages and starts only necessary processes."""

from __future__ import annotations

import dataclasses
import json
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from pymatgen.core import Lattice, Structure

from novelty_metric.protocol import Protocol
from novelty_metric.relaxation import RelaxTask
from novelty_metric.relaxation.cache import RelaxationCache
from novelty_metric.relaxation.loading import hash_by_file, tensors_hash, weights_file
from novelty_metric.relaxation.potentials import CHGNET, SEVENNET, AseCalculator, Chgnet
from novelty_metric.relaxation.relaxer import PotentialRelaxer
from novelty_metric.scoring.resources import Resources, ResourceSpec
from novelty_metric.scoring.rules import ScoringRules
from novelty_metric.search.compiled import is_compiled
from novelty_metric.support.processes import OwnContext
from novelty_metric.support.progress import no_progress
from novelty_metric.support.workers import WorkerProcess

COPPER = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.6), ["Cu"], [[0, 0, 0]])

WARM_RUN = """
import json, multiprocessing, sys
from pymatgen.core import Structure
from novelty_metric import SubstitutionNovelty
copper = Structure.from_str(sys.argv[1], fmt="json")
with SubstitutionNovelty("aflow", relaxer="chgnet", cache=sys.argv[2], workers=2) as metric:
    row = metric([copper]).results[0]
    started = len(multiprocessing.active_children())
heavy = {"torch", "chgnet", "matplotlib"} & set(sys.modules)
print(json.dumps([row.verdict, row.energy_per_atom, started, sorted(heavy)]))
"""


def test_fully_cached_run_imports_no_torch_and_starts_no_worker(
    chgnet: Chgnet, run_python: Callable[..., Any], tmp_path: Path
) -> None:
    cache = RelaxationCache(tmp_path / "relaxations.sqlite")
    settings = ScoringRules(protocol=Protocol.named("fast")).relax_settings
    queue = deque([RelaxTask("copper", COPPER)])
    ((_, relaxed),) = PotentialRelaxer(chgnet, cache=cache).relax(queue, settings)
    cache.close()
    done = run_python("-c", WARM_RUN, COPPER.to_json(), cache.path, check=True)
    verdict, energy, n_started, heavy = json.loads(done.stdout)
    assert (verdict, energy) == ("duplicate", relaxed.energy_after)
    assert n_started == 0 and heavy == []


def test_worker_evaluates_chgnet_without_importing_chgnet(run_python: Callable[..., Any]) -> None:
    code = (
        "import sys; from novelty_metric.relaxation.potentials import Chgnet; "
        "Chgnet('cpu').evaluator(); "
        "print({'chgnet', 'matplotlib', 'ase.optimize'} & {*sys.modules})"
    )
    assert run_python("-c", code, check=True).stdout.strip() == "set()"


def test_search_is_compiled_once_in_another_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NOVELTY_METRIC_CACHE", str(tmp_path))
    emt = AseCalculator({"_target_": "ase.calculators.emt.EMT"}, name="emt", version="1")

    def opened(workers: int) -> Resources:
        spec = ResourceSpec(
            reference="aflow", relaxer=emt, hull="none", workers=workers, cache=False
        )
        return Resources.open(spec, ScoringRules(protocol=Protocol.named("fast")), no_progress)

    alone, beside = opened(1), opened(2)
    alone.compile_ahead()
    assert alone._compilation is None
    beside.compile_ahead()
    compiler = beside._compilation
    assert compiler is not None and not is_compiled()
    beside.prepare_search()
    assert beside._compilation is None and is_compiled()
    beside.compile_ahead()
    assert beside._compilation is None


def test_search_is_compiled_here_if_the_other_process_dies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NOVELTY_METRIC_CACHE", str(tmp_path))
    spec = ResourceSpec(reference="aflow", relaxer=None, hull="none")
    resources = Resources.open(spec, ScoringRules(protocol=Protocol.named("fast")), no_progress)
    resources._compilation = WorkerProcess(OwnContext(), _die)
    resources.prepare_search()
    assert resources._compilation is None
    assert resources.search.duplicate(resources.reference.structure(0)) is not None


def _die(connection: Connection) -> None:
    raise SystemExit(9)


def test_file_hash_leads_to_the_weights_hash(chgnet: Chgnet) -> None:
    model = CHGNET.models[0]
    assert hash_by_file(CHGNET, model) == tensors_hash(chgnet._weights.tensors)
    assert chgnet.info.weights_hash == model.weights_hash


@pytest.mark.parametrize("model", SEVENNET.models, ids=lambda model: model.name)
def test_file_hash_of_sevennet_leads_to_the_weights_hash(model: Any) -> None:
    import torch

    pytest.importorskip("sevenn")
    content = torch.load(weights_file(SEVENNET, model), map_location="cpu", weights_only=False)
    assert hash_by_file(SEVENNET, model) == tensors_hash(content["model_state_dict"])


def test_unknown_file_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """For example, the file of another version of the package."""
    other = dataclasses.replace(CHGNET.models[0], file_hash="0" * 64)
    assert hash_by_file(CHGNET, other) is None
    monkeypatch.setattr("novelty_metric.relaxation.chgnet.hash_by_file", lambda *_: None)
    assert Chgnet("cpu").info.weights_hash == CHGNET.models[0].weights_hash
