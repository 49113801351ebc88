"""Loading of potentials: quiet libraries, hashes of weights, and users' model files."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import importlib.metadata
import importlib.util
import io
import sys
import warnings
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from novelty_metric.crystal import first_line
from novelty_metric.errors import InputError
from novelty_metric.relaxation.base import PotentialInfo
from novelty_metric.relaxation.potentials import (
    PublishedModel,
    RegisteredPotential,
    missing_package,
)

_GPU_FILES = ("nvidia*", "nvhost*", "nvmap", "dxg", "kfd")
"""Files in ``/dev``: NVIDIA's cards and modules, Windows' GPUs in its Linux, AMD's cards."""


@contextlib.contextmanager
def importing(potential: RegisteredPotential) -> Iterator[None]:
    """Import from the package of a potential.

    Raises
    ------
    InputError
        If the package is missing, with the extra that installs it, or if it is broken.
    """
    top = potential.module.partition(".")[0]
    try:
        importlib.import_module(top)
        yield
    except Exception as error:  # a package may raise anything when it is imported
        if isinstance(error, ModuleNotFoundError) and error.name == top:
            raise missing_package(potential) from error
        raise InputError(
            f"relaxer={potential.key}: {potential.package} can't be imported: {first_line(error)}"
        ) from error


def model_file(potential: RegisteredPotential, model: str, *, allow_pickle: bool) -> Path:
    """The file of a model that ``relaxer.model`` names.

    Raises
    ------
    InputError
        If there is no such file, or the user has not said that it may be unpickled.
    """
    path = Path(model).expanduser()
    try:
        is_file = path.is_file()
    except (OSError, ValueError):  # a name that is too long, or can be none
        is_file = False
    if not is_file:
        known = ", ".join(one.setting for one in potential.models)
        raise InputError(
            f"relaxer.model={model} is neither a file nor a known model of "
            f"relaxer={potential.key}; known: {known}"
        )
    if not allow_pickle:
        raise InputError(
            f"relaxer.model={model} is a pickle, which can run any code when it is read; add "
            "relaxer.allow_pickle=true if you trust it"
        )
    return path


def model_name(potential: RegisteredPotential, model: str, digest: str) -> str:
    """Name of the model of ``relaxer.model`` in reports.

    A file is a published model only if its weights are: a file name can say anything.
    """
    named = potential.model(model)
    same: PublishedModel | None = named or next(
        (one for one in potential.models if one.weights_hash == digest), None
    )
    return f"{potential.key}-file-{Path(model).stem}" if same is None else same.name


def weights_file(potential: RegisteredPotential, model: PublishedModel) -> Path:
    """The file of published weights in the installed package, without importing the package.

    Raises
    ------
    InputError
        If the package is missing, or holds no such file.
    """
    found = importlib.util.find_spec(potential.module.partition(".")[0])
    if found is None or not found.submodule_search_locations:
        raise missing_package(potential)
    path = Path(found.submodule_search_locations[0]) / model.file
    if not path.is_file():
        raise InputError(
            f"relaxer={potential.key}: {potential.package} {package_version(potential)} does not "
            f"contain the weights of {model.title} ({model.file}); install another version of it"
        )
    return path


def hash_by_file(potential: RegisteredPotential, model: PublishedModel) -> str | None:
    """Hash of published weights from their file; None if only the loaded weights can tell.

    Neither the package nor torch is imported, so that a run that finds everything in the cache
    does not wait for them.
    """
    if not model.file_hash:
        return None
    with weights_file(potential, model).open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return model.weights_hash if digest == model.file_hash else None


def package_version(potential: RegisteredPotential) -> str:
    """Installed version of a potential's package."""
    try:
        return importlib.metadata.version(potential.package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def settings_of(potential: Any) -> dict[str, Any]:
    """The settings of a potential's dataclass without its loaded objects, for pickling."""
    return {field.name: getattr(potential, field.name) for field in dataclasses.fields(potential)}


class ModelByName:
    """Base of potentials whose ``relaxer.model`` is a name or a file."""

    registered: ClassVar[RegisteredPotential]
    model: str
    device: str | None
    name: str | None

    @cached_property
    def info(self) -> PotentialInfo:
        """The model's name, the version of its package and the SHA-256 of the weights."""
        published = self.registered.model(self.model)
        digest = published and hash_by_file(self.registered, published)
        digest = digest or self._weights_hash()
        return PotentialInfo(
            name=self.name or model_name(self.registered, self.model, digest),
            version=package_version(self.registered),
            weights_hash=digest,
        )

    def _weights_hash(self) -> str:
        raise NotImplementedError

    @property
    def device_name(self) -> str:
        """Kind of device on which it runs."""
        return best_device(self.device).split(":")[0]

    def __getstate__(self) -> dict[str, Any]:
        return settings_of(self)


def weights_hash(*models: Any) -> str:
    """SHA-256 of the weights of torch modules, tensor by tensor in order of name."""
    return tensors_hash(*(model.state_dict() for model in models))


def tensors_hash(*states: Mapping[str, Any]) -> str:
    """SHA-256 of torch tensors, in order of name."""
    digest = hashlib.sha256()
    for state in states:
        for name, tensor in sorted(state.items()):
            digest.update(name.encode())
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def best_device(device: str | None) -> str:
    """The requested device; by default ``"cuda"`` if there is one, else ``"cpu"``."""
    if device is not None:
        return device
    if sys.platform == "linux" and not _gpu_files():
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _gpu_files() -> bool:
    """True if Linux has a device file of hardware on which torch could compute."""
    return any(next(Path("/dev").glob(name), None) for name in _GPU_FILES)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress the output and warnings of libraries."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield
