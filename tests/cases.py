"""The inputs on which every loss is tried, derived from its card.

Everything is float64, on the CPU and drawn from a generator seeded by the case's name, so that a case is the same
wherever it is built. `Case.to` converts the scores to another precision.
"""

from __future__ import annotations

import inspect
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from equipoise import catalog
from equipoise.card import Card

CARDS = tuple(card for card in catalog.CARDS if card.kind in ("elementwise", "rows"))
"""The losses of one input and its target; `ranking_cases.py` has those of pairs, groups and embeddings."""

EXTREMES = (-1e4, -100.0, -30.0, -1.0, 0.0, 1.0, 30.0, 100.0, 1e4)
"""Scores from the hardest to the easiest example; 1e4 is near the end of float16's range."""

CLASSES = 4
"""The number of classes where no vector option says otherwise."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One call of a loss.

    Attributes:
        name: what the case is about.
        kind: what the target holds: a number for each score (`elements`), the class of each sample (`indices`), or a
            distribution over the classes in dimension 1 (`probabilities`).
        input: the scores.
        target: the labels.
        batch: the keywords of `forward`: `mask` or `sample_weight`.
        options: constructor options that belong to the case, such as `ignore_index`.
        hard: whether every kept target is a class or a plain yes or no.
        nothing: whether the batch is empty or wholly ignored.
    """

    name: str
    kind: Literal["elements", "indices", "probabilities"]
    input: Tensor
    target: Tensor
    batch: Mapping[str, Tensor] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    hard: bool = True
    nothing: bool = False

    @property
    def kept(self) -> Tensor:
        """Which elements (or samples) count, in the shape of the values without reduction."""
        if self.kind == "elements":
            return self.batch.get("mask", torch.ones((), dtype=torch.bool)).expand_as(self.input)
        if self.kind == "indices":
            return self.target != self.options.get("ignore_index", -100)
        return torch.ones_like(self.target[:, 0], dtype=torch.bool)

    def to(self, dtype: torch.dtype) -> Case:
        """The case with scores of another precision; float targets and weights follow, as they do in training."""

        def cast(tensor: Tensor) -> Tensor:
            return tensor.to(dtype) if tensor.is_floating_point() else tensor

        batch = {name: cast(value) for name, value in self.batch.items()}
        return replace(self, input=self.input.to(dtype), target=cast(self.target), batch=batch)


def rows_of(case: Case, rows: slice) -> Case:
    """Some rows of a case, in memory of their own."""

    def cut(tensor: Tensor) -> Tensor:
        return tensor[rows].clone(memory_format=torch.contiguous_format)

    batch = {name: cut(tensor) for name, tensor in case.batch.items()}
    return replace(case, input=cut(case.input), target=cut(case.target), batch=batch)


# --------------------------------------------------------------------------------------------- what a card can do


def parameters(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of a function, a method or a constructor by name, without `self`."""
    found = dict(inspect.signature(target).parameters)
    found.pop("self", None)
    return found


def takes(card: Card, keyword: str) -> bool:
    """Whether the module takes `keyword`, as an option or with the batch."""
    return keyword in parameters(card.module) or keyword in parameters(card.module.forward)


def is_stateful(card: Card) -> bool:
    return takes(card, "momentum")


def is_regression(card: Card) -> bool:
    return "regression" in card.problems


def has_indices(card: Card) -> bool:
    """Whether a target can hold class indices."""
    return "multiclass" in card.problems


def class_dimension(card: Card) -> int:
    """The dimension of the input that holds the classes: 1 as in torch for softmax losses, else the last."""
    return 1 if card.op_family == "rowwise" else -1


def has_elements(card: Card) -> bool:
    """Whether a target can have the shape of the input, one question per score."""
    return class_dimension(card) == -1 and bool(card.problems & {"binary", "multilabel", "regression"})


def has_probabilities(card: Card) -> bool:
    """Whether a target can hold a distribution over the classes; a weight by count needs to know the one class."""
    return class_dimension(card) == 1 and not takes(card, "counts")


def card_named(name: str) -> Card:
    return next(card for card in CARDS if card.name == name)


def constructor_options(card: Card, sample: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """What the module needs, the sample's options and further ones on top, the last word winning."""
    return {**card.required, **sample, **more}


def number_of_classes(options: Mapping[str, Any]) -> int:
    """The length of the first vector option, for the inputs must fit it."""
    for name in ("counts", "weight", "pos_weight", "alpha"):
        vector = torch.as_tensor(options[name]) if options.get(name) is not None else None
        if vector is not None and vector.ndim == 1:
            return len(vector)
    return CLASSES


# ------------------------------------------------------------------------------------------------------- drawing


def generator(name: str) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(name.encode()))


