"""What all balancers share: which tasks a call holds, what is remembered of it, and state that keeps its precision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from .. import checks, distributed
from ..loss import Loss

Losses = Mapping[str, Tensor] | Tensor
Mask = Mapping[str, bool] | Sequence[bool] | Tensor


@dataclass(frozen=True)
class Call:
    """The losses of one call, in the order of the tasks; 0 stands where there is none.

    Attributes:
        terms: the losses of this rank as they came, None where there is none.
        values: `[T]`, float32 or float64, with their graph.
        seen: `[T]`, the same without a graph, on all ranks where the balancer is synchronised.
        present: which tasks have a loss, on any rank.
        moves: `[T]`, boolean: whose state may move; none where a loss is not finite.
        finite: 0-d, boolean.
        over_ranks: whether `seen` holds what other ranks have, too.
    """

    terms: tuple[Tensor | None, ...]
    values: Tensor
    seen: Tensor
    present: tuple[bool, ...]
    moves: Tensor
    finite: Tensor
    over_ranks: bool

    @property
    def here(self) -> Tensor:
        """`[T]`, boolean: which tasks have a loss; made where the losses are, without a copy that waits."""
        return flags(self.present, self.seen)


def flags(present: Sequence[bool], like: Tensor) -> Tensor:
    """A boolean vector on the device of `like`."""
    yes, no = like.new_ones((), dtype=torch.bool), like.new_zeros((), dtype=torch.bool)
    return yes.expand(len(present)) if all(present) else torch.stack([yes if each else no for each in present])


class Balancer(Loss):
    """A module that makes one loss of several.

    State is float32, whatever `.half()` or `.bfloat16()` say: a small step is nothing in half precision.

    Args:
        tasks: their names.
        sync: whether statistics are global over the process group.

    """

    def __init__(self, tasks: Sequence[str], *, sync: bool = False) -> None:
        super().__init__()
        self.tasks = names(tasks)
        self.sync = sync
        self._last: tuple[tuple[str, ...], Tensor, Tensor] | None = None

    @property
    def weights(self) -> dict[str, Tensor]:
        """What multiplied each loss in the last call, by task, without a graph."""
        return {} if self._last is None else dict(zip(self._last[0], self._last[1].unbind(), strict=True))

    @property
    def losses(self) -> dict[str, Tensor]:
        """The losses of the last call, by task, without a graph: what to log, and what a scheduler is to go by."""
        return {} if self._last is None else dict(zip(self._last[0], self._last[2].unbind(), strict=True))

    def forward(self, losses: Losses, *, mask: Mask | None = None) -> Tensor:
        """The total of the losses of the tasks that are there.

        Args:
            losses: a loss by task, each a scalar; a task that is left out is absent. Or a vector in the order of the
                tasks.
            mask: whether each task is there, by task or in their order. A tensor is read, for which a GPU waits.
                Default: `None`.

        Returns:
            A scalar, float32 or float64; a differentiable 0 where all tasks are absent.
        """
        call = self._call(losses, mask)
        return self._balance(call)

    def param_groups(self, lr: float | None = None) -> list[dict[str, Any]]:
        """What the optimiser is to have of the balancer: no weight decay, which would pull its weights to 1.

        Args:
            lr: the learning rate; None leaves the optimiser's.

        Returns:
            One group, or none where nothing is learned by gradients.
        """
        parameters = list(self.parameters())
        # `fused`: all numbers at once, for one by one forty cost a CPU a tenth of a small step
        group: dict[str, Any] = {"params": parameters, "weight_decay": 0.0, "fused": True}
        return [group if lr is None else {**group, "lr": lr}] if parameters else []

    def _balance(self, call: Call) -> Tensor:
        """The total, and a note of what it was made of."""
        weights, cost = self._weigh(call)
        total = _weighed(call, weights) + cost if any(call.present) else _nothing(call.values)
        if call.over_ranks:  # what is not finite on one rank makes the step worthless on all, and all must know
            total = total + torch.where(call.finite, 0.0, torch.nan)
        self._remember(call, weights.detach())
        return total

    def _weigh(self, call: Call) -> tuple[Tensor, Tensor | float]:
        """`[T]`, what each loss is multiplied by, and what is added to the sum; state moves here."""
        raise NotImplementedError

    def _learned(self, parameters: torch.nn.ParameterDict, call: Call) -> Tensor:
        """`[T]`: an absent task's parameter has no part in the graph, and none has where a loss is not finite."""
        nothing = call.seen.new_zeros((), dtype=torch.float32)
        pairs = zip(self.tasks, call.present, strict=True)
        stacked = torch.stack([parameters[name] if here else nothing for name, here in pairs])
        return torch.where(call.finite, stacked, stacked.detach())

    def _remember(self, call: Call, weights: Tensor) -> None:
        """Keeps vectors, of which `weights` and `losses` are made when somebody asks: few do in every step."""
        if all(call.present):
            self._last = (self.tasks, weights, call.seen)
            return
        rows = [row for row, here in enumerate(call.present) if here]
        names = tuple(self.tasks[row] for row in rows)
        parts = [[vector.unbind()[row] for row in rows] for vector in (weights, call.seen)]
        self._last = (names, torch.stack(parts[0]), torch.stack(parts[1])) if names else None

    def _call(self, losses: Losses, mask: Mask | None) -> Call:
        given = self._by_task(losses)
        present = self._present(given, mask)
        first = next((each for each in given.values()), None)
        if first is None:
            anchor = next((each for each in (*self.parameters(), *self.buffers())), None)
            first = torch.zeros((), device=None if anchor is None else anchor.device)
        dtype = torch.float64 if any(each.dtype == torch.float64 for each in given.values()) else torch.float32
        nothing = first.new_zeros((), dtype=dtype)
        terms = tuple(given[name] if here else None for name, here in zip(self.tasks, present, strict=True))
        values = torch.stack([nothing if each is None else each.to(dtype) for each in terms])
        over_ranks = distributed.world_size(self.sync) > 1
        seen = values.detach()
        if over_ranks:
            seen, present = self._over_ranks(seen, present)
        finite = seen.isfinite().all()
        return Call(terms, values, seen, present, flags(present, seen) & finite, finite, over_ranks)

    def _over_ranks(self, seen: Tensor, present: tuple[bool, ...]) -> tuple[Tensor, tuple[bool, ...]]:
        """The mean of the ranks' losses, each of which is scaled so that it is that of all, and which task has any."""
        joined = distributed.sum_over_ranks(torch.cat([seen, flags(present, seen).to(seen.dtype)]), self.sync)
        total, ranks = joined.chunk(2)
        return total / distributed.world_size(self.sync), tuple(each > 0 for each in ranks.tolist())

    def _by_task(self, losses: Losses) -> Mapping[str, Tensor]:
        if not isinstance(losses, Mapping):
            if checks.scores("losses", losses).shape != (len(self.tasks),):
                shape = list(losses.shape)
                raise ValueError(
                    f"`losses` must be a mapping, or a vector of {len(self.tasks)} tasks, got shape {shape}"
                )
            return dict(zip(self.tasks, losses.unbind(), strict=True))
        known(losses, "losses", self.tasks)
        for name, loss in losses.items():
            if isinstance(loss, Tensor) and not loss.ndim and loss.is_floating_point():
                continue  # naming the argument takes longer than looking
            if checks.scores(f"losses[{name!r}]", loss).ndim:
                raise ValueError(f"`losses[{name!r}]` must be a scalar, got {checks.describe(loss)}")
        return losses

    def _present(self, losses: Mapping[str, Tensor], mask: Mask | None) -> tuple[bool, ...]:
        if isinstance(mask, Mapping):
            known(mask, "mask", self.tasks)
            wanted = [bool(mask.get(name, True)) for name in self.tasks]
        elif mask is None:
            wanted = [True] * len(self.tasks)
        elif not _is_list(mask):
            raise TypeError(
                f"`mask` must be a mapping, a list or a vector of {len(self.tasks)} tasks, got {checks.describe(mask)}"
            )
        else:
            wanted = [bool(each) for each in (mask.tolist() if isinstance(mask, Tensor) else mask)]
        if len(wanted) != len(self.tasks):
            raise ValueError(f"`mask` must hold {len(self.tasks)} tasks, got {len(wanted)}")
        return tuple(name in losses and want for name, want in zip(self.tasks, wanted, strict=True))

    def extra_repr(self) -> str:
        """The constructor's arguments, so that `repr` can be pasted as code."""
        return super().extra_repr().replace(f"tasks={self.tasks!r}", f"tasks={list(self.tasks)!r}")

    def __repr__(self) -> str:
        """In one line: the parameters are numbers that nobody wants to see."""
        return f"{type(self).__name__}({self.extra_repr()})"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = {name: each.data for name, each in self.named_parameters()}
        super()._apply(fn, recurse)
        for name, each in self.named_parameters():
            if each.dtype != before[name].dtype:
                each.data = before[name].to(each.device)
        return self


