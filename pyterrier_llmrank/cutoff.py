"""``FirstCandidates``: a cutoff that goes by the order of candidates, whatever their ranks say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyterrier as pt

from .described import Described
from .frames import candidate_order


class FirstCandidates(Described):
    """The first ``k`` candidates of each query, in the order in which ``Rerank`` takes them.

    Unlike ``% k`` it reads ranks that start at 1 or have gaps, and needs none. It moves up to the first stage as
    ``% k`` does. It only saves work for what comes after, and so keeps all rows where some have no query text, which
    may stand on any row of a query.
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The rows, query by query, best first.

        Raises:
            InputValidationError: A column is missing.
            InputError: A row has no qid.
        """
        pt.validate.result_frame(inp, extra_columns=["query"], context=self)
        if inp["query"].isna().any():
            return inp
        order, starts = candidate_order(inp)
        places = np.arange(len(order)) - np.repeat(starts, np.diff([*starts, len(order)]))
        out: pd.DataFrame = inp.iloc[order[places < self.k]].reset_index(drop=True)
        return out

    def fuse_left(self, left: pt.Transformer) -> pt.Transformer | None:
        """What gives ``left >> self`` for less; None where ``left`` takes no cutoff.

        One that numbers its own results takes it in. One that only adds columns, and so lets ``% k`` pass, lets this
        pass instead.
        """
        fused = left.fuse_rank_cutoff(self.k) if isinstance(left, pt.transformer.SupportsFuseRankCutoff) else None
        if isinstance(fused, pt.Compose) and fused[0] == pt.RankCutoff(self.k):
            return pt.Compose(self, *list(fused)[1:])
        return fused