def normal(name: str, *shape: int, scale: float = 3.0) -> Tensor:
    return scale * torch.randn(*shape, generator=generator(name), dtype=torch.float64)


def uniform(name: str, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=generator(name), dtype=torch.float64)


def integers(name: str, below: int, *shape: int) -> Tensor:
    return torch.randint(below, shape, generator=generator(name))


def distributions(name: str, rows: int, classes: int, *more: int) -> Tensor:
    """Rows of probabilities, the classes in dimension 1."""
    return uniform(name, rows, classes, *more).softmax(dim=1)


def labels_like(card: Card, input: Tensor, name: str) -> Tensor:
    """Hard labels, or for regression targets whose residuals spread over all sizes."""
    if is_regression(card):
        return input - normal(name, *input.shape, scale=1.0) * 10.0 ** -(4 * uniform(name + " size", *input.shape))
    return integers(name, 2, *input.shape).double()


# ----------------------------------------------------------------------------------- one score, one yes or no


def element_cases(card: Card, classes: int, prefix: str = "") -> Iterator[Case]:
    """Cases whose target has the shape of the input, the classes last."""

    def case(name: str, input: Tensor, target: Tensor | None = None, **more: Any) -> Case:
        target = labels_like(card, input, name) if target is None else target
        return Case(name=prefix + name, kind="elements", input=input, target=target, **more)

    yield case("typical", normal("typical", 16, classes))
    yield case("one sample", normal("one sample", 1, classes))
    yield case("one dimension", normal("one dimension", classes))
    yield case("dense, classes last", normal("dense", 2, 3, 4, classes))
    yield case("empty", normal("empty", 0, classes), nothing=True)
    yield from extreme_element_cases(card, classes, case)
    yield from strided_cases(classes, case)
    yield from masked_cases(card, classes, case)
    if not is_regression(card):
        yield from label_cases(card, classes, case)


def extreme_element_cases(card: Card, classes: int, case: Callable[..., Case]) -> Iterator[Case]:
    scores = torch.tensor(EXTREMES, dtype=torch.float64).repeat_interleave(2)[:, None].expand(-1, classes).contiguous()
    target = torch.tensor([0.0, 1.0], dtype=torch.float64).repeat(len(EXTREMES))[:, None].expand_as(scores).contiguous()
    yield case("extreme", scores, target)
    if not is_regression(card):
        soft = torch.tensor([0.25, 0.75], dtype=torch.float64).repeat(len(EXTREMES))[:, None]
        yield case("extreme, soft", scores, soft.expand_as(scores).contiguous(), hard=False)


def strided_cases(classes: int, case: Callable[..., Case]) -> Iterator[Case]:
    """Scores whose memory is transposed, full of holes, or shared between rows."""
    yield case("transposed", normal("transposed", classes, 6).t())
    yield case("strided", normal("strided", 6, 2 * classes)[:, ::2])
    yield case("expanded", normal("expanded", 1, classes).expand(5, -1))


def masked_cases(card: Card, classes: int, case: Callable[..., Case]) -> Iterator[Case]:
    if not takes(card, "mask"):
        return
    scores = normal("masked", 8, classes)
    yield case("masked", scores, batch={"mask": uniform("mask", 8, classes) < 0.6})
    yield case("rows masked", scores, batch={"mask": (uniform("mask rows", 8) < 0.5)[:, None]})
    yield case("all masked", scores, batch={"mask": torch.zeros(8, classes, dtype=torch.bool)}, nothing=True)


