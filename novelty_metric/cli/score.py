"""``novelty-metric score``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable

from novelty_metric.cli.logging import logged
from novelty_metric.cli.one_run import check, make_report, print_for, settings_of, warn
from novelty_metric.cli.options import Verb, one_of, parse, table
from novelty_metric.errors import InputError
from novelty_metric.screening.composition import OXIDATION_STATE_SETS
from novelty_metric.settings import run_folder
from novelty_metric.settings.compose import choices, compose_config

_SETTINGS = """
samples
samples=FILE|DIR: the file of the model: CIF (file, folder, zip, tar), POSCAR, extxyz, CSV,
  Parquet, JSON, JSON lines or .pt, compressed or not. Several files are read one after the other:
  samples=[a.csv,b.zip], a pattern such as 'samples=gen_*.cif', or samples= several times
format=NAME: its format, if it is not recognised
column=NAME: column of a table with the crystals, or with the paths of their CIF files
id_column=NAME: column of a table, or key of a JSON record or an extxyz frame, with the ids (id,
  material_id, name, ...)
limit=N: the first N crystals only
seed=N: with limit=: draw N crystals at random with this seed
max_sites=N: refuse larger crystals (300)
allow_pickle=true: unpickle a .pt file, which can run any code in it
model=NAME: the model that generated the samples; it determines how the files are read, and the
  training set: {model}
reference
reference=NAME|FILE: the training set (default: that of the model): {reference}, or a file from
  `novelty-metric reference build`
how
protocol=NAME: {protocol}; single settings can be changed, such as protocol.fmax=0.02
relaxer=NAME: {relaxer}; none: search only, and crystals that need a relaxation are undecided
hull=NAME: {hull}; hull=entries hull.file=FILE uses your own computed entries, and
  hull.energies=corrected|uncorrected gives their kind
relax_samples=false: the samples are already relaxed
leave_one_out=true: the samples are crystals of the reference, with the same ids; score each against
  the others
second_potential=NAME: also score the eligible crystals with another potential, such as sevennet,
  and count those that are unmatched with both
rediscover=FILE: count the crystals of this file (real crystals that the model did not see) that the
  samples match
energies=NAME: use the samples' own energies (eV) for the distance from the hull: column of a table,
  key of JSON, or `energy` of an extxyz frame. Needs relax_samples=false and a hull of density
  functional theory
energies_per=atom|cell
energies_scale=NAME: corrected or uncorrected total energies, or formation
smact_oxidation_states=NAME|FILE: {smact_oxidation_states}, or a file in SMACT's format, for charge
  neutrality
recipe=NAME: {recipe}: several settings at once
scope=eligible|all: crystals whose parents are searched
exhaustive=true: relax every candidate parent
workers=N: number of processes that relax (one per core)
executor=NAME: {executor}: score parts of the samples in other processes or on other machines.
  executor.workers=N is their number; each relaxes in one process
part=N: number of samples scored together
device=NAME: cpu, cuda or mps (default: the best available)
cache=true|false|FILE: the cache of finished relaxations
detail=full: print all tables instead of the 30 most important lines
progress=false: show no progress on standard error
output
out=DIR: write the report there; by default nothing is written:
    report.json         figures, settings, versions, hashes
    config.json         the settings as given
    verdicts.parquet    a row per sample
    verdicts.csv        the same
    parents.parquet     a row per candidate parent
    quality.parquet     a row per sample: validity, energy
    evidence.parquet    further data of each parent
    structures.parquet  the crystals, for `explain`, `report`
    crystals.extxyz     the relaxed crystals, for ASE and others
overwrite=true: replace a report of other settings
logger=NAME: {logger}: also log the report to Weights & Biases, with settings such as
  logger.project= and logger.mode=offline
"""
_OPTIONS = """
options
--full: the same as detail=full
--config-dir DIR: folder with your own configs, such as DIR/protocol/mine.yaml
--cfg job: print the composed settings and stop
--deterministic: score twice, in two processes, without the cache and with one worker, and compare
  all digits except those of times
-m, --multirun: one run for each combination of values, such as model=diffcsp,flowmm or
  protocol.k=1,3,5, and a table of all runs. In samples=, {model} stands for the model's name, and a
  pattern must match exactly one file. A launcher such as hydra/launcher=joblib runs them in
  parallel
"""


def _names(setting: str) -> Iterable[str]:
    return OXIDATION_STATE_SETS if setting == "smact_oxidation_states" else choices(setting)


VERB = Verb(
    name="score",
    usage="[-m] [--deterministic] [--config-dir DIR] [KEY=VALUE ...]",
    about="""\
Score generated crystals. Each crystal is a duplicate of a reference crystal, a reference crystal
with exchanged elements (substituted), or neither (unmatched). Without settings, a small packaged
sample is scored against a packaged reference.
""",
    options=(
        *table(_SETTINGS, passed=True, names=_names),
        *table(_OPTIONS, {"cfg": one_of("job")}),
    ),
    closing="""\
examples
  novelty-metric score
  novelty-metric score model=diffcsp samples=eval_gen.pt protocol=paper out=run
  novelty-metric score samples=generated.zip reference=mp_20.arrow out=run
  novelty-metric score samples=samples.csv column=cif relaxer=none limit=100
  novelty-metric score samples=relaxed.extxyz relax_samples=false protocol.k=5
  novelty-metric score -m model=diffcsp,flowmm 'samples=runs/{model}.*' out=all

Exit status: 0 scored; 1 two runs of --deterministic differ; 2 the call or its input can't be used;
3 interrupted: with out= the same command continues the run; without out= it reuses the finished
relaxations.
""",
    passes=None,
)


def run(words: list[str]) -> int:
    """Run the verb with its arguments; `InputError` if they or their input cannot be used."""
    started = time.perf_counter()
    given = parse(VERB, words)
    if given["full"]:
        given.passed.append("detail=full")
    if given["multirun"]:
        if given["deterministic"]:
            raise InputError("--deterministic checks one run; remove -m")
        if given["cfg"] is not None:
            raise InputError("--cfg shows one run; remove -m, and give one value for each setting")
        from novelty_metric.cli import multirun

        return multirun.run(given.passed, given["config_dir"])
    composed = compose_config(given.passed, given["config_dir"])
    if given["cfg"] is not None:
        from omegaconf import OmegaConf

        print(OmegaConf.to_yaml(composed, resolve=True), end="")
        return 0
    config, settings = settings_of(composed)
    reference = check(settings, given["config_dir"])
    if settings.out is not None:
        config = run_folder.with_absolute_paths(config, settings.samples)
        config[run_folder.SAMPLES_HASH] = run_folder.fingerprint(settings.samples)
        beside = run_folder.prepare(settings.out, config, overwrite=settings.overwrite)
        warn(beside, sys.stderr)
    if given["deterministic"]:
        from novelty_metric.cli import deterministic

        return deterministic.check(settings, reference, config, given.passed)
    with logged(settings) as log:
        report = make_report(settings, reference, config)
        print_for(report, settings, given.passed, seconds=time.perf_counter() - started)
        log(report, settings.out)
    return 0
