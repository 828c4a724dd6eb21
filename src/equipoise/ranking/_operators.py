"""The operators of this package: to the compiler each is one step, of which it knows the shapes alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Operator = Callable[..., tuple[torch.Tensor, ...]]

LIBRARY = torch.library.Library("equipoise_ranking", "DEF")  # type: ignore[no-untyped-call]


def register(schema: str, implementation: Operator, fake: Operator) -> Any:
    """Registers an operator in plain torch for every device; `fake` tells shapes and dtypes of its results."""
    name = schema.partition("(")[0]
    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))  # type: ignore[no-untyped-call]
    LIBRARY.impl(name, implementation, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"{LIBRARY.ns}::{name}", fake, lib=LIBRARY)
    return getattr(getattr(torch.ops, LIBRARY.ns), name).default
