"""What `equipoise predict` does: a saved model on a table of rows."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from torch.nn.functional import normalize

from . import readers, saving
from .columns import Table
from .errors import CompareError
from .saving import Saved


def predict(folder: str, data: str, out: str | None = None, model: str | None = None) -> None:
    """Write a CSV with a prediction and probabilities, or an embedding, for each row of a file.

    Args:
        folder: a saved model.
        data: a CSV, Parquet or NPZ file with the columns that the model was trained on; others are ignored.
        out: the file to write; None for standard output.
        model: `module:factory`, where the network is a person's own.

    Raises:
        CompareError: where the model or the data cannot be read, or the data lacks a column.
    """
    saved = saving.load(Path(folder), model)
    # A column of words and numbers may hold numbers alone in this file: they are levels all the same.
    frame = readers.read(Path(data), [column.name for column in saved.columns if column.kind == "categorical"]).frame
    if frame.empty:
        raise CompareError(f"{data} has no rows of data")
    missing = [column.name for column in saved.columns if column.kind != "left out" and column.name not in frame]
    if missing:
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        raise CompareError(f"{data} lacks columns that the model needs: {', '.join(missing[:8])}{more}")
    answer = predictions(saved, frame)
    if out is None:
        sys.stdout.write(answer.to_csv(index=False, lineterminator="\n"))
        return
    try:
        answer.to_csv(out, index=False, lineterminator="\n")
    except OSError as error:
        raise CompareError(f"cannot write {out}: {error.strerror or error}") from error


def predictions(saved: Saved, frame: pd.DataFrame) -> pd.DataFrame:
    """The predicted class and the probability of each class; for several labels 0 or 1 and the probability of each.

    For retrieval the embedding, scaled to length 1: inner products, cosines and distances then give one order.
    """
    table = saved.encode(frame)
    _warn_of_unseen(saved, table)
    scores = saved.scores(table, np.arange(len(frame)))
    if not bool(scores.isfinite().all()):
        raise CompareError("the model gives scores that are no finite numbers: its training diverged")
    if saved.kind == "retrieval":
        unit = normalize(scores, dim=1).float().numpy()
        return pd.DataFrame(unit, columns=[f"e{place}" for place in range(unit.shape[1])])
    probability = saved.probabilities(scores).numpy()
    if saved.kind == "multilabel":
        answer = pd.DataFrame((scores.numpy() > saved.threshold).astype(int), columns=list(saved.classes))
        for position, name in enumerate(saved.classes):
            answer[f"probability of {name}"] = probability[:, position]
        return answer
    if saved.kind == "binary":
        chosen = (scores[:, 0].numpy() > saved.threshold).astype(int)
        probability = np.concatenate([1 - probability, probability], axis=1)
    else:
        chosen = scores.numpy().argmax(axis=1)
    answer = pd.DataFrame({saved.target[0]: np.array(saved.classes, object)[chosen]})
    for position, name in enumerate(saved.classes):
        answer[f"probability of {name}"] = probability[:, position]
    return answer


def _warn_of_unseen(saved: Saved, table: Table) -> None:
    """Say on standard error where cells hold words that the model has never seen: it takes them for rare ones."""
    names = [column.name for column in saved.columns if column.kind == "categorical"]
    for name, codes in zip(names, table.codes.T, strict=True):
        share = float((codes == -2).mean())
        if share > 0:
            what = f"{100 * share:.0f} %" if share >= 0.01 else "under 1 %"
            sys.stderr.write(f"equipoise: column {name!r}: {what} of the cells hold values that training never saw\n")
