"""What `--target` asks for where it names several tasks: `cancelled:binary,arr_delay:regression,carrier:multiclass`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import CompareError
from ..readers import near_names

Kind = Literal["binary", "multiclass", "regression"]
KINDS: tuple[Kind, ...] = get_args(Kind)
EXAMPLE = "cancelled:binary,arr_delay:regression,carrier:multiclass"


@dataclass(frozen=True)
class Wanted:
    """One task as it was asked for.

    Attributes:
        column: which column holds its target.
        kind: what kind of target that is.
        loss: the name of its loss; None for the default of its kind.
    """

    column: str
    kind: Kind
    loss: str | None = None


def wanted(target: str, columns: Collection[str]) -> tuple[Wanted, ...] | None:
    """Read a `--target`; None where it says no kinds, and so is one target or several labels of one problem.

    A column whose name holds a comma or a colon is one target, as before.

    Args:
        target: columns with their kinds, and their losses where not the default, separated by commas.
        columns: of the table.

    Raises:
        CompareError: where some parts say a kind and others do not, or a kind is none.
    """
    if target in columns:
        return None
    parts = [part.strip() for part in target.split(",")]
    if not any(":" in part and part not in columns for part in parts):
        return None
    tasks = tuple(_task(part) for part in parts)
    names = [task.column for task in tasks]
    for name in names:
        if names.count(name) > 1:
            raise CompareError(f"--target names {name!r} twice; a column is one task")
    if len(tasks) < 2:
        raise CompareError(
            f"--target {target} names one task, and there is nothing to balance: at least two are needed"
            f" (one target goes without its kind: --target {names[0]} --problem binary)"
        )
    return tasks


def _task(part: str) -> Wanted:
    """`column:kind` or `column:kind:loss`."""
    column, *said = (word.strip() for word in part.split(":"))
    form = f"expected COLUMN:KIND or COLUMN:KIND:LOSS, as in {EXAMPLE}"
    if not part:
        raise CompareError(f"--target has nothing between two commas, {form}")
    if not column or len(said) > 2 or not all(said):
        raise CompareError(f"--target has {part!r}, {form}")
    if not said:
        choice = ", ".join(f"{column}:{kind}" for kind in KINDS)
        raise CompareError(f"--target gives {column!r} no kind, others have one: write one of {choice}")
    if said[0] not in KINDS:
        near = near_names(said[0], list(KINDS))
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"choose from {', '.join(KINDS)}"
        raise CompareError(f"--target gives {column!r} the kind {said[0]!r}, which is none; {hint}")
    kind: Kind = said[0]
    return Wanted(column, kind, said[1] if len(said) == 2 else None)
