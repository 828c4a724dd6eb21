"""The one kind of error that the person at the keyboard is meant to see."""

from __future__ import annotations


class CompareError(Exception):
    """A trouble with the request or its data, said in one readable line."""

    def __init__(self, message: str) -> None:
        # Messages quote file contents and other libraries' errors, which may hold line breaks.
        super().__init__(" ".join(message.split()))
