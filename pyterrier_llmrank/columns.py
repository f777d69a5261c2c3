"""Which columns of a frame a scorer reads, and what to do where one is missing."""

from __future__ import annotations

import pandas as pd
import pyterrier as pt

from .core import Scorer
from .parts import reads

MADE = {  # how a column comes about
    "features": "make it with `>> (a ** b) >>`",
    "score": "it is that of the first stage",
    "doc_vec": "retrieve with `index.vec_loader()` of pyterrier_dr",
}


def columns_read(scorer: Scorer, text_field: str) -> list[str]:
    """Columns of documents that a scorer reads; the rank is known without one."""
    return [text_field if name == "text" else name for name in reads(scorer) if name != "rank"]


def check_columns(frame: pd.DataFrame, scorer: Scorer, text_field: str, context: pt.Transformer) -> None:
    """Whether a result frame has the columns that a scorer reads.

    Raises:
        InputValidationError: One is missing; says how to get it.
    """
    columns = columns_read(scorer, text_field)
    try:
        pt.validate.result_frame(frame, extra_columns=["query", *columns], context=context)
    except pt.validate.InputValidationError as error:
        missing = {column for mode in error.modes for column in mode.missing_columns}
        name = type(context).__name__
        fields = [column for column in columns if column in missing and column != text_field]
        if missing == {text_field}:
            hint = (
                f"{name} reads documents from the column {text_field!r}: add it with "
                f"`>> pt.text.get_text(dataset, {text_field!r}) >>`, or name another with text_field=."
            )
        elif fields:
            told = [f"{field!r} ({MADE.get(field, 'a stage before must add it')})" for field in fields]
            hint = f"The scorer of {name} reads of each document {', '.join(told)}."
        else:
            raise
        raise pt.validate.InputValidationError(f"{error.args[0]} {hint}", error.modes) from None
