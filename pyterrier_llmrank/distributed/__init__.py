"""Beyond one process: shards of a Parquet input for any number of workers, and pipelines over processes or Ray."""

from __future__ import annotations

from .folder import Progress, read_costs, read_results
from .run import run_sharded
from .transformer import Distributed

__all__ = ["Distributed", "Progress", "read_costs", "read_results", "run_sharded"]
