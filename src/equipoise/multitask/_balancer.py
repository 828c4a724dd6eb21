"""What all balancers share: which tasks a call holds, what is remembered of it, and state that keeps its precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from .. import distributed
from ..loss import Loss
from ._arguments import Losses, Mask, each_loss, names, wanted

Kpis = Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """The losses of one call, of the tasks alone that are there: what is absent takes no part in anything.

    Attributes:
        tasks: those with a loss, on any rank, in their order.
        places: where they stand among all.
        parts: their losses as they came; None where the losses came as one vector.
        values: `[k]`, float32 or float64, with their graph; 0 for a task that only another rank has.
        seen: `[k]`, without a graph; the mean over the ranks where the balancer is synchronised.
        finite: 0-d, boolean: whether all of `seen` is, so that state may move.
        world: the number of ranks.
    """

    tasks: tuple[str, ...]
    places: tuple[int, ...]
    parts: tuple[Tensor, ...] | None
    values: Tensor
    seen: Tensor
    finite: Tensor
    world: int

    def pick(self, vector: Tensor) -> Tensor:
        """The numbers of these tasks, out of those of all."""
        if len(self.places) == len(vector):
            return vector
        parts = vector.unbind()
        return torch.stack([parts[place] for place in self.places])

    def put(self, vector: Tensor, part: Tensor) -> None:
        """Writes the numbers of these tasks among those of all, if the losses are finite."""
        fresh = torch.where(self.finite, part, self.pick(vector))
        if len(self.places) < len(vector):
            parts = list(vector.unbind())
            for place, number in zip(self.places, fresh.unbind(), strict=True):
                parts[place] = number
            fresh = torch.stack(parts)
        vector.copy_(fresh)


class Balancer(Loss):
    """A module that makes one loss of several.

    State is float32, whatever `.half()` or `.bfloat16()` say: a logarithm of a variance in half precision does not
    move. Vectors of the state are in the order of the tasks.

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
        """What multiplied the loss of each task that was there in the last call, without a graph."""
        return {} if self._last is None else dict(zip(self._last[0], self._last[1].unbind(), strict=True))

    @property
    def losses(self) -> dict[str, Tensor]:
        """The losses of the last call, without a graph: what to log, and what a scheduler is to look at."""
        return {} if self._last is None else dict(zip(self._last[0], self._last[2].unbind(), strict=True))

    def forward(self, losses: Losses, *, kpis: Kpis | None = None, mask: Mask | None = None) -> Tensor:
        """The total of the losses of the tasks that are there.

        Args:
            losses: a loss by task, each a scalar; a task that is left out is absent. Or a vector in the order of the
                tasks.
            kpis: key performance indicators by task, for the balancer that goes by them; no other looks at them, so
                that one training loop serves all. Default: `None`.
            mask: whether each task is there, by task or in their order. A tensor is read, for which a GPU waits.
                Default: `None`.

        Returns:
            A scalar, float32 or float64; a differentiable 0 where all tasks are absent.
        """
        call = self._call(losses, mask)
        self._observe(call, kpis)
        if not call.tasks:
            self._last = None
            return call.values.new_zeros((), requires_grad=torch.is_grad_enabled())
        weights, total = self._balance(call)
        self._last = (call.tasks, weights.detach(), call.seen)
        if call.world > 1:  # what is not finite on one rank makes the step worthless on all
            total = total + torch.where(call.finite, 0.0, torch.nan)
        return total

    def param_groups(self, lr: float | None = None) -> list[dict[str, Any]]:
        """What the optimiser is to have of the balancer: without weight decay, which would pull its weights to 1.

        Args:
            lr: the learning rate; None leaves the optimiser's.

        Returns:
            One group, or none where nothing is learned by gradients.
        """
        parameters = list(self.parameters())
        group: dict[str, Any] = {"params": parameters, "weight_decay": 0.0}
        return [group if lr is None else {**group, "lr": lr}] if parameters else []

    def end_epoch(self) -> None:
        """To be called after each epoch; only a balancer that goes by epochs does anything then."""

    def _observe(self, call: Call, kpis: Kpis | None) -> None:
        """Takes in key performance indicators; most balancers have no use for them."""

    def _balance(self, call: Call) -> tuple[Tensor, Tensor]:
        """What each loss is multiplied by, `[k]`, and the total. State moves here."""
        weights = self._weights(call)
        return weights, (weights.to(call.values.dtype) * call.values).sum()

    def _weights(self, call: Call) -> Tensor:
        """What each loss is multiplied by, `[k]`, where the total is the weighted sum."""
        raise NotImplementedError

    def _call(self, losses: Losses, mask: Mask | None) -> Call:
        given = each_loss(losses, self.tasks)
        here = wanted(mask, self.tasks)
        here = here if given is None else [name in given and want for name, want in zip(self.tasks, here, strict=True)]
        if isinstance(losses, Tensor):
            if all(here):
                return self._joined(here, None, losses)
            given = dict(zip(self.tasks, losses.unbind(), strict=True))
        assert given is not None
        parts = [given[name] for name, present in zip(self.tasks, here, strict=True) if present]
        return self._joined(here, parts, None)

    def _joined(self, here: list[bool], parts: list[Tensor] | None, vector: Tensor | None) -> Call:
        """The call of the losses that this rank has, as parts or as one vector."""
        if vector is None:
            assert parts is not None
            dtype = torch.float64 if any(each.dtype == torch.float64 for each in parts) else torch.float32
            vector = torch.stack([each.to(dtype) for each in parts]) if parts else self._no_losses()
        values = vector.to(torch.float64 if vector.dtype == torch.float64 else torch.float32)
        world = distributed.world_size(self.sync)
        seen = values.detach()
        if world > 1:
            values, seen, everywhere = self._over_ranks(values, here)
            parts = None if parts is None else _spread(parts, values, here, everywhere)
            here = everywhere
        places = tuple(place for place, present in enumerate(here) if present)
        tasks = self.tasks if len(places) == len(self.tasks) else tuple(self.tasks[place] for place in places)
        finite = seen.isfinite().all()
        return Call(tasks, places, None if parts is None else tuple(parts), values, seen, finite, world)

    def _over_ranks(self, values: Tensor, here: list[bool]) -> tuple[Tensor, Tensor, list[bool]]:
        """This rank's losses, and the mean of all ranks', of the tasks that any rank has; and which those are.

        Each rank's loss is `world * local sum / global divisor`: their mean is the loss of the joined batch.
        """
        wide = values.detach().double()
        nothing = wide.new_zeros(())
        whole, present = _whole(list(wide.unbind()), here, nothing), _whole([nothing + 1] * len(wide), here, nothing)
        joined = distributed.sum_over_ranks(torch.cat([whole, present]), self.sync)
        total, ranks = joined.chunk(2)
        everywhere = [number > 0 for number in ranks.tolist()]
        own = _spread(list(values.unbind()), values, here, everywhere)
        seen = [each for each, any_rank in zip(total.unbind(), everywhere, strict=True) if any_rank]
        world = distributed.world_size(self.sync)
        if not own:
            return values, values.detach(), everywhere
        return torch.stack(own), (torch.stack(seen) / world).to(values.dtype), everywhere

    def _no_losses(self) -> Tensor:
        anchor = next(iter((*self.parameters(), *self.buffers())))
        return torch.zeros(0, device=anchor.device)

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


def _whole(parts: list[Tensor], here: list[bool], nothing: Tensor) -> Tensor:
    """A vector of all tasks from the parts of those that are here."""
    given = iter(parts)
    return torch.stack([next(given) if present else nothing for present in here])


def _spread(parts: list[Tensor], like: Tensor, here: list[bool], everywhere: list[bool]) -> list[Tensor]:
    """The parts of the tasks that any rank has: this rank's own, or 0."""
    given, nothing = iter(parts), like.new_zeros(())
    own = [next(given) if present else nothing for present in here]
    return [each for each, any_rank in zip(own, everywhere, strict=True) if any_rank]
