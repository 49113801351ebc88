"""Write the table of models in ``docs/models.md`` from the configs.

``python scripts/make_models_table.py`` writes it; ``--check`` only tests whether it is up to date.
"""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import OmegaConf

from novelty_metric.settings.compose import choices, compose_config

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "models.md"
BEGIN = "<!-- made by scripts/make_models_table.py: do not edit -->"
END = "<!-- end of the table -->"


def make_table() -> str:
    """The table as Markdown, with one row per config of the group ``model``."""
    rows = [
        "| `model=` | model | files | default reference | samples | citation key |",
        "|---|---|---|---|---|---|",
    ]
    for name in choices("model"):
        config = compose_config([f"model={name}", "reference=aflow"])
        model = OmegaConf.to_container(config.model, resolve=True)
        assert isinstance(model, dict)
        links = [
            f"[{model['title']}]({model['repository']})" if model["repository"] else model["title"]
        ]
        if model["paper"]:
            links.append(f"([paper]({model['paper']}))")
        rows.append(
            "| "
            + " | ".join(
                [
                    f"`{name}`",
                    " ".join(links),
                    model["writes"],
                    f"`{model['reference']}`" if model["reference"] else "none: give `reference=`",
                    "relaxed here" if model["relax_samples"] else "already relaxed",
                    f"`{model['citation']}`" if model["citation"] else "",
                ]
            )
            + " |"
        )
    return "\n".join(rows)


def updated(text: str) -> str:
    """The document with the new table."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{make_table()}\n{END}{after}"


def main() -> int:
    """Write the table, or check it."""
    text = DOCUMENT.read_text(encoding="utf-8")
    new = updated(text)
    if "--check" in sys.argv[1:]:
        return int(new != text)
    DOCUMENT.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
