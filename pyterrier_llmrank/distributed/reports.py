"""What a shard cost, and what it was computed with."""

from __future__ import annotations

import os
import socket
from collections.abc import Hashable
from importlib import metadata
from platform import python_version
from typing import Any

import pandas as pd
import pyterrier as pt

from pyterrier_llmrank.costs import bookkeepers
from pyterrier_llmrank.ledger import Ledger

LIBRARIES = ("pyterrier-llmrank", "pyterrier", "torch", "transformers", "vllm", "openai", "pandas", "pyarrow")


def fresh_ledgers(pipeline: pt.Transformer) -> None:
    """Empties the books of every reranker in a pipeline."""
    for reranker in bookkeepers(pipeline):
        reranker.ledger = Ledger()


def spent(pipeline: pt.Transformer) -> pd.DataFrame:
    """What each query cost since the books were emptied, over all rerankers; the columns of ``Ledger.frame()``."""
    frames = [reranker.ledger.frame() for reranker in bookkeepers(pipeline) if len(reranker.ledger)]
    return pd.concat(frames).groupby("qid", sort=False, as_index=False).sum() if frames else Ledger().frame()


def totals(costs: pd.DataFrame) -> dict[Hashable, Any]:
    """Calls, tokens, failures and seconds of all queries together; rounds of different queries do not add up."""
    return costs.drop(columns=["qid", "rounds"]).sum().to_dict()


def provenance() -> dict[str, Any]:
    """Where this process runs, and with which versions."""
    versions = {"python": python_version()}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return {"host": socket.gethostname(), "pid": os.getpid(), "versions": versions}
