"""Functions in processes of their own."""

from tenuto.adapters.processes.pool import ProcessPool

__all__ = ["ProcessPool"]
