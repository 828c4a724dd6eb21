"""One training: a candidate on a seed with its settings, scored; whoever runs it, wherever it runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from . import candidates, features, metrics, models, remedies, training, trials
from .errors import CompareError
from .gradients import gradient_norms
from .recipe import Recipe
from .retrieval import running as retrieval
from .splits import split
from .store import Key
from .study import Study
from .tasks.study import TaskStudy
from .trials import Settings

# How many points of a training curve are worth their time.
POINTS = 12

Result = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        candidate: which loss.
        seed: decides the split, the weights to start from and the batches.
        settings: what is tuned.
        stage: a `trial` is scored on validation rows alone, a `final` training on test rows, too.
        key: everything that decides its numbers.
    """

    candidate: str
    seed: int
    settings: Settings
    stage: Literal["trial", "final"]
    key: Key = field(compare=False)

    @classmethod
    def of(cls, study: Study, candidate: str, seed: int, settings: Settings, stage: Literal["trial", "final"]) -> Job:
        """The training of a candidate that is trained."""
        key = {**study.key(candidate, seed), **settings.as_json(), "stage": stage}
        return cls(candidate, seed, settings, stage, key)


@dataclass(frozen=True)
class Part:
    """The rows of one part of a split: their features, the loss's targets, and the labels to score against."""

    features: features.Features
    targets: Tensor
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Fitted:
    """A trained model of a seed with what belongs to it."""

    loss: nn.Module
    trained: training.Trained
    curve: Mapping[str, Sequence[Any]]
    parts: Mapping[str, Part]
    preprocessing: features.Preprocessing


# Jobs come seed by seed, so that a worker that remembers the last seed's data prepares it once per seed.
_last: tuple[tuple[str, int], tuple[dict[str, Part], features.Preprocessing]] | None = None


def parts_of(study: Study, seed: int) -> tuple[dict[str, Part], features.Preprocessing]:
    """The training, validation and test rows of a seed, and the preprocessing that the first of them decide."""
    global _last
    if _last is None or _last[0] != (study.identity, seed):
        cut = split(study.problem, seed, study.order)
        fitted = features.Preprocessing.fit(study.table, cut.train)
        parts = {
            name: Part(
                fitted.apply(study.table, rows), study.targets(rows), study.problem.labels[rows].astype(np.int64)
            )
            for name, rows in (("train", cut.train), ("validation", cut.validation), ("test", cut.test))
        }
        _last = (study.identity, seed), (parts, fitted)
    return _last[1]


def fit(study: Study, job: Job) -> Fitted:
    """Train what the job says; the same numbers each time."""
    parts, preprocessing = parts_of(study, job.seed)
    train, recipe = parts["train"], _recipe(study, job, parts)
    curve: dict[str, list[Any]] = {"epoch": [], "train_loss": [], "validation": []}
    every = math.ceil(study.plan.epochs / POINTS)
    kept: dict[str, Tensor] = {}

    def record(epoch: int, model: nn.Module) -> None:
        wanted = job.stage == "final" or recipe.keeps_best
        if not wanted or (epoch % every and epoch != study.plan.epochs):
            return
        curve["epoch"].append(epoch)
        curve["validation"].append(metrics.value(recipe.score(model), study.metric, study.counted))
        newest = len(curve["validation"]) - 1
        if recipe.keeps_best and trials.best(curve["validation"], study.larger_is_better) == newest:
            kept.update({name: value.clone() for name, value in model.state_dict().items()})

    loss = recipe.loss.to(study.plan.device)
    trained = training.train(
        loss,
        train.features,
        recipe.targets,
        recipe.bias,
        study.plan,
        job.settings,
        job.seed,
        after_epoch=record,
        batches=recipe.batches,
    )
    if kept:
        trained.model.load_state_dict(kept)
    curve["train_loss"] = [finite(trained.losses[epoch - 1]) for epoch in curve["epoch"]]
    return Fitted(loss, trained, curve, parts, preprocessing)


def _recipe(study: Study, job: Job, parts: Mapping[str, Part]) -> Recipe:
    """What the kind of problem decides of a training."""
    train, candidate = parts["train"], study.candidates[job.candidate]
    assert candidate.make is not None  # only what is trained has a recipe
    if study.problem.kind == "retrieval":
        pool = _pool(study, job.seed, parts["validation"])
        return retrieval.recipe(candidate.make, train.targets, study.plan, job.settings, job.seed, pool)
    outputs = study.problem.num_outputs
    loss = candidate.make(train.targets, outputs)

    def score(model: nn.Module) -> Result:
        scores = training.predict(model, parts["validation"].features)
        return _scores(study, candidate, scores, parts, "validation")

    bias = training.best_constant(loss, train.targets, outputs)  # also warms torch up for the clock
    return Recipe(loss, train.targets, bias, score)


