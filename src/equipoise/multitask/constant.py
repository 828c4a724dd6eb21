"""Constant weights: the baseline that papers forget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..card import Card, Identity
from ._balancer import Balancer, Call, per_task


class ConstantWeighting(Balancer):
    r"""The weighted sum of the tasks' losses, by weights that stay.

    $\sum_t w_t L_t$ over the tasks that are there.

    Args:
        tasks: their names.
        weights: $w_t$, one number for all, a mapping, or a list in the order of the tasks, each at least 0.
            Default: `1.0`.

    Shape:
        `losses`: a scalar by task, or `[T]`; a scalar comes out.

    Example:
        >>> import torch
        >>> from equipoise import ConstantWeighting
        >>> balancer = ConstantWeighting(["depth", "normals"], {"depth": 1.0, "normals": 10.0})
        >>> balancer({"depth": torch.tensor(2.0), "normals": torch.tensor(0.5)})
        tensor(7.)

    References:
        Xin et al., "Do Current Multi-Task Optimization Methods in Deep Learning Even Help?", NeurIPS 2022: tuned
        constant weights are as good as what was proposed in their place.
    """

    constants: Tensor

    def __init__(self, tasks: Sequence[str], weights: float | Mapping[str, float] | Sequence[float] = 1.0) -> None:
        super().__init__(tasks)
        self.register_buffer("constants", torch.tensor(per_task("weights", weights, self.tasks, 0)))

    def _weigh(self, call: Call) -> tuple[Tensor, Tensor | float]:
        return torch.where(call.here, self.constants, 0), 0.0

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"tasks={list(self.tasks)!r}, weights={self.constants.tolist()!r}"


CARD = Card(
    name="constant_weighting",
    summary="adds the tasks' losses by weights that stay",
    module=ConstantWeighting,
    family="Tasks",
    kind="balancer",
    problems=frozenset({"tasks"}),
    op_family="scalars",
    paper='Xin et al., "Do Current Multi-Task Optimization Methods in Deep Learning Even Help?", NeurIPS 2022',
    formula=r"\sum_t w_t L_t",
    required={"tasks": ["a", "b", "c"]},
    samples=({}, {"weights": [1.0, 2.0, 0.5]}),
    use_when="there are few tasks and time to try some weights: tuned, they are hard to beat",
    avoid_when="there are too many tasks to tune weights for, or their scales change on the way",
    identities=(
        Identity(
            statement="weights of 1 give the plain sum",
            options={},
            other=torch.sum,
        ),
    ),
)
