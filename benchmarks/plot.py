"""The ratio against the size, one line a loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PANELS = (
    ("sigmoid and histogram losses beside torch's plain loss", "elements"),
    ("softmax losses beside torch cross_entropy", "rows"),
)
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#8c6d00")  # told apart by colour-blind eyes too
MARKS = "osD^vP"


def lines(entries: list[dict[str, Any]], place: str) -> dict[str, list[tuple[int, float, str]]]:
    """For each loss its points: scores, median ratio, name of the size; in the order of the scores."""
    found: dict[str, list[tuple[int, float, str]]] = {}
    for entry in entries:
        if entry["table"] != place or "ratio" not in entry:
            continue
        scores = entry["shape"][0] * entry["shape"][1]
        found.setdefault(entry["loss"], []).append((scores, entry["ratio"]["median"], entry["size"]))
    return {loss: sorted(points) for loss, points in found.items() if len(points) > 1}


def draw(results: dict[str, Any], stem: Path) -> list[Path]:
    """Writes PNG and SVG beside each other. ImportError where matplotlib is not installed."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    panels = [(title, lines(results["pairs"], place)) for title, place in PANELS]
    panels = [(title, found) for title, found in panels if found]
    if not panels:
        return []
    with pyplot.rc_context({"font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "equipoise"}):
        figure, axes = pyplot.subplots(
            1, len(panels), figsize=(6.4 * len(panels), 5.2), sharey=True, squeeze=False, layout="constrained"
        )
        for axis, (title, found) in zip(axes[0], panels, strict=True):
            _panel(axis, title, found)
        axes[0][0].set_ylabel("time of ours / time of torch's (less is better)")
        box = results["machine"]
        path = f"{box['kernels']['active']} {box['kernels']['level'] or ''}".strip()
        figure.suptitle(
            f"Forward + backward, float32, {box['threads']} threads, {box['cpu']}, torch {box['torch']}, {path}",
            fontsize=10,
        )
        files = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg")]
        for file in files:
            figure.savefig(file, dpi=150, metadata={"Date": None} if file.suffix == ".svg" else None)
        pyplot.close(figure)
    return files


def _panel(axis: Any, title: str, found: dict[str, list[tuple[int, float, str]]]) -> None:
    """One panel: logarithmic both ways, a line at 1."""
    axis.axhline(1, color="#555555", linewidth=1, linestyle="--")
    for (loss, points), colour, mark in zip(found.items(), COLOURS, MARKS, strict=False):
        xs, ys = [point[0] for point in points], [point[1] for point in points]
        axis.plot(xs, ys, color=colour, marker=mark, markersize=5, linewidth=1.6, label=loss)
    names = {scores: size for points in found.values() for scores, _, size in points}
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xticks(list(names), list(names.values()), rotation=40, ha="right")
    axis.minorticks_off()
    lowest, highest = (pick(y for points in found.values() for _, y, _ in points) for pick in (min, max))
    ticks = [
        t for t in (0.02, 0.05, 0.1, 0.2, 0.33, 0.5, 1, 2, 5, 10, 20, 50) if lowest / 2 < t < highest * 2 or t == 1
    ]
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.tick_params(labelleft=True)
    axis.grid(color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.set_xlabel("scores")
    axis.set_title(title, fontsize=10)
    axis.legend(frameon=False, fontsize=9)
