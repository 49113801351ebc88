"""Number of crystals of a test set that null models match; stored beside the reference."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from novelty_metric.errors import StoreError
from novelty_metric.reference.energies import beside_store, writable
from novelty_metric.support.folders import write_atomically, writing

if TYPE_CHECKING:
    from novelty_metric.reference import Reference

SUFFIX = ".rediscovery.json"


@dataclass(frozen=True)
class NullModelFound:
    """Crystals of a test set that the samples of a null model match.

    Attributes
    ----------
    name : str
        Of the null model.
    n_samples : int
    groups : tuple of int
        For each crystal that is matched, how many samples match it.
    """

    name: str
    n_samples: int
    groups: tuple[int, ...]

    def expected(self, drawn: int) -> float | None:
        """Mean number of crystals that a draw of its samples matches; None if it has fewer samples.

        Parameters
        ----------
        drawn : int
            Samples drawn without replacement.

        Notes
        -----
        Each crystal counts with the probability that one of its samples is drawn: S. H. Hurlbert,
        Ecology 52, 577 (1971).

        Examples
        --------
        >>> NullModelFound("ion_exchange", 4, (2, 1)).expected(4)
        2.0
        >>> NullModelFound("ion_exchange", 4, (2, 1)).expected(1)
        0.75
        """
        if drawn > self.n_samples:
            return None
        every = math.comb(self.n_samples, drawn)
        return math.fsum(
            1 - math.comb(self.n_samples - size, drawn) / every for size in self.groups
        )


def _files(reference: Reference, test_set: str) -> list[Path]:
    return beside_store(reference, f".{test_set[:12]}{SUFFIX}")


def read_null_models(reference: Reference, test_set: str) -> tuple[NullModelFound, ...]:
    """The matches of null models in a test set, by name.

    Parameters
    ----------
    reference : Reference
    test_set : str
        Hash of its crystals, `Rediscovery.test_set`.

    Raises
    ------
    StoreError
        If the file beside the reference is damaged.
    """
    for path in _files(reference, test_set):
        if not path.exists():
            continue
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["crystals_hash"] != reference.crystals_hash:
                continue
            return tuple(
                NullModelFound(str(one["name"]), int(one["n_samples"]), tuple(map(int, groups)))
                for one in content["null_models"]
                for groups in (one["groups"],)
            )
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreError(
                f"{path}: damaged ({type(error).__name__}); delete it, and score the null models "
                "with rediscover= again"
            ) from error
    return ()


def keep_null_model(reference: Reference, test_set: str, found: NullModelFound) -> Path:
    """Store the matches of a null model beside the reference; replaces a smaller run of it.

    Raises
    ------
    InputError
        If it can't be written.
    """
    others = {one.name: one for one in read_null_models(reference, test_set)}
    before = others.get(found.name)
    if before is None or before.n_samples <= found.n_samples:
        others[found.name] = found
    path = writable(_files(reference, test_set))
    content = {
        "crystals_hash": reference.crystals_hash,
        "null_models": [asdict(others[name]) for name in sorted(others)],
    }
    with writing(f"{path}:", path.parent):
        write_atomically(path, (json.dumps(content) + "\n").encode())
    return path