def names(tasks: Sequence[str]) -> tuple[str, ...]:
    """Checks the names of the tasks: words that can name parameters, none twice."""
    # a set has another order in every process: state and vectors of losses would change places
    if isinstance(tasks, (set, frozenset)) or not _is_list(tasks):
        raise TypeError(f"`tasks` must be a list of names, got {checks.describe(tasks)}")
    found = tuple(tasks)
    if not all(isinstance(each, str) for each in found):
        raise TypeError(f"`tasks` must be a list of names, got {checks.describe(found)}")
    if not found:
        raise ValueError("`tasks` must name at least one task, got none")
    if len(set(found)) < len(found):
        raise ValueError(f"`tasks` must name each task once, got {_listed(found)}")
    for each in found:
        if not each or "." in each or hasattr(torch.nn.ParameterDict, each):
            raise ValueError(f"`tasks` has the name {each!r}, which cannot name a parameter")
    return found


def known(given: Mapping[str, Any], argument: str, tasks: Sequence[str]) -> None:
    """Checks that a mapping speaks of known tasks."""
    for name in given:
        if name not in tasks:
            raise ValueError(f"`{argument}` has the task {name!r}, expected {_listed(tasks)}")


def per_task(argument: str, value: Any, tasks: Sequence[str], low: float) -> list[float]:
    """A number for each task: one for all, a mapping of all, or a list in their order."""
    if checks.is_number(value):
        return [checks.number(argument, value, low)] * len(tasks)
    if isinstance(value, Mapping):
        known(value, argument, tasks)
        missing = [name for name in tasks if name not in value]
        if missing:
            raise ValueError(f"`{argument}` has no number for {_listed(missing)}")
        value = [value[name] for name in tasks]
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != len(tasks):
        raise ValueError(f"`{argument}` must be a number, or one for each of {_listed(tasks)}, got {value!r}")
    return [checks.number(argument, each, low) for each in value]


