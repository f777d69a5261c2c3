"""Which documents to write queries for: each once, none that another contains, none too short."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyterrier_llmrank.core import Doc
from pyterrier_llmrank.errors import ConfigurationError, LLMRankWarning
from pyterrier_llmrank.frames import documents

from .words import normalised


def distinct(
    frame: pd.DataFrame, text_field: str = "text", fields: Sequence[str] = (), known: Collection[str] = ()
) -> list[Doc]:
    """The documents of a frame, each docno once; that some came again is said, with the count.

    Args:
        frame: Columns docno, ``text_field`` and ``fields``.
        text_field: Column of texts; a missing one is empty, which is said.
        fields: Further columns; what is no text is empty.
        known: Docnos that were dealt with before.
    """
    docnos = frame["docno"].astype(str)
    again = docnos.duplicated() | docnos.map(lambda docno: docno in known).astype(bool)
    if again.any():
        told = f"{int(again.sum())} of {len(frame)} documents have a docno that came before, and are left out"
        warnings.warn(told, LLMRankWarning, stacklevel=3)
    rows = frame[~again]
    docs = documents(rows, text_field)
    if not fields:
        return docs
    values = [[value if isinstance(value, str) else "" for value in rows[name].tolist()] for name in fields]
    named = (tuple(zip(fields, own, strict=True)) for own in zip(*values, strict=True))
    return [doc._replace(fields=own) for doc, own in zip(docs, named, strict=True)]


def long_enough(texts: Iterable[str], *, characters: int = 300) -> NDArray[np.bool_]:
    """Whether each text has so many characters, (texts,).

    Reference:
        Chandradevan et al., 2024 (DUQGen), whose default is 300.
    """
    return np.array([len(text) >= characters for text in texts], dtype=bool)


def without_near_duplicates(texts: Sequence[str], *, neighbours: int = 9) -> NDArray[np.bool_]:
    """Whether each text stays when those that another contains go, (texts,).

    Texts are compared without marks and case, and only with their next neighbours: in alphabetical order, and in that
    of texts read backwards. Of equal texts the first stays. One without a word goes.

    Args:
        texts: Of a corpus.
        neighbours: In each order, after a text; 9 in CADET.

    Raises:
        ConfigurationError: ``neighbours`` is below 1.

    Reference:
        Tamber et al., 2025 (CADET).
    """
    if neighbours < 1:
        raise ConfigurationError(f"texts are compared with one neighbour or more, got neighbours={neighbours}")
    plain = [normalised(text) for text in texts]
    stays = np.array([bool(text) for text in plain], dtype=bool)
    for keys in (plain, [text[::-1] for text in plain]):
        order = sorted(range(len(plain)), key=lambda place: (keys[place], -place))
        for at, place in enumerate(order):
            after = order[at + 1 : at + 1 + neighbours]
            stays[place] &= not any(plain[place] in plain[other] for other in after)
    return stays
