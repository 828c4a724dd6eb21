"""What differs between a comparison of losses for one target and one of ways to weigh several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import document, saving, summary, terminal
from .engine import Outcome
from .study import Study
from .tasks import document as task_document
from .tasks import summary as task_summary
from .tasks import terminal as task_terminal
from .tasks.study import TaskStudy


@dataclass(frozen=True)
class Way:
    """The steps around the trainings, which are run in one way only.

    Attributes:
        show_study: says what is about to be compared.
        summarize: makes a comparison of the results.
        document: makes the JSON document of a comparison.
        show_comparison: prints the table and the verdict.
        save_winner: keeps the winner in a folder; None where that cannot be done.
    """

    show_study: Callable[..., None]
    summarize: Callable[[Any, Outcome, int, int], Any]
    document: Callable[..., dict[str, Any]]
    show_comparison: Callable[..., None]
    save_winner: Callable[[Any, Path], None] | None


LOSSES = Way(terminal.show_study, summary.summarize, document.document, terminal.show_comparison, saving.save_winner)
TASKS = Way(
    task_terminal.show_study,
    task_summary.summarize,
    task_document.document,
    task_terminal.show_comparison,
    None,
)


def way_of(study: Study) -> Way:
    """The steps for a study."""
    return TASKS if isinstance(study, TaskStudy) else LOSSES