def label_cases(card: Card, classes: int, case: Callable[..., Case]) -> Iterator[Case]:
    scores = normal("labels", 8, classes)
    hard = integers("labels", 2, 8, classes)
    if not has_indices(card):  # else integers are indices
        yield case("integer target", scores, hard)
        yield case("byte target", scores, hard.to(torch.uint8))
    yield case("bool target", scores, hard.bool())
    yield case("float32 target", scores, hard.float())
    yield case("strided target", scores, hard.double().repeat_interleave(2, dim=1)[:, ::2])
    yield case("expanded target", scores, hard.double()[:1].expand(8, -1))
    yield case("all positive", scores, torch.ones_like(scores))
    yield case("all negative", scores, torch.zeros_like(scores))
    yield case("soft", scores, uniform("soft", 8, classes), hard=False)
    yield case("mixed", scores, mixed(uniform("soft", 8, classes)), hard=False)


def mixed(soft: Tensor) -> Tensor:
    """Soft labels of which every third became a 0 and every third a 1."""
    third = torch.arange(soft.numel()).reshape(soft.shape) % 3
    return torch.where(third == 0, soft, (third == 1).to(soft.dtype))


# -------------------------------------------------------------------------------------------- one class of many


def index_cases(card: Card, classes: int, ignore_index: int) -> Iterator[Case]:
    """Cases whose target holds class indices. The classes lie in dimension 1 of the input, or in the last."""

    def case(name: str, input: Tensor, target: Tensor | None = None, **more: Any) -> Case:
        """Takes the classes in dimension 1, as torch has them."""
        if target is None:
            target = integers(name, classes, input.shape[0], *input.shape[2:])
        scores = input if class_dimension(card) == 1 else input.movedim(1, -1)
        return Case(name=name, kind="indices", input=scores, target=target, **more)

    yield case("typical", normal("typical", 16, classes))
    yield case("one sample", normal("one sample", 1, classes))
    yield case("dense", normal("dense", 2, classes, 3, 4))
    yield case("sequence", normal("sequence", 3, classes, 5))
    yield case("empty", normal("empty", 0, classes), nothing=True)
    yield case("empty map", normal("empty", 2, classes, 0, 3), nothing=True)
    yield case("one class", normal("one class", 6, classes), torch.full((6,), classes - 1))
    yield case("int32 target", normal("int32", 6, classes), integers("int32", classes, 6).int())
    yield case("byte target", normal("byte", 6, classes), integers("byte", classes, 6).byte())
    yield Case(name="no batch", kind="indices", input=normal("no batch", classes), target=torch.tensor(classes - 1))
    yield from ignored_cases(classes, ignore_index, case)
    yield from extreme_row_cases(classes, case)
    yield from strided_cases(classes, case)
    if takes(card, "sample_weight"):
        weights = {"sample_weight": uniform("sample weights", 8)}
        yield case("sample weights", normal("sample weights", 8, classes), batch=weights)


def ignored_cases(classes: int, ignore_index: int, case: Callable[..., Case]) -> Iterator[Case]:
    scores = normal("ignored", 8, classes)
    target = integers("ignored", classes, 8)
    dropped = uniform("dropped", 8) < 0.4
    yield case("ignored", scores, target.masked_fill(dropped, ignore_index))
    yield case("ignored 255", scores, target.masked_fill(dropped, 255), options={"ignore_index": 255})
    yield case("a class ignored", scores, target, options={"ignore_index": 1})
    yield case("all ignored", scores, torch.full((8,), ignore_index), nothing=True)


def extreme_row_cases(classes: int, case: Callable[..., Case]) -> Iterator[Case]:
    """The true class's score far below, at and far above the others', which lie at 0 but for one."""
    scores = torch.zeros(len(EXTREMES), classes, dtype=torch.float64)
    target = torch.arange(len(EXTREMES)) % classes
    scores[torch.arange(len(EXTREMES)), target] = torch.tensor(EXTREMES, dtype=torch.float64)
    scores[torch.arange(len(EXTREMES)), (target + 1) % classes] += 0.5
    yield case("extreme", scores, target)
    yield case("extreme offset", scores - 1e4, target)


