"""The compiled CPU kernels: whether they are in use, and how to do without."""

from .native import Status, eager, status

__all__ = ["Status", "eager", "status"]
