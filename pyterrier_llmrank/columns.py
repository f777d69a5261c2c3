"""Which columns of a frame a scorer reads, what to do where one is missing, and the documents that they make."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyterrier as pt
from numpy.typing import NDArray

from .core import Doc
from .errors import InputError
from .frames import documents, with_fields
from .parts import reads

MADE = {  # how a column comes about
    "features": "make it with `>> (a ** b) >>`",
    "score": "it is that of the first stage",
    "doc_vec": "retrieve with `index.vec_loader()` of pyterrier_dr",
}


def columns_read(scorer: object, text_field: str) -> list[str]:
    """Columns of documents that a scorer reads; the rank is known without one."""
    return [text_field if name == "text" else name for name in reads(scorer) if name != "rank"]


def docs_read(
    frame: pd.DataFrame, order: NDArray[np.intp], starts: Sequence[int], scorer: object, text_field: str
) -> list[Doc]:
    """The documents of a frame in candidate order, with all that a scorer reads of them.

    Args:
        frame: As it came.
        order: Row places in candidate order (see ``candidate_order``).
        starts: Where each query starts in that order.
        scorer: Who will read.
        text_field: Column of texts.

    Raises:
        InputError: A value is no text, no number and no list of numbers.
    """
    names = reads(scorer)
    rows = frame[list(dict.fromkeys(["docno", *([text_field] if "text" in names else [])]))].iloc[order]
    docs = documents(rows, text_field if "text" in names else None)
    fields = [name for name in names if name != "text"]
    return with_fields(docs, frame, order, starts, fields) if fields else docs


def check_columns(frame: pd.DataFrame, scorer: object, text_field: str, context: pt.Transformer) -> None:
    """Whether a result frame has the columns that a scorer reads.

    Raises:
        InputValidationError: One is missing; says how to get it.
        InputError: One comes twice.
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
    known = {"qid", "query", "docno", "score", "rank", *columns}
    if twice := [name for name in frame.columns[frame.columns.duplicated()].unique() if name in known]:
        raise InputError(
            f"{', '.join(map(repr, twice))} comes more than once among the columns of the frame, and it is not known "
            "which is meant; drop or rename the others, such as with `frame.loc[:, ~frame.columns.duplicated()]`"
        )