def one_each(tasks: Sequence[str]) -> torch.nn.ParameterDict:
    """A parameter for each task, 0: an absent task's has no gradient, and the optimiser leaves it alone."""
    return torch.nn.ParameterDict({name: torch.nn.Parameter(torch.zeros(())) for name in tasks})


def _weighed(call: Call, weights: Tensor) -> Tensor:
    """The weighed sum; an absent task adds nothing, as its loss is 0.

    Each rank's own losses move its model. What the weights are made of is moved by those of all ranks, on each alike.
    """
    weights = weights.to(call.values.dtype)
    if not (call.over_ranks and weights.requires_grad):
        return (weights * call.values).sum()
    shared = weights * call.seen
    return (weights.detach() * call.values).sum() + (shared - shared.detach()).sum()


def _nothing(values: Tensor) -> Tensor:
    """A total of no losses, of which a gradient can be asked."""
    return values.new_zeros((), requires_grad=torch.is_grad_enabled())


def _is_list(value: object) -> bool:
    """Whether a value is gone through one by one: a number and a text are not, nor a tensor of other than one axis."""
    return isinstance(value, Iterable) and not isinstance(value, str) and getattr(value, "ndim", 1) == 1


def _listed(words: Sequence[str]) -> str:
    return ", ".join(map(repr, words))
