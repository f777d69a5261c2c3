"""The command line of the demonstration."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from pyterrier_llmrank.errors import LLMRankError
from pyterrier_llmrank.mini import BM25, MiniCollection, first_stage

from .drawing import schematic
from .pipelines import compare, pipelines


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the demonstration and prints its table; an expected error is one line on stderr and exit status 1."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except LLMRankError as error:
        sys.exit(f"{type(error).__name__}: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pyterrier_llmrank",
        description="Reranks BM25 on the collection that comes with the package, and prints what it gains and costs.",
    )
    parser.add_argument(
        "--model", metavar="NAME_OR_PATH", help="a Hugging Face checkpoint for ListwiseLLM, beside MiniLM and nano"
    )
    parser.add_argument(
        "--decode", choices=["generate", "first"], default="generate", help="how ListwiseLLM reads an order"
    )
    parser.add_argument("--first-stage", choices=["auto", "pisa", "bm25s"], default="auto", help="BM25 implementation")
    parser.add_argument("--schematic", metavar="FILE.html", type=Path, help="draw the last pipeline into a file")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser


def _run(options: argparse.Namespace) -> None:
    dataset = MiniCollection()
    topics, qrels = dataset.get_topics(), dataset.get_qrels()
    source = first_stage(dataset, engine=options.first_stage)
    passages = sum(1 for _ in dataset.get_corpus_iter())
    engine = "bm25s" if isinstance(source, BM25) else "PISA"
    print(f"{passages} passages, {len(topics)} queries; the first stage is BM25 by {engine}")
    _hide_loading_bars()
    systems = pipelines(source, model=options.model, decode=options.decode, verbose=not options.quiet)
    table = compare(systems, topics, qrels)
    print("\nnDCG@10, paired t-test against BM25, and cost of the reranker per query:\n")
    print(formatted(table))
    if options.schematic is not None:
        name, pipeline = list(systems.items())[-1]
        options.schematic.write_text(schematic(pipeline), encoding="utf-8")
        print(f"\nschematic of {name}: {options.schematic}")


def formatted(table: pd.DataFrame) -> str:
    """The table as text: names to the left, figures to the right, each with the digits that mean something."""
    width = int(table["name"].str.len().max())
    name = "name".ljust(width)
    shapes = {name: f"{{:{width}}}", "nDCG@10": "{:.4f}", "seconds": "{:.3f}"}
    counts = dict.fromkeys(("calls", "prompt_tokens", "output_tokens"), "{:.0f}")
    formatters: dict[str, Callable[..., str]] = {column: shape.format for column, shape in (shapes | counts).items()}
    formatters["p-value"] = lambda p: f"{p:.4f}" if p >= 0.0001 else "<0.0001"
    return table.rename(columns={"name": name}).to_string(
        index=False, formatters=formatters, na_rep="-", justify="right"
    )


def _hide_loading_bars() -> None:
    """Weights this small load at once."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
