"""The command line of ``run_sharded``."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from operator import attrgetter

from pyterrier_llmrank.errors import ConfigurationError, LLMRankError

from .run import run_sharded
from .shards import Factory


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a worker and prints how far the run is; an expected error is one line on stderr and exit status 1."""
    options = vars(_parser().parse_args(arguments))
    try:
        done = run_sharded(named(options.pop("factory")), options.pop("in_parquet"), options.pop("out_dir"), **options)
    except LLMRankError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print(f"{done.done} of {done.shards} shards are done")


def named(name: str) -> Factory:
    """The function of a module that ``module:function`` names.

    Raises:
        ConfigurationError: There is none.
    """
    module, _, function = name.partition(":")
    try:
        found = attrgetter(function)(importlib.import_module(module))
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"the factory must be module:function, importable from here, got {name!r} ({error})"
        ) from error
    if not callable(found):
        raise ConfigurationError(f"{name} is a {type(found).__name__}, not a function that builds a pipeline")
    factory: Factory = found
    return factory


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pyterrier_llmrank.distributed",
        description="Runs a pipeline over a Parquet file or folder, shard by shard. Start it as often as there are "
        "machines, and again after whatever happened: finished shards are skipped.",
    )
    parser.add_argument("factory", help="module:function that builds the pipeline; the current folder is looked in too")
    parser.add_argument("in_parquet", help="topics or candidates, the rows of each query together")
    parser.add_argument("out_dir", help="folder of the results, which all workers share")
    parser.add_argument("--shard-size", type=int, default=200, metavar="QUERIES", help="queries in a shard")
    parser.add_argument("--workers", type=int, metavar="N", help="workers to start; by default this is one")
    parser.add_argument("--gpus-per-worker", type=float, default=0, metavar="G", help="GPUs of each of them")
    parser.add_argument("--engine", choices=["processes", "ray"], default="processes", help="what starts them")
    parser.add_argument("--stale-after", type=float, default=300.0, metavar="SECONDS", help="silence of the dead")
    parser.add_argument(
        "--no-wait", dest="wait", action="store_false", help="end when all that is left is being worked on by others"
    )
    return parser
