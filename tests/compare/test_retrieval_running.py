"""Trainings of embeddings: alike in all but the loss, tuned on validation classes, test classes never seen before."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from many_classes import things

from equipoise.catalog import CARDS
from equipoise.compare import engine, jobs, metrics, pools, training
from equipoise.compare.errors import CompareError
from equipoise.compare.jobs import Job, run_job
from equipoise.compare.preparation import prepare
from equipoise.compare.problem import EMBEDDING
from equipoise.compare.remedies import YARDSTICK
from equipoise.compare.retrieval.candidates import RAW, candidates, choose, options_of
from equipoise.compare.store import Store
from equipoise.compare.study import Request, Study
from equipoise.compare.trials import Settings

TRIPLETS = ["batch_triplet_all", "batch_triplet_hard", "batch_triplet_semihard"]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("things") / "things.csv"
    things(16, 6).to_csv(path, index=False)
    return path


@pytest.fixture
def study(file: Path) -> Study:
    return prepare(Request(data=str(file), problem="retrieval", losses="supcon,batch_triplet_hard", epochs=3))


def run(study: Study, folder: Path, **options: Any) -> engine.Outcome:
    store = Store(folder)
    store.open()
    progress = options.pop("on_progress", lambda *_: None)
    return engine.run(study, 2, pools.local(options.pop("workers", 1)), store, progress)


def scores(outcome: engine.Outcome) -> dict[str, Any]:
    """The results without the time they took."""
    return {
        name: [{key: value for key, value in each.items() if key != "seconds"} for each in seeds]
        for name, seeds in outcome.results.items()
    }


def test_every_loss_of_a_labelled_batch_is_a_candidate_and_so_are_the_plain_answers() -> None:
    fitting = [card.name for card in CARDS if "embeddings" in card.problems]
    assert {"batch_contrastive", "batch_triplet", "supcon", "info_nce"} <= set(fitting)
    names = list(candidates())
    assert names[0] == YARDSTICK
    assert names[-1] == RAW
    expanded = [each for name in fitting for each in (TRIPLETS if name == "batch_triplet" else [name])]
    assert sorted(names[1:-1]) == sorted(expanded)


def test_losses_are_chosen_by_name_a_loss_of_variants_as_all_of_them() -> None:
    assert list(choose("batch_triplet")) == [YARDSTICK, *TRIPLETS, RAW]
    assert list(choose("info_nce, batch_triplet_hard")) == [YARDSTICK, "batch_triplet_hard", "info_nce", RAW]
    assert list(choose("softmax_cross_entropy")) == [YARDSTICK, RAW]
    with pytest.raises(
        CompareError, match="'ghm_c' does not train a retrieval problem; choose from cross_entropy, bat"
    ):
        choose("ghm_c")
    with pytest.raises(CompareError, match="did you mean 'supcon'"):
        choose("supcn")


@pytest.mark.parametrize("name", [name for name in candidates() if name != RAW])
def test_every_loss_is_small_where_classes_lie_apart_and_pulls_where_they_do_not(name: str) -> None:
    candidate = candidates()[name]
    assert candidate.make is not None
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    torch.manual_seed(0)
    loss = candidate.make(labels, 8)
    if isinstance(getattr(loss, "head", None), torch.nn.Linear):
        torch.nn.init.eye_(loss.head.weight)
    apart = 30 * torch.eye(8)[labels]
    mixed = torch.randn(6, 8, requires_grad=True)
    value = loss(mixed, labels)
    value.backward()
    assert loss(apart, labels) < value
    assert mixed.grad is not None
    assert mixed.grad.abs().sum() > 0


def test_info_nce_takes_every_other_row_as_the_key_of_the_row_before() -> None:
    make = candidates()["info_nce"].make
    assert make is not None
    labels = torch.tensor([0, 0, 1, 1, 1, 1])
    rows = torch.randn(6, 4)
    from equipoise import info_nce_loss

    expected = info_nce_loss(rows[[0, 2, 4]], rows[[1, 3, 5]], label=labels[[0, 2, 4]], temperature=0.2)
    torch.testing.assert_close(make(labels, 4, temperature=0.2)(rows, labels), expected)


def test_each_loss_has_as_many_trials_the_same_rates_and_decays_and_its_option_beside_them() -> None:
    shared = [Settings(0.003, 1e-4), Settings(0.001, 1e-3), Settings(0.01, 1e-5), Settings(0.002, 1e-2)]
    for name, candidate in candidates().items():
        tried = candidate.tried(shared)
        if name == RAW:
            assert len(tried) == 1
            continue
        assert [replace(each, options=()) for each in tried] == shared
        if name == YARDSTICK:
            assert {each.options for each in tried} == {()}
            continue
        assert candidate.card is not None
        option, default = tried[0].options[0]
        made = candidate.card.module(**options_of(candidate))
        assert float(getattr(made, option)) == pytest.approx(default), "the first trial is the loss as it comes"
        values = [dict(each.options)[option] for each in tried]
        assert len(set(values)) == len(values)
        assert min(values) < 0.8 * default < 1.25 * default < max(values)
        assert options_of(candidate)["normalize"] is True


def test_within_a_seed_every_loss_gets_the_same_start_and_the_same_batches(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list[Any]] = {}
    build, dense = training.models.build, jobs.features.Features.dense

    def noted_build(*arguments: Any) -> Any:
        model = build(*arguments)
        seen[current].append([each.detach().clone() for each in model.parameters()])
        return model

    def noted_dense(self: Any, rows: Any) -> Any:
        if isinstance(rows, torch.Tensor):
            seen[current].append(rows.clone())
        return dense(self, rows)

    monkeypatch.setattr(training.models, "build", noted_build)
    monkeypatch.setattr(jobs.features.Features, "dense", noted_dense)
    for current in ("cross_entropy", "batch_triplet_hard", "supcon"):
        seen[current] = []
        run_job(study, Job.of(study, current, 1, study.settings[0], "trial"))
    first, *others = seen.values()
    starts = [each for each in first if isinstance(each, list)]
    rows = [each for each in first if not isinstance(each, list)]
    assert len(rows) == study.plan.steps(6 * 8)
    for other in others:
        found = [each for each in other if not isinstance(each, list)]
        assert all(torch.equal(a, b) for a, b in zip(rows, found, strict=True))
        again = [each for each in other if isinstance(each, list)]
        for a, b in zip(starts, again, strict=True):
            assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_no_row_of_a_test_class_has_a_say_before_the_end(file: Path, tmp_path: Path) -> None:
    """Other values in the test classes: the same training, tuning and curve, and other test scores."""
    study = prepare(Request(data=str(file), problem="retrieval", losses="supcon", epochs=3))
    test = set(study.problem.labels[jobs.split(study.problem, 0).test].tolist())
    names = {study.problem.classes[each] for each in test}
    frame = things(16, 6)
    touched = frame["thing"].isin(names).to_numpy()
    frame.loc[touched, "x0"] += np.random.default_rng(9).normal(size=touched.sum()) * 5
    frame.to_csv(tmp_path / "other.csv", index=False)
    other = prepare(Request(data=str(tmp_path / "other.csv"), problem="retrieval", losses="supcon", epochs=3))
    for name in ("cross_entropy", "supcon"):
        for stage in ("trial", "final"):
            first, second = (
                run_job(each, Job.of(each, name, 0, each.settings[0], stage))[name] for each in (study, other)
            )  # type: ignore[arg-type]
            assert first["validation"] == second["validation"]
            assert ("test" in first) == (stage == "final")
            assert first.get("curve") == second.get("curve")
    assert first["test"] != second["test"]


def test_only_test_classes_are_tested_and_all_of_them(study: Study) -> None:
    cut = jobs.split(study.problem, 0)
    result = run_job(study, Job.of(study, "supcon", 0, study.settings[0], "final"))["supcon"]
    for part in ("validation", "test"):
        held = set(study.problem.labels[getattr(cut, part)].tolist())
        recall = result[part]["by_class"]["recall"]
        assert {each for each, value in enumerate(recall) if value is not None} == held


def test_the_embedding_that_was_best_on_validation_classes_is_kept(study: Study) -> None:
    longer = replace(study, plan=replace(study.plan, epochs=30))
    job = Job.of(longer, "cross_entropy", 0, Settings(0.05, 0.0), "final")
    result = run_job(longer, job)["cross_entropy"]
    curve = result["curve"]["validation"]
    assert max(curve) > curve[-1], "a training that goes on too long, or there is nothing to see"
    assert metrics.value(result["validation"], longer.metric, longer.counted) == max(curve)


def test_features_as_they_are_are_scored_without_training(study: Study, tmp_path: Path) -> None:
    outcome = run(study, tmp_path)
    raw = outcome.results[RAW]
    assert [each["seconds"] for each in raw] == [None, None]
    parts, _ = jobs.parts_of(study, 0)
    pool = jobs._pool(study, 0, parts["test"])
    assert pool.features.dense(slice(None)).shape == (len(parts["test"].labels), 24)
    assert outcome.results["supcon"][0]["steps"] == study.plan.steps(48)
    files = list(tmp_path.glob("raw_features*.json"))
    assert len(files) == 2, "one for each seed, and no trials"


def test_finished_trainings_are_not_repeated_and_workers_change_nothing(study: Study, tmp_path: Path) -> None:
    first = run(study, tmp_path / "a")
    total = len(list((tmp_path / "a").glob("*.json")))
    assert total == 3 * 3 + 2 * 4  # trials of what is trained, then all for each seed
    removed = sorted((tmp_path / "a").glob("*.json"))[::3]
    for each in removed:
        each.unlink()
    progress: list[tuple[int, int]] = []
    assert scores(run(study, tmp_path / "a", on_progress=lambda *numbers: progress.append(numbers))) == scores(first)
    assert progress[-1] == (total, total)
    assert len(progress) == 2 + len(removed)
    assert scores(run(study, tmp_path / "b", workers=2)) == scores(first)


def test_the_option_of_a_loss_belongs_to_the_name_of_its_training(study: Study) -> None:
    candidate = study.candidates["supcon"]
    keys = [json.dumps(Job.of(study, "supcon", 0, each, "trial").key) for each in candidate.tried(study.settings)]
    assert len(set(keys)) == 3
    assert '"temperature": 0.1' in keys[0]


def test_a_model_of_ones_own_gives_embeddings(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_embedding.py").write_text(
        "from torch import nn\n\ndef make(features, width):\n"
        "    assert (features, width) == (24, 64)\n    return nn.Linear(features, width, bias=False)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    request = Request(data=str(file), problem="retrieval", losses="supcon", epochs=1, model="own_embedding:make")
    own = prepare(request)
    assert own.problem.num_outputs == EMBEDDING == 64
    result = run_job(own, Job.of(own, "supcon", 0, own.settings[0], "final"))
    assert result["supcon"]["test"]["overall"]["map_at_r"] > 0


@pytest.mark.parametrize("rate", [0.0, 0.01])
def test_the_last_layer_of_cross_entropy_starts_as_the_seed_says_and_is_trained_with_the_model(
    study: Study, rate: float
) -> None:
    make = candidates()[YARDSTICK].make
    assert make is not None
    with training.seeded(1, "cpu"):
        start = make(torch.arange(8), EMBEDDING)
    fitted = jobs.fit(study, Job.of(study, YARDSTICK, 1, Settings(rate, 0.0), "trial"))
    assert torch.equal(fitted.loss.head.weight, start.head.weight) == (rate == 0)  # type: ignore[union-attr]
