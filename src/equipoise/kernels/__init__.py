"""The kernels: which are in use on the CPU and on the GPU, and how to do without."""

from .native import Status, eager, status
from .triton import Status as GPUStatus
from .triton import status as gpu_status

__all__ = ["GPUStatus", "Status", "eager", "gpu_status", "status"]