def run_job(study: Study, job: Job) -> Result:
    """Train and score one candidate; with the yardstick also the plain remedies that use its model.

    Returns:
        For each candidate `validation` scores, and of a final training `test` scores, `seconds`, `steps`, `curve` and
        `gradient_norms`: None where nothing was trained.

    Raises:
        CompareError: where a model of the person's own fails.
    """
    try:
        return _run(study, job)
    except Exception as error:
        if isinstance(error, CompareError) or study.plan.model in models.LEARNING_RATE:
            raise
        what = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise CompareError(f"--model {study.plan.model} failed in training: {what}") from error


def _run(study: Study, job: Job) -> Result:
    if isinstance(study, TaskStudy):
        from .tasks.jobs import run_task_job  # here, because it takes its parts from this module

        return run_task_job(study, job)
    with training.one_thread():
        if study.problem.kind == "retrieval":
            return {job.candidate: _run_retrieval(study, job)}
        fitted = fit(study, job)
        names = [name for name, each in study.candidates.items() if each.trained_as == job.candidate]
        result: Result = {name: {} for name in names}
        validation = training.predict(fitted.trained.model, fitted.parts["validation"].features)
        remedies = {name: remedy(study, name, validation, fitted) for name in names}
        _score_part(study, result, remedies, fitted, validation, "validation")
        if job.stage == "final":
            logits = training.predict(fitted.trained.model, fitted.parts["test"].features)
            _score_part(study, result, remedies, fitted, logits, "test")
            for name in names:
                result[name] |= dict.fromkeys(("seconds", "steps", "curve", "gradient_norms"))
            result[job.candidate] |= _about_training(study, job, fitted)
        return result


def _run_retrieval(study: Study, job: Job) -> Result:
    """Train and score one embedding, or score the features as they are."""
    parts, _ = parts_of(study, job.seed)
    model, about = models.build(models.NONE, 0, 0), dict.fromkeys(("seconds", "steps", "curve", "gradient_norms"))
    if study.candidates[job.candidate].make is not None:
        fitted = fit(study, job)
        model, about = fitted.trained.model, about | _about_cost(study, fitted)
    result: Result = {"validation": _pool(study, job.seed, parts["validation"]).score(model)}
    if job.stage == "final":
        result |= {"test": _pool(study, job.seed, parts["test"]).score(model), **about}
    return result


def _pool(study: Study, seed: int, part: Part) -> retrieval.Pool:
    """The rows of a part that are searched."""
    return retrieval.Pool.of(part.features, part.labels, len(study.problem.classes), seed)


def remedy(study: Study, name: str, validation: Tensor, fitted: Fitted) -> tuple[Tensor | float, float]:
    """What is done with a trained model's scores: what is subtracted from them, and the threshold for decisions."""
    kind = study.problem.kind
    if name == remedies.PRIOR_CORRECTED:
        return candidates.log_prior(fitted.parts["train"].targets, study.problem.num_outputs, kind), 0.0
    if name == remedies.THRESHOLD:
        tuned: metrics.Name = study.metric if study.metric in metrics.OF_DECISIONS else "macro_f1"
        scores = validation[:, 0].double().numpy()
        return 0.0, metrics.best_threshold(scores, fitted.parts["validation"].labels, tuned)
    return 0.0, 0.0


def _score_part(
    study: Study,
    result: Result,
    remedies: Mapping[str, tuple[Tensor | float, float]],
    fitted: Fitted,
    logits: Tensor,
    part: str,
) -> None:
    """Enter the scores of all candidates that use a model's predictions of one part."""
    for name, (shift, threshold) in remedies.items():
        # In float32 the shift could round two scores to one, and so change their order.
        shifted = logits.double() - shift
        result[name][part] = _scores(study, study.candidates[name], shifted, fitted.parts, part, threshold)


def _scores(
    study: Study,
    candidate: candidates.Candidate,
    logits: Tensor,
    parts: Mapping[str, Part],
    part: str,
    threshold: float = 0.0,
) -> Result:
    """The quality of predictions, as JSON can hold it."""
    scores = metrics.evaluate(
        study.problem.kind, logits.double().numpy(), parts[part].labels, candidate.independent, threshold
    )
    return asdict(scores)


def _about_training(study: Study, job: Job, fitted: Fitted) -> Result:
    """Cost, curve and gradient norms of a training of scores."""
    train = fitted.parts["train"]
    device = study.plan.device
    logits = training.predict(fitted.trained.model, train.features).to(device)
    independent = study.candidates[job.candidate].independent
    return {
        **_about_cost(study, fitted),
        "gradient_norms": gradient_norms(
            fitted.loss, logits, train.targets.to(device), study.problem.kind, independent
        ),
    }


def _about_cost(study: Study, fitted: Fitted) -> Result:
    """Cost and curve of a training."""
    steps = study.plan.steps(len(fitted.parts["train"].labels))
    return {"seconds": fitted.trained.seconds, "steps": steps, "curve": fitted.curve}


def finite(value: float) -> float | None:
    """The value where JSON can hold it, else None."""
    return value if math.isfinite(value) else None