def probability_cases(card: Card, classes: int) -> Iterator[Case]:
    def case(name: str, input: Tensor, target: Tensor, **more: Any) -> Case:
        name = f"probabilities, {name}"
        return Case(name=name, kind="probabilities", input=input, target=target, hard=False, **more)

    scores = normal("probabilities", 8, classes)
    soft = distributions("probabilities", 8, classes)
    one_hot = torch.nn.functional.one_hot(integers("one-hot", classes, 8), classes).double()
    yield case("typical", scores, soft)
    yield case("one-hot", scores, one_hot)
    yield case("mixed", scores, torch.where(torch.arange(8)[:, None] % 2 == 0, soft, one_hot))
    yield case("dense", normal("dense", 2, classes, 3, 4), distributions("dense", 2, classes, 3, 4))
    yield case("empty", scores[:0], soft[:0], nothing=True)
    extreme = torch.tensor(EXTREMES, dtype=torch.float64)[:, None] * torch.linspace(-1, 1, classes).double()
    yield case("extreme", extreme, distributions("extreme", len(EXTREMES), classes))
    if takes(card, "sample_weight"):
        yield case("sample weights", scores, soft, batch={"sample_weight": uniform("sample weights", 8)})


# ---------------------------------------------------------------------------------------------- all of them


def cases(card: Card, sample: Mapping[str, Any] | None = None) -> list[Case]:
    """Every case that fits the card under the options of `sample`."""
    options = constructor_options(card, sample or {})
    classes = number_of_classes(options)
    found: list[Case] = []
    if has_indices(card):
        found += index_cases(card, classes, options.get("ignore_index", -100))
    if has_probabilities(card) and options.get("ignore_index", -100) < 0:
        found += probability_cases(card, classes)
    if has_elements(card):
        found += element_cases(card, classes, prefix="multi-label, " if has_indices(card) else "")
    if "ignore_index" in options:
        found = [replace(case, options={"ignore_index": options["ignore_index"], **case.options}) for case in found]
    return found


def case_named(card: Card, name: str, sample: Mapping[str, Any] | None = None) -> Case:
    return next(case for case in cases(card, sample) if case.name == name)


VECTORS = {"weight": (0.5, 2.0, 1.0, 3.0), "pos_weight": (3.0, 1.0, 0.2, 2.0), "alpha": (0.1, 0.5, 0.9, 0.3)}
"""One number per class for every option that takes them."""


def samples(card: Card) -> list[tuple[str, dict[str, Any]]]:
    """The card's option sets, each with its name, and two more: all vectors at once, and the strongest focus.

    Reduction and distribution are left out of them: they have tests of their own.
    """
    options = parameters(card.module)
    further: list[Mapping[str, Any]] = []
    if "counts" not in options and (vectors := {name: VECTORS[name] for name in VECTORS if name in options}):
        further.append({**vectors, **({"label_smoothing": 0.1} if "label_smoothing" in options else {})})
    if "gamma" in options:
        further.append({"gamma": 20.0})
    found: dict[str, dict[str, Any]] = {}
    for sample in (*card.samples, *further):
        chosen = {name: value for name, value in sample.items() if name not in ("reduction", "sync")}
        found.setdefault(_named(chosen) or "default", chosen)
    return list(found.items())


def _named(options: Mapping[str, Any]) -> str:
    return ",".join(f"{name}={_short(value)}" for name, value in options.items())


def _short(value: Any) -> str:
    if isinstance(value, (list, tuple)) or (hasattr(value, "ndim") and value.ndim):
        return "vector"
    return str(value.item() if isinstance(value, Tensor) else value)


def distance_to_bin_edge(card: Card, case: Case, options: Mapping[str, Any]) -> float:
    """How far the nearest gradient length lies from a histogram edge that would change its weight, in bins."""
    bins = options.get("bins", 10)
    if is_regression(card):
        residual = case.input - case.target
        length = residual.abs() / torch.hypot(residual, torch.tensor(options.get("mu", 0.02), dtype=torch.float64))
    else:
        length = (torch.sigmoid(case.input) - case.target).abs()
    inner = length * bins
    inner = inner[(inner > 0.5) & (inner < bins - 0.5)]  # 0 and 1 are no edges
    return float((inner - inner.round()).abs().min()) if inner.numel() else math.inf
