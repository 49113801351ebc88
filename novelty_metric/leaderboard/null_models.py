"""Submissions of null models, whose samples anyone can make again from the seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from novelty_metric.baselines import NULL_MODELS
from novelty_metric.baselines.base import write
from novelty_metric.errors import InputError, near_or_known

if TYPE_CHECKING:
    from novelty_metric.leaderboard.submission import Samples
    from novelty_metric.reference import Reference
    from novelty_metric.samples.base import Sample

MOST_CRYSTALS = 100_000
"""Maximum number of null-model samples that are made again."""

TOLERANCE = 1e-3
"""Maximum difference of a cell length (Å) or a fractional coordinate: the precision of a file."""


def about_null_model(name: str, about: Mapping[str, Any]) -> dict[str, Any]:
    """Default answers for submissions of a null model; given answers take precedence.

    `InputError` if there is no such null model, or the seed is not given.
    """
    if name not in NULL_MODELS:
        raise InputError(f"null_model={name}: {near_or_known(name, NULL_MODELS)}")
    if about.get("seed") is None:
        raise InputError(f"null_model={name}: add seed=, the seed of `novelty-metric baseline`")
    model = NULL_MODELS[name]
    return {
        "name": name,
        "model": f"{name.replace('_', ' ')} (null model)",
        "authors": "novelty-metric",
        "licence": "that of the reference",
        "notes": f"A null model, made with `novelty-metric baseline {name}`: {model.does}."
        + (f" Source: {model.source}." if model.source else ""),
        **about,
    }


def make_samples(name: str, reference: Reference, samples: Samples, folder: Path) -> Path:
    """Make the samples of a null model again, in a file with their name.

    `InputError` if the null model can't make them here.
    """
    assert samples.seed is not None  # checked by `submission.parse`
    if samples.in_file > MOST_CRYSTALS:
        raise InputError(
            f"{samples.in_file:,} crystals; at most {MOST_CRYSTALS:,} can be generated again"
        )
    path = folder / samples.file
    crystals = NULL_MODELS[name].generate(reference, n=samples.in_file, seed=samples.seed)
    write(crystals, path)
    return path


def otherwise_made(given: Sequence[Sample], again: Sequence[Sample], name: str) -> Iterator[str]:
    """A line for each sample that the null model does not make with this seed."""
    for place, (one, other) in enumerate(zip(given, again, strict=True)):
        if not (one.id == other.id and _equal(one.structure, other.structure)):
            yield f"crystal {place} ({one.id}): not what the null model {name} makes with this seed"


def _equal(one: Any, other: Any) -> bool:
    if one is None or other is None or one.composition != other.composition:
        return False
    if not np.allclose(one.lattice.abc, other.lattice.abc, rtol=0, atol=TOLERANCE):
        return False
    if [site.specie for site in one] != [site.specie for site in other]:
        return False
    moved = np.asarray(one.frac_coords) - np.asarray(other.frac_coords)
    return bool(np.abs(moved - np.round(moved)).max() < TOLERANCE)
