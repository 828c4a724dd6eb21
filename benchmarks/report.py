"""The results as Markdown, from nothing but what the JSON file holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .inputs import ELEMENTS, ROWS

Entry = dict[str, Any]


def markdown(results: dict[str, Any]) -> str:
    """All tables."""
    parts = [
        "# Measured speed and memory",
        machine(results),
        "## Goals\n\nOurs over the peer, forward and backward, float32: the median of the ratios and, in brackets, the "
        "middle half of them.",
        goals(results),
        "## Each loss beside torch's plain loss",
        "Median ratio, ours over torch's, and the time of ours. The losses compute more than torch's plain one; it is "
        "the yardstick. For `sigmoid_cross_entropy` and `softmax_cross_entropy` both compute the same.",
        catalogue(results["pairs"], "elements", ELEMENTS),
        "`ghm_r` is beside `smooth_l1_loss`, the other losses of this table beside "
        "`binary_cross_entropy_with_logits`; in the next table all are beside `cross_entropy`.",
        catalogue(results["pairs"], "rows", ROWS),
        "## Other peers",
        "Each computes the same as ours, to a relative difference of value and gradient that stands in the column "
        "`differ by`.",
        peers(results["pairs"]),
        "## Peak memory of one step beyond the input's own gradient",
        "Each in a fresh process, in bytes for each score (a float32 score has 4).",
        memory(results["memory"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def machine(results: dict[str, Any]) -> str:
    """CPU, threads and versions."""
    box, kernels = results["machine"], results["machine"]["kernels"]
    peers = ", ".join(f"{name} {found or 'not installed'}" for name, found in box["peers"].items())
    level = f" ({kernels['level']})" if kernels["level"] else ""
    quick = " Quick run: fewer rounds and sizes." if results["quick"] else ""
    return (
        f"{box['cpu']}, {box['cores']} cores, {box['system']}; {box['threads']} threads; {box['date']}. "
        f"Losses: {kernels['active']}{level}, {kernels['reason']}; threads: {kernels['threads']}. "
        f"equipoise {box['equipoise']}, torch {box['torch']}, Python {box['python']}. Peers: {peers}.{quick}"
    )


def goals(results: dict[str, Any]) -> str:
    """Each goal, what was measured, and whether that meets it."""
    timed = {entry["pair"]: entry for entry in results["pairs"]}
    rows = []
    for line in results["goals"]:
        entry = timed.get(line["pair"], {})
        measured = _spread(entry["ratio"]) if "ratio" in entry else entry.get("status", "not run")
        rows.append((line["goal"], f"`{line['pair']}`", f"<= {line['limit']:.2f}", measured, line["verdict"]))
    line = results["memory_goal"]
    slope = line["bytes_per_score"]
    measured = "not run" if slope is None else f"{slope:.3f} bytes for each further score"
    rows.append((line["goal"], "`sigmoid_focal`, 4 M to 32 M", f"<= {line['limit']}", measured, line["verdict"]))
    return table(("goal", "pair", "limit", "measured", "verdict"), rows)


def catalogue(entries: list[Entry], place: str, sizes: Iterable[str]) -> str:
    """A row a loss, a column a size."""
    cells = {(entry["loss"], entry["size"]): _cell(entry) for entry in entries if entry["table"] == place}
    losses = list(dict.fromkeys(loss for loss, _ in cells))
    rows = [(f"`{loss}`", *(cells.get((loss, size), "") for size in sizes)) for loss in losses]
    return table(("loss", *sizes), rows) if rows else ""


def peers(entries: list[Entry]) -> str:
    """Every pair whose two sides compute the same, and every peer that is not there."""
    rows = []
    for entry in entries:
        if entry["table"] != "peers":
            continue
        apart = f"{entry['disagreement']:.0e}" if "disagreement" in entry else ""
        if entry["status"] == "timed":
            measured = (_spread(entry["ratio"]), f"{entry['ours_ms']:.3g} ms", f"{entry['peer_ms']:.3g} ms")
        else:
            measured = (f"{entry['status']}: {entry['why']}", "", "")
        rows.append((f"`{entry['ours']}`", entry["size"], entry["peer"], *measured, apart))
    head = ("ours", "size", "peer", "ratio", "time of ours", "time of the peer", "differ by")
    return table(head, rows) if rows else ""


def memory(remembered: dict[str, Any]) -> str:
    """A row for each loss and size."""
    rows = []
    for name, sides in remembered.items():
        for found in sides.values():
            if "failed" in found:
                rows.append((f"`{found['name']}`", name.split("/")[1], f"failed: {found['failed']}", ""))
                continue
            extra = found["extra"]
            figures = (f"{extra / found['elements']:.2f}", f"{extra / 2**20:.1f} MiB")
            rows.append((f"`{found['name']}`", name.split("/")[1], *figures))
    return table(("loss", "size", "bytes a score", "in all"), rows) if rows else ""


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _cell(entry: Entry) -> str:
    return f"{entry['ratio']['median']:.2f} ({entry['ours_ms']:.3g} ms)" if "ratio" in entry else entry["status"]


def _spread(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}]"
