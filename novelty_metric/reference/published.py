"""The published training sets of this field, and the hashes by which a copy is recognised."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFile:
    """A published file with a training set.

    The content hash is as git or Git LFS names it; none where it is not known beforehand. `member`
    is the table inside a zip archive, `rows` its rows without the header. A person finds the file
    at `page`.
    """

    title: str
    url: str
    file_name: str
    page: str
    git_blob: str | None = None
    sha256: str | None = None
    member: str | None = None
    columns: tuple[str, ...] = ("material_id", "cif")
    rows: int | None = None

    @property
    def hash_text(self) -> str:
        """The content hash as text, such as ``git blob b1c9d49856…``; empty if none is known."""
        if self.git_blob is not None:
            return f"git blob {self.git_blob}"
        return f"SHA-256 {self.sha256}" if self.sha256 is not None else ""


_CDVAE = "https://raw.githubusercontent.com/txie-93/cdvae/main/data"
_CDVAE_PAGE = "https://github.com/txie-93/cdvae/tree/main/data"
_DIFFCSP = "https://raw.githubusercontent.com/jiaor17/DiffCSP/main/data"
_MATTERGEN = "https://media.githubusercontent.com/media/microsoft/mattergen/main/data-release"

# The files are under the MIT licence; crystals of the Materials Project and of Alexandria in them
# under CC BY 4.0.
PUBLISHED = {
    "mp_20": PublishedFile(
        title="MP-20, the 27,136 training crystals of CDVAE",
        url=f"{_CDVAE}/mp_20/train.csv",
        file_name="train.csv",
        page=f"{_CDVAE_PAGE}/mp_20",
        git_blob="b1c9d498565ac2fd8d075a51ff2ef5e51ba6c21f",
        rows=27_136,
    ),
    # Of these three no hash is published where it could be looked up: CDVAE's and DiffCSP's papers
    # give the number of crystals, 60 % of 18,928 and of 10,153, and 27,380 of 40,476.
    "perov_5": PublishedFile(
        title="Perov-5, the training crystals of CDVAE",
        url=f"{_CDVAE}/perov_5/train.csv",
        file_name="train.csv",
        page=f"{_CDVAE_PAGE}/perov_5",
        rows=11_356,
    ),
    "carbon_24": PublishedFile(
        title="Carbon-24, the training crystals of CDVAE",
        url=f"{_CDVAE}/carbon_24/train.csv",
        file_name="train.csv",
        page=f"{_CDVAE_PAGE}/carbon_24",
        rows=6_091,
    ),
    "mpts_52": PublishedFile(
        title="MPTS-52, the 27,380 training crystals of DiffCSP",
        url=f"{_DIFFCSP}/mpts_52/train.csv",
        file_name="train.csv",
        page="https://github.com/jiaor17/DiffCSP/tree/main/data/mpts_52",
        rows=27_380,
    ),
    # The hash is that of the repository's Git LFS pointer.
    "alex_mp_20": PublishedFile(
        title="Alex-MP-20, the training crystals of MatterGen",
        url=f"{_MATTERGEN}/alex-mp/alex_mp_20.zip",
        file_name="alex_mp_20.zip",
        page="https://github.com/microsoft/mattergen/tree/main/data-release/alex-mp",
        sha256="6688e652e45fac4ac8b016dbc4a3280afde9ba687bdacfd8c676775ed19b6228",
        member="alex_mp_20/train.csv",
    ),
}
"""The published file of each reference, by the reference's name."""
