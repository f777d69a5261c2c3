"""What is left of a query's results without the document that it came out of."""

from __future__ import annotations

import pandas as pd

from pyterrier_llmrank.errors import InputError


def without_source(results: pd.DataFrame, queries: pd.DataFrame) -> pd.DataFrame:
    """Results without the document that each query is from.

    A query that was taken out of a document finds that document with any ranker, which teaches nothing; how a teacher
    orders the others does. For losses that learn from a teacher's scores, as the last part of a teacher::

        teacher >> pt.apply.generic(lambda found: without_source(found, queries))

    Losses that learn from the document itself (InfoNCE, CADET) need it.

    Args:
        results: Columns qid and docno.
        queries: Columns qid and docno, the document that a query is from; results of other queries stay whole.

    Returns:
        Rows as they were; ranks and scores are not changed.

    Raises:
        InputError: A column is missing.
    """
    for name, frame in (("results", results), ("queries", queries)):
        if missing := {"qid", "docno"} - {*frame.columns}:
            raise InputError(f"{name} need the columns qid and docno; missing: {', '.join(sorted(missing))}")
    own = pd.MultiIndex.from_frame(queries[["qid", "docno"]].astype(str))
    found = pd.MultiIndex.from_frame(results[["qid", "docno"]].astype(str))
    return results[~found.isin(own)].reset_index(drop=True)
