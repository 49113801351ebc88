"""Draw the imports between the rooms of the package: `docs/pictures/rooms.svg`.

Indirect imports are omitted: if `cli` imports `report`, and `report` imports `verdict`, there is no
arc from `cli` to `verdict`.

The order is that of the contract in `pyproject.toml`, which `lint-imports` checks. Run the script
after adding a room: `python scripts/draw_rooms.py`.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import grimp
import matplotlib as mpl
import matplotlib.pyplot as plt
import networkx as nx
from matplotlib.patches import Arc

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "pictures" / "rooms.svg"
PACKAGE = "novelty_metric"


def rooms() -> list[str]:
    """Names of the rooms, from the bottom to the top."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = content["tool"]["importlinter"]["contracts"][0]["layers"]
    return [
        name.strip().removeprefix(f"{PACKAGE}.")
        for layer in reversed(layers)
        for name in layer.split("|")
    ]


def imports() -> nx.DiGraph:
    """Imports of each room, without indirect ones."""
    modules = grimp.build_graph(PACKAGE)
    graph = nx.DiGraph()
    for importer in modules.modules:
        for imported in modules.find_modules_directly_imported_by(importer):
            pair = _room(importer), _room(imported)
            if pair[0] != pair[1] and all(pair):
                graph.add_edge(*pair)
    return nx.transitive_reduction(graph)


def _room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def draw(path: Path = PICTURE) -> None:
    """Draw the rooms on a line, bottom to top, with an arc for each import."""
    names = rooms()
    height = {name: position for position, name in enumerate(names)}
    mpl.rcParams["svg.hashsalt"] = PACKAGE  # reproducible output
    mpl.rcParams["svg.fonttype"] = "none"
    figure, axes = plt.subplots(figsize=(6, 9))
    colors = plt.get_cmap("tab20")
    for importer, imported in sorted(imports().edges):
        low, high = height[imported], height[importer]
        arc = Arc(
            (0, (low + high) / 2),
            width=abs(high - low),
            height=abs(high - low),
            theta1=-90,
            theta2=90,
            linewidth=1.5,
            color=colors(low % 20),
            alpha=0.9,
        )
        axes.add_patch(arc)
    for name, position in height.items():
        axes.plot(0, position, "o", color=colors(position % 20), markersize=7)
        axes.text(-0.4, position, name, ha="right", va="center", fontsize=11)
    axes.set_xlim(-5, len(names) / 3)
    axes.set_ylim(-0.8, len(names) - 0.2)
    axes.set_aspect("equal")
    axes.axis("off")
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    draw()
    print(f"wrote {PICTURE.relative_to(ROOT)}")
