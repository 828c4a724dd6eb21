"""The calls on which the losses of a linear layer are tried. `ranking_cases.py` has the harness of several inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from cases import CLASSES, distributions, integers, mixed, normal, samples, uniform
from equipoise.card import Card
from equipoise.catalog import CARDS
from harness import applies, as_array
from oracle.heads import HEADS
from oracle.ranking import Answer
from ranking_cases import Call

HEAD_CARDS = tuple(card for card in CARDS if card.kind == "heads")

FEATURES = 3


def is_softmax(card: Card) -> bool:
    return card.name == "linear_softmax_focal"


def layer(name: str, *lead: int, classes: int = CLASSES, bias: bool = True) -> dict[str, Tensor]:
    inputs = {
        "input": normal(f"{name} input", *lead, FEATURES, scale=1.0),
        "linear_weight": normal(f"{name} weight", classes, FEATURES, scale=2.0),
    }
    return inputs | ({"linear_bias": normal(f"{name} bias", classes, scale=1.0)} if bias else {})


def head_calls(card: Card, sample: Mapping[str, Any] | None = None) -> list[Call]:
    """Every call that fits the card under the options of `sample`."""
    ignored = (sample or {}).get("ignore_index", -100)
    return list(class_calls(ignored) if is_softmax(card) else label_calls())


def class_calls(ignored: int) -> Iterator[Call]:
    """One class of many."""

    def call(name: str, *lead: int, **more: Any) -> Call:
        target = integers(name, CLASSES, *lead)
        return Call(**{"name": name, "inputs": layer(name, *lead), "target": target, **more})

    yield call("typical", 11)
    yield call("no bias", 7, inputs=layer("no bias", 7, bias=False))
    yield call("one row", 1)
    yield call("one dimension")
    yield call("sequences", 2, 5)
    yield call("empty", 0, nothing=True)
    yield call("int32 target", 6, target=integers("int32", CLASSES, 6).int())
    yield call("byte target", 6, target=integers("byte", CLASSES, 6).byte())
    yield call("strided", 5, inputs=strided("strided", 5))
    yield call("many classes", 9, inputs=layer("many", 9, classes=37), target=integers("many", 37, 9))
    yield call("sample weights", 8, batch={"sample_weight": uniform("sample weights", 8)})
    some = integers("some", CLASSES, 8)
    yield call("ignored", 8, target=some.masked_fill(uniform("dropped", 8) < 0.4, ignored))
    yield call("all ignored", 8, target=torch.full((8,), ignored), nothing=True)
    if ignored < 0:
        yield call("probabilities", 8, target=distributions("probabilities", 8, CLASSES))
        yield call("probabilities of sequences", 2, 4, target=distributions("p", 8, CLASSES).reshape(2, 4, CLASSES))
        yield call("no probabilities", 0, target=distributions("p", 0, CLASSES), nothing=True)


def label_calls() -> Iterator[Call]:
    """Many labels at once."""

    def call(name: str, *lead: int, **more: Any) -> Call:
        return Call(**{"name": name, "inputs": layer(name, *lead), "target": few_of_many(name, *lead), **more})

    yield call("typical", 11)
    yield call("no bias", 7, inputs=layer("no bias", 7, bias=False))
    yield call("one row", 1)
    yield call("one dimension")
    yield call("sequences", 2, 5)
    yield call("empty", 0, nothing=True)
    yield call("int32 target", 6, target=few_of_many("int32", 6).int())
    yield call("no label at all", 6, target=torch.zeros(6, 0, dtype=torch.int64))
    yield call("a label twice", 6, target=torch.tensor([[1, 1, -5], [0, 3, 0]] * 3))
    yield call("strided", 5, inputs=strided("strided", 5))
    many = integers("many", 37, 9, 5).masked_fill(uniform("many", 9, 5) < 0.3, -1)
    yield call("many labels", 9, inputs=layer("many", 9, classes=37), target=many)
    soft = uniform("soft", 8, CLASSES)
    yield call("bool target", 8, target=soft < 0.4)
    yield call("hard target", 8, target=(soft < 0.4).double())
    yield call("soft", 8, target=soft)
    yield call("mixed", 8, target=mixed(soft))
    yield call("masked", 8, batch={"mask": uniform("mask", 8, CLASSES) < 0.6})
    yield call("soft and masked", 8, target=soft, batch={"mask": uniform("mask", 8, CLASSES) < 0.6})
    yield call("rows masked", 8, batch={"mask": uniform("mask rows", 8, 1) < 0.5})
    yield call("labels masked", 8, batch={"mask": uniform("mask labels", CLASSES) < 0.5})
    yield call("sequences masked", 2, 4, batch={"mask": uniform("mask sequences", 4, CLASSES) < 0.5})
    yield call("all masked", 8, batch={"mask": torch.zeros(8, 1, dtype=torch.bool)}, nothing=True)


def few_of_many(name: str, *lead: int) -> Tensor:
    """Up to three labels of each row."""
    return integers(name, CLASSES, *lead, 3).masked_fill(uniform(name, *lead, 3) < 0.4, -1)


def strided(name: str, rows: int) -> dict[str, Tensor]:
    """The layer with its memory transposed, full of holes or repeated."""
    return {
        "input": normal(name, FEATURES, 2 * rows, scale=1.0)[:, ::2].t(),
        "linear_weight": normal(name, FEATURES, CLASSES, scale=2.0).t(),
        "linear_bias": normal(name, 1, scale=1.0).expand(CLASSES),
    }


def head_call(card: Card, name: str, sample: Mapping[str, Any] | None = None) -> Call:
    return next(call for call in head_calls(card, sample) if call.name == name)


def reductions(card: Card) -> tuple[str, ...]:
    """Those that give a scalar."""
    return ("sum", "mean") if is_softmax(card) else ("sum", "mean", "mean_positive")


def fitting_calls(card: Card, sample: Mapping[str, Any]) -> list[Call]:
    """The calls with as many classes as the sample's vectors have numbers."""
    vectors = any(isinstance(each, (tuple, list)) for each in sample.values())
    calls = head_calls(card, sample)
    return [call for call in calls if not vectors or len(call.inputs["linear_weight"]) == CLASSES]


def truth(card: Card, sample: Mapping[str, Any], call: Call) -> Answer:
    """What the oracle says at the call's (possibly rounded) inputs."""
    options = {name: value for name, value in sample.items() if name != "reduction"}
    options |= {name: as_array(tensor) for name, tensor in call.batch.items()}
    inputs = {name: as_array(tensor) for name, tensor in call.inputs.items()}
    assert call.target is not None
    return HEADS[card.name](inputs, as_array(call.target), options)


def each_head(line: str, where: Callable[[Card], bool] = lambda card: True) -> pytest.MarkDecorator:
    """Runs a test for every head to which the line applies."""
    return pytest.mark.parametrize("card", [applies(line, card) for card in HEAD_CARDS if where(card)])


def each_head_sample(line: str, where: Callable[[Card], bool] = lambda card: True) -> pytest.MarkDecorator:
    """Runs a test for every head and option set."""
    found = [
        applies(line, card, sample, name=name) for card in HEAD_CARDS if where(card) for name, sample in samples(card)
    ]
    return pytest.mark.parametrize(("card", "sample"), found)
