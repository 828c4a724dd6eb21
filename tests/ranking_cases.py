"""The calls on which every ranking loss is tried, and the harness that makes them.

The counterpart of `cases.py` and `harness.py` for losses of several tensors: pairs, groups, batches of embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from cases import integers, normal, uniform
from cases import samples as samples_of
from equipoise.card import Card
from equipoise.catalog import CARDS
from equipoise.loss import Loss
from harness import applies, as_array, leaf
from oracle.ranking import Answer, answer

RANKED = tuple(card for card in CARDS if card.kind in ("pairs", "embeddings", "groups"))


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a loss.

    Attributes:
        name: what it is about.
        inputs: the tensors that a gradient is wanted of, by argument, in order; `reference` is passed by keyword.
        target: what follows by position: targets, labels or None.
        batch: further keywords of `forward`.
        nothing: whether there is no pair, triplet or group in it.
        smooth: whether no kink, tie or edge is near.
    """

    name: str
    inputs: Mapping[str, Tensor]
    target: Tensor | None = None
    batch: Mapping[str, Tensor] = field(default_factory=dict)
    nothing: bool = False
    smooth: bool = True

    def to(self, dtype: torch.dtype) -> Call:
        return replace(self, inputs={name: tensor.to(dtype) for name, tensor in self.inputs.items()})

    def with_inputs(self, change: Callable[[Tensor], Tensor]) -> Call:
        return replace(self, inputs={name: change(tensor) for name, tensor in self.inputs.items()})


# ---------------------------------------------------------------------------------------------------- pairs


def pair_names(card: Card) -> tuple[str, ...]:
    return ("anchor", "positive", "negative") if card.name == "triplet" else ("input1", "input2")


def pair_target(card: Card, shape: tuple[int, ...], name: str) -> Tensor | None:
    if card.name == "triplet":
        return None
    yes = integers(name, 2, *shape)
    return yes if card.name == "contrastive" else 2 * yes - 1


def pair_calls(card: Card) -> Iterator[Call]:
    names = pair_names(card)
    scores = card.name == "margin_ranking"  # one number a side, not a vector

    def call(name: str, *shape: int, **more: Any) -> Call:
        inputs = {each: normal(f"{name} {each}", *shape, scale=0.8) for each in names}
        target = pair_target(card, shape if scores else shape[:-1], name)
        return Call(**{"name": name, "inputs": inputs, "target": target, **more})

    yield call("typical", 12, 5)
    yield call("one pair", 1, 3)
    yield call("one dimension", 4)
    yield call("dense", 2, 3, 4)
    yield call("empty", 0, 4, nothing=True)
    same = normal("same", 6, 4)
    if scores:
        return
    yield replace(call("all equal", 6, 4), inputs={each: same.clone() for each in names}, smooth=False)
    yield replace(call("zeros", 6, 4), inputs={each: torch.zeros_like(same) for each in names}, smooth=False)
    first, *others = names
    half = {first: torch.zeros_like(same), **{each: normal(f"half {each}", 6, 4) for each in others}}
    yield replace(call("one side zero", 6, 4), inputs=half, smooth=False)
    strided = {each: normal(f"strided {each}", 10, 6)[::2, 1:5] for each in names}
    yield replace(call("strided", 5, 4), inputs=strided)


# --------------------------------------------------------------------------------------------------- groups


def group_calls(card: Card, sample: Mapping[str, Any]) -> Iterator[Call]:
    size = sample.get("num_neg", 1) + 1

    def call(name: str, groups: int, **more: Any) -> Call:
        return Call(**{"name": name, "inputs": {"input": normal(name, groups * size)}, **more})

    yield call("typical", 6)
    yield call("one group", 1)
    yield call("empty", 0, nothing=True)
    yield replace(call("column", 5), inputs={"input": normal("column", 5 * size, 1)})
    yield replace(call("rows", 5), inputs={"input": normal("rows", 5, size)})
    yield replace(call("strided", 5), inputs={"input": normal("strided", 5 * size, 2)[:, 0]})
    for gap in (30.0, 100.0, 300.0, -30.0, -100.0, -300.0):
        scores = torch.zeros(4, size, dtype=torch.float64)
        scores[:, 0] = gap
        scores[:, 1:] += 0.1 * normal("gap", 4, size - 1)
        yield replace(call(f"gap {gap:g}", 4), inputs={"input": scores})
    if card.name == "rank_cross_entropy":
        yield call("target", 4, target=uniform("target", 4 * size))
        yield call("integer target", 4, target=integers("target", 3, 4, size))


