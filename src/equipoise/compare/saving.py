"""A trained model in a folder: weights as safetensors, everything else as JSON. Nothing in it can run code."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from errno import EACCES, EISDIR
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_weights
from safetensors.torch import save
from torch import Tensor, nn

import equipoise

from . import models, training
from .columns import Column, Table, encode_alike
from .errors import CompareError
from .features import Preprocessing
from .jobs import Job, fit, parts_of, remedy
from .metrics import log_probabilities
from .problem import Kind
from .store import write_atomically
from .summary import Comparison

FORMAT = 1
WEIGHTS, DESCRIPTION = "weights.safetensors", "model.json"


@dataclass(frozen=True)
class Saved:
    """A model with what is done before and after it.

    Attributes:
        name: the candidate.
        kind: the kind of problem.
        target: the columns that it predicts.
        classes: their names.
        independent: whether the scores of a multi-class model are yes/no questions.
        shift: what is subtracted from the scores, one per score; 0 for `retrieval`, whose scores are embeddings.
        threshold: the score above which a row is positive, for `binary`.
        columns: the features, in order.
        levels: of the categorical ones.
        preprocessing: what was learned from the training rows.
        model: the network.
    """

    name: str
    kind: Kind
    target: tuple[str, ...]
    classes: tuple[str, ...]
    independent: bool
    shift: tuple[float, ...]
    threshold: float
    columns: tuple[Column, ...]
    levels: tuple[tuple[str, ...], ...]
    preprocessing: Preprocessing
    model: nn.Module

    def encode(self, frame: Any) -> Table:
        """The features of a frame that has the columns."""
        return encode_alike(frame, self.columns, self.levels)

    def scores(self, table: Table, rows: Any) -> Tensor:
        """The scores of some rows, as decided by: float64 [N, C]."""
        with training.one_thread():
            logits = training.predict(self.model, self.preprocessing.apply(table, rows))
        return logits.double() - torch.tensor(self.shift, dtype=torch.float64)

    def probabilities(self, scores: Tensor) -> Tensor:
        """[N, C], or [N, 1] for `binary`: of the positive class or of each label; not for `retrieval`."""
        if self.kind == "multiclass":
            return torch.from_numpy(log_probabilities(scores.numpy(), self.independent)).exp()
        return scores.sigmoid()


def make_folder(folder: Path) -> None:
    """Make sure before the first training that there is a folder to save in.

    Raises:
        CompareError: where it cannot be created or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (WEIGHTS, DESCRIPTION):
            if (folder / name).is_dir():
                raise IsADirectoryError(EISDIR, f"{name}: Is a directory")
        if not os.access(folder, os.W_OK):
            raise PermissionError(EACCES, "Permission denied")
    except OSError as error:
        raise CompareError(f"cannot save a model in {folder}: {error.strerror}") from error


def save_winner(comparison: Comparison, folder: Path) -> None:
    """Train the winner as on the first seed, where its test scores stand in the report, and keep it.

    Raises:
        CompareError: where the folder cannot be written.
    """
    study = comparison.study
    row = next(row for row in comparison.rows if row.name == comparison.winner)
    candidate = study.candidates[row.name]
    job = Job.of(study, candidate.trained_as, 0, row.chosen, "final")
    name, outputs, preprocessing = study.plan.model, study.problem.num_outputs, parts_of(study, 0)[1]
    shift: Tensor | float = 0.0
    threshold = 0.0
    if study.candidates[job.candidate].make is None:  # the features as they are
        name, outputs = models.NONE, preprocessing.width
        network = models.build(name, outputs, outputs)
    else:
        with training.one_thread():
            fitted = fit(study, job)
            network = fitted.trained.model
            if study.problem.kind != "retrieval":
                validation = training.predict(network, fitted.parts["validation"].features)
                shift, threshold = remedy(study, row.name, validation, fitted)
    description = {
        "format": FORMAT,
        "equipoise": equipoise.__version__,
        "name": row.name,
        "kind": study.problem.kind,
        "target": study.problem.target,
        "classes": study.problem.classes,
        "independent": candidate.independent,
        "shift": (torch.as_tensor(shift, dtype=torch.float64) + torch.zeros(outputs)).tolist(),
        "threshold": threshold,
        "model": {"name": name, "inputs": preprocessing.width, "outputs": outputs},
        "columns": [asdict(column) for column in study.table.columns],
        "levels": study.table.levels,
        "preprocessing": preprocessing.as_json(),
        "training": {
            "data": study.source_name,
            "sha256": study.fingerprint,
            "rows": len(parts_of(study, 0)[0]["train"].labels),
            "seed": 0,
            "budget": asdict(study.plan),
            **row.chosen.as_json(),
            "metric": study.metric,
            "test_value": row.values[0],
        },
    }
    # Clones: weights that a model uses twice are one tensor, which the format refuses.
    weights = save({name: value.cpu().contiguous().clone() for name, value in network.state_dict().items()})
    description["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    try:
        write_atomically(folder / WEIGHTS, weights)
        write_atomically(folder / DESCRIPTION, json.dumps(description, ensure_ascii=False, allow_nan=False) + "\n")
    except OSError as error:
        raise CompareError(f"cannot save a model in {folder}: {error.strerror}") from error


def load(folder: Path, model: str | None = None) -> Saved:
    """Read a saved model.

    Args:
        folder: as `--save` named it.
        model: `module:factory` of the network, where the model is a person's own. The name in the file is not
            imported by itself: reading a file must not run code of its choosing.

    Raises:
        CompareError: where the folder holds no such model.
    """
    try:
        description = json.loads((folder / DESCRIPTION).read_bytes())
        content = (folder / WEIGHTS).read_bytes()
        weights = load_weights(content)
    except OSError as error:
        raise CompareError(f"{folder} is no saved model: {error.filename or WEIGHTS}: {error.strerror}") from error
    except (ValueError, SafetensorError) as error:
        raise CompareError(f"{folder} is no saved model: {error}") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise CompareError(f"{folder / DESCRIPTION} has another format than this version reads, expected {FORMAT}")
    if description.get("weights_sha256") != hashlib.sha256(content).hexdigest():
        raise CompareError(
            f"{folder}: {WEIGHTS} and {DESCRIPTION} are of different models: saving was cut short, or two runs saved"
            " here at once"
        )
    try:
        return _restore(description, weights, model)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CompareError(f"{folder} is no saved model: {type(error).__name__}: {error}") from error


def _restore(description: Mapping[str, Any], weights: Mapping[str, Tensor], model: str | None) -> Saved:
    shape = description["model"]
    name = shape["name"]
    if name not in (*models.LEARNING_RATE, models.NONE) and model != name:
        raise CompareError(f"the saved model is your own, {name}: say so with --model {name}")
    with torch.random.fork_rng(devices=[]):
        network = models.build(name, shape["inputs"], shape["outputs"])
    network.load_state_dict(dict(weights))
    return Saved(
        name=description["name"],
        kind=description["kind"],
        target=tuple(description["target"]),
        classes=tuple(description["classes"]),
        independent=description["independent"],
        shift=tuple(description["shift"]),
        threshold=description["threshold"],
        columns=tuple(Column(**column) for column in description["columns"]),
        levels=tuple(map(tuple, description["levels"])),
        preprocessing=Preprocessing.from_json(description["preprocessing"]),
        model=network.eval(),
    )
