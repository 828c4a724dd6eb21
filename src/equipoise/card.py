"""The frozen record of one loss, from which tests, documentation, the command line and benchmarks derive."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from .loss import Loss

Problem = Literal["binary", "multiclass", "multilabel", "regression", "pairs", "embeddings", "groups", "tasks"]
Kind = Literal["elementwise", "rows", "heads", "pairs", "embeddings", "groups", "balancer"]
Options = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A second way to compute the same loss: `options` of this loss equal `other` called with `other_options`.

    Attributes:
        statement: the identity in words, as shown in the documentation.
        options: keyword options for this loss's module.
        other: a function of the loss's positional arguments and `other_options`.
        other_options: keyword options for `other`.
    """

    statement: str
    options: Options
    other: Callable[..., Tensor]
    other_options: Options = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Card:
    """Facts about one loss.

    Attributes:
        name: the short name used on the command line, for example `softmax_focal`.
        summary: one line saying what the loss does.
        module: the `torch.nn.Module`.
        function: the function, where there is one.
        family: the heading under which the documentation lists the loss.
        kind: the shape of its input, which decides the lines of the contract it must meet. `elementwise`: input and
            target of one shape; `rows`: input `[N, C, ...]` with class indices or probabilities; `heads`: features
            `[N, D]` and the weight `[C, D]` of the linear layer that scores them; `pairs`: two or three tensors of one
            shape, compared row by row; `embeddings`: a batch `[N, D]` of which all pairs are compared; `groups`: scores
            of which each positive is followed by its negatives; `balancer`: a loss for each task.
        problems: the problems it can train. A `multiclass` target holds class indices, a `binary` one 0 and 1 in the
            shape of the input, a `multilabel` one `[N, C]` zeros and ones, a `regression` one real numbers. `pairs`
            tell which two belong together, `embeddings` have a label each, `groups` a positive each, `tasks` a loss.
        op_family: the shape family of its computation (`elementwise`, `rowwise`, `histogram`, `linear`, `pairwise`,
            `tiles` or `scalars`).
        paper: authors, title, venue, equation.
        formula: the loss in LaTeX.
        samples: option sets of the module that the tests run.
        module_only: options of the module that the function does not take.
        required: constructor arguments without a default, as examples (the tests add them to every sample).
        use_when: the trouble that the loss mends.
        avoid_when: what it does not mend, or makes worse, and what to take then.
        identities: other ways to compute the same value.
        differs: where the loss differs from its paper or the authors' code.
    """

    name: str
    summary: str
    module: type[Loss]
    family: str
    kind: Kind
    problems: frozenset[Problem]
    op_family: Literal["elementwise", "rowwise", "histogram", "linear", "pairwise", "tiles", "scalars"]
    paper: str
    formula: str
    function: Callable[..., Tensor] | None = None
    samples: tuple[Options, ...] = ({},)
    module_only: frozenset[str] = frozenset()
    required: Options = field(default_factory=dict)
    use_when: str = ""
    avoid_when: str = ""
    identities: tuple[Identity, ...] = ()
    differs: tuple[str, ...] = ()