# ----------------------------------------------------------------------------------------------- embeddings


def embedding_calls(card: Card) -> Iterator[Call]:
    def call(name: str, rows: Tensor, label: Tensor, **more: Any) -> Call:
        return Call(**{"name": name, "inputs": {"embedding": rows}, "target": label, **more})

    few = torch.tensor([0, 1, 1, 2, 0, 2, 2, 1, 3, 2, 0, 2])
    yield call("typical", normal("typical", 12, 4, scale=0.8), few)
    yield call("negative labels", normal("negative", 8, 3), torch.tensor([-5, 7, -5, 7, 100, -5, 100, 7]))
    yield call("int32 labels", normal("int32", 6, 3), torch.tensor([0, 1, 0, 1, 2, 2]).int())
    yield call("byte labels", normal("byte", 6, 3), torch.tensor([0, 255, 0, 255, 2, 2]).byte())
    yield call("two", normal("two", 2, 3), torch.tensor([1, 1]), nothing=card.name == "batch_triplet")
    yield call("one of a class of two", normal("lonely", 3, 3), torch.tensor([1, 0, 1]))
    yield call("one class", normal("one class", 6, 3), torch.ones(6).long(), nothing=card.name == "batch_triplet")
    alone = card.name in ("batch_triplet", "supcon")
    yield call("classes of one", normal("alone", 5, 3), torch.arange(5), nothing=alone)
    yield call("one", normal("one", 1, 3), torch.tensor([0]), nothing=True)
    yield call("empty", normal("empty", 0, 3), torch.zeros(0).long(), nothing=True)
    yield call("strided", normal("strided", 24, 8)[::2, ::2], few)
    twins = normal("twins", 6, 4).repeat_interleave(2, 0)
    yield call("duplicates", twins, torch.arange(12) // 4, smooth=False)
    yield call("duplicates in other classes", twins, torch.arange(12) % 3, smooth=False)
    yield call("all equal", torch.ones(8, 3).double(), torch.arange(8) // 2, smooth=False)
    yield call("zeros", torch.zeros(8, 3).double(), torch.arange(8) // 2, smooth=False)
    grid = torch.arange(12).double()[:, None] % 5
    yield call("ties on a line", grid, few, smooth=False)
    yield from masked_calls(few)
    yield from reference_calls(few)


def masked_calls(label: Tensor) -> Iterator[Call]:
    rows = {"embedding": normal("masks", 12, 4)}
    alike = label[:, None] == label
    yield Call(name="masks", inputs=rows, batch={"positive": alike, "negative": ~alike})
    yield Call(name="positives alone", inputs=rows, batch={"positive": alike})
    drawn = uniform("drawn", 12, 12)
    yield Call(name="lopsided masks", inputs=rows, batch={"positive": drawn < 0.3, "negative": drawn > 0.5})
    none = torch.zeros(12, 12, dtype=torch.bool)
    yield Call(name="no pairs", inputs=rows, batch={"positive": none, "negative": none}, nothing=True)


def reference_calls(label: Tensor) -> Iterator[Call]:
    rows, bank = normal("batch", 6, 4), normal("bank", 9, 4)
    labels = {"reference_label": integers("bank", 4, 9)}
    both = {"embedding": rows, "reference": bank}
    yield Call(name="reference", inputs=both, target=label[:6], batch=labels)
    fixed = {"reference": bank, **labels}
    yield Call(name="reference without gradient", inputs={"embedding": rows}, target=label[:6], batch=fixed)
    drawn = uniform("drawn", 6, 15)
    masks = {"positive": drawn < 0.3, "negative": drawn > 0.5}
    yield Call(name="reference and masks", inputs=both, batch=masks)
    copied = {"embedding": rows, "reference": torch.cat([rows[:3], bank])}
    labels = {"reference_label": torch.cat([label[:3], integers("bank", 4, 9)])}
    yield Call(name="batch in its reference", inputs=copied, target=label[:6], batch=labels, smooth=False)


def query_calls() -> Iterator[Call]:
    def call(name: str, rows: int, **more: Any) -> Call:
        inputs = {each: normal(f"{name} {each}", rows, 4, scale=0.8) for each in ("query", "key")}
        return Call(**{"name": name, "inputs": inputs, **more})

    yield call("typical", 9)
    yield call("one pair", 1)
    yield call("empty", 0, nothing=True)
    yield call("labels", 9, batch={"label": integers("labels", 3, 9)})
    yield call("one label", 5, batch={"label": torch.ones(5).long()})
    zeros = torch.zeros(4, 3).double()
    yield replace(call("zeros", 4), inputs={"query": zeros, "key": zeros.clone()}, smooth=False)
    same = normal("same", 5, 4)
    yield replace(call("query is key", 5), inputs={"query": same, "key": same.clone()})


def calls(card: Card, sample: Mapping[str, Any] | None = None) -> list[Call]:
    """Every call that fits the card under the options of `sample`."""
    if card.kind == "pairs":
        return list(pair_calls(card))
    if card.kind == "groups":
        return list(group_calls(card, sample or {}))
    return list(query_calls() if card.name == "info_nce" else embedding_calls(card))


def call_named(card: Card, name: str, sample: Mapping[str, Any] | None = None) -> Call:
    return next(call for call in calls(card, sample) if call.name == name)


def samples(card: Card) -> list[tuple[str, dict[str, Any]]]:
    return samples_of(card)


def reductions(card: Card) -> tuple[str, ...]:
    """Those that give a scalar."""
    return ("sum", "mean", "mean_active") if card.name == "batch_triplet" else ("sum", "mean")


def has_none(card: Card) -> bool:
    """Whether there is a loss for each row, so that `reduction="none"` means something."""
    return card.kind != "embeddings"


# -------------------------------------------------------------------------------------------------- harness


def build(card: Card, sample: Mapping[str, Any], **more: Any) -> Loss:
    return card.module(**{**card.required, **sample, **more})


def evaluate(loss: Callable[..., Tensor], call: Call) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, and the gradients of its sum by input."""
    leaves = {name: leaf(tensor) for name, tensor in call.inputs.items()}
    value = invoke(loss, call, leaves)
    gradients = torch.autograd.grad(value.sum(), list(leaves.values()))
    return value.detach(), dict(zip(leaves, gradients, strict=True))


def invoke(loss: Callable[..., Tensor], call: Call, inputs: Mapping[str, Tensor] | None = None) -> Tensor:
    """The call with these inputs (or its own)."""
    given = dict(call.inputs if inputs is None else inputs)
    keywords = {name: given.pop(name) for name in ("reference", "linear_bias") if name in given}
    position = () if call.target is None else (call.target,)
    return loss(*given.values(), *position, **keywords, **call.batch)


def truth(card: Card, sample: Mapping[str, Any], call: Call) -> Answer:
    """What the oracle says at the call's (possibly rounded) inputs."""
    options = {**card.required, **sample, **{name: as_array(tensor) for name, tensor in call.batch.items()}}
    inputs = {name: as_array(tensor) for name, tensor in call.inputs.items()}
    return answer(card.name, inputs, None if call.target is None else as_array(call.target), options)


def each_ranked(line: str, where: Callable[[Card], bool] = lambda card: True) -> pytest.MarkDecorator:
    """Runs a test for every ranking card to which the line applies."""
    return pytest.mark.parametrize("card", [applies(line, card) for card in RANKED if where(card)])


def each_ranked_sample(line: str, where: Callable[[Card], bool] = lambda card: True) -> pytest.MarkDecorator:
    """Runs a test for every ranking card and option set."""
    found = [applies(line, card, sample, name=name) for card in RANKED if where(card) for name, sample in samples(card)]
    return pytest.mark.parametrize(("card", "sample"), found)


def each_call(
    line: str, where: Callable[[Card], bool] = lambda card: True, which: Callable[[Call], bool] = lambda call: True
) -> pytest.MarkDecorator:
    """Runs a test for every ranking card, option set and call."""
    found = [
        applies(line, card, sample, call, name=f"{name}-{call.name}")
        for card in RANKED
        if where(card)
        for name, sample in samples(card)
        for call in calls(card, sample)
        if which(call)
    ]
    return pytest.mark.parametrize(("card", "sample", "call"), found)
