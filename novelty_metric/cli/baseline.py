"""``novelty-metric baseline``."""

from __future__ import annotations

import shlex
import sys

from novelty_metric.baselines import NULL_MODELS
from novelty_metric.cli.options import Verb, parse, table, whole
from novelty_metric.errors import InputError, near_or_known
from novelty_metric.support.folders import user_path

VERB = Verb(
    name="baseline",
    usage="NAME reference=REF out=FILE [n=N] [seed=N]",
    about="""\
Make crystals with a null model: a generator that needs a reference and no training. Score them like
the samples of a model that was trained on this reference, and compare your model with them.
""",
    options=table(
        "NAME\n"
        + "\n".join(f"{model.name}: {model.does}" for model in NULL_MODELS.values())
        + """
settings
reference=NAME|FILE: the reference from which the crystals are made
n=N (1000): number of crystals
seed=N (0): the same seed makes the same crystals; a larger n= adds crystals to them
out=FILE: the output file; an existing file is replaced. Its ending selects the format, as for
  `export`: *.extxyz, *.xyz, *.zip, *.csv or *.json. Each crystal has its id, its parent and the
  exchanged elements
""",
        {"reference": user_path, "n": whole(1, 10**6), "seed": whole()},
    ),
    closing="""\
examples
  novelty-metric baseline ion_exchange reference=mp_20 out=ion_exchange.extxyz
  novelty-metric score samples=ion_exchange.extxyz reference=mp_20 out=runs/ion_exchange

  novelty-metric baseline held_out reference=mp_20 n=500 seed=1 out=held_out.extxyz
  novelty-metric score samples=held_out.extxyz reference=mp_20 leave_one_out=true
""",
    least=1,
    most=1,
    needs="needs one NAME",
    hint=lambda: "`novelty-metric baseline --help` shows the null models",
)


def run(words: list[str]) -> int:
    """Run the verb with its arguments; `InputError` if they or their input cannot be used."""
    given = parse(VERB, words)
    (name,) = given.names
    if name not in NULL_MODELS:
        raise InputError(f"no null model named {name!r}; {near_or_known(name, NULL_MODELS)}")
    for needed in ("reference", "out"):
        if needed not in given:
            raise InputError(
                f"baseline needs {needed}=: write novelty-metric baseline {VERB.usage}"
            )
    model, out = NULL_MODELS[name], given["out"]

    from novelty_metric.terminal.progress import quiet_with_progress

    with quiet_with_progress() as progress:
        from novelty_metric.baselines.base import write
        from novelty_metric.reference.named import open_reference
        from novelty_metric.report.crystals import format_of

        format_of(out)  # before anything is made
        reference = open_reference(str(given["reference"]))
        made = []
        for crystal in model.generate(reference, n=given["n"], seed=given["seed"]):
            made.append(crystal)
            progress("make crystals", len(made), given["n"])
        write(made, out)

    from novelty_metric.terminal.console import printable, stdout_console

    shown = printable(out, stdout_console(sys.stdout))
    parents = len({crystal.parent_id for crystal in made})
    print(f"Written to {shown}: {len(made)} crystals from {parents} reference crystals")
    score = ["novelty-metric", "score", f"samples={shown}", f"reference={given['reference']}"]
    if model.leave_one_out:
        score.append("leave_one_out=true")
    print(f"Score them: {shlex.join(score)}")
    return 0
