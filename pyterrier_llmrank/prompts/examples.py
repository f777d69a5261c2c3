"""How demonstrations are chosen: those most like the query, or the hardest."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import log, sqrt
from typing import Any, Protocol
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Doc, Question, Scorer, Scores, descending
from pyterrier_llmrank.errors import ConfigurationError

from .base import one_line
from .demonstrations import Demonstration


class Encoder(Protocol):
    """Turns texts into vectors, compared by their inner product; a ``BiEncoder`` is one."""

    def encode(self, texts: Sequence[str], /) -> Any:  # noqa: ANN401 - vectors, or (vectors, inputs)
        """Vectors, (texts, width), or a tuple that begins with them."""
        ...


@dataclass(frozen=True, repr=False)
class Similar:
    """Chooses the examples whose queries are most like the query; the most similar stands next to the question.

    Queries are compared by the words they share, weighted by how rare these are among the examples (cosine of binary
    idf vectors), or by an encoder. Of several examples of one query only the first is shown, and none of the very query
    that is asked. Equals keep their order.

    Args:
        examples: A tuple to choose from.
        k: How many to show.
        sides: The two answers of a pairwise prompt, that for the first document first, such as ``("A", "B")``: the
            better document then stands first in every other demonstration, beginning with the first or the second
            depending on the query, so that both answers are equally frequent.
        encoder: What turns queries into vectors, such as a ``BiEncoder``; words are compared by default.

    Raises:
        ConfigurationError: There are no examples, ``k`` is below 1, or ``sides`` are given and an example is not of two
            texts with one of them as its answer.

    Reference:
        Sinhababu et al., 2024 (few-shot prompting for pairwise ranking).
    """

    examples: tuple[Demonstration, ...]
    k: int = 3
    sides: tuple[str, str] | None = None
    encoder: Encoder | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.examples, tuple) or not self.examples:
            raise ConfigurationError("Similar chooses from a tuple of one example or more")
        if self.k < 1:
            raise ConfigurationError(f"k must be at least 1, got {self.k}")
        if self.sides is None:
            return
        for one in self.examples:
            if len(one.texts) != 2 or one.answer not in self.sides:
                raise ConfigurationError(
                    f"sides={self.sides!r} are for examples of two texts with one of them as answer, got {one!r}"
                )

    def __repr__(self) -> str:
        """Its arguments; the examples, which may be many, by their number and a digest."""
        digest = hashlib.sha256(repr(self.examples).encode()).hexdigest()[:12]
        told = f", sides={self.sides!r}" if self.sides else ""
        told += f", encoder={self.encoder!r}" if self.encoder else ""
        return f"Similar(<{len(self.examples)} examples, {digest}>, k={self.k}{told})"

    def __call__(self, query: str) -> tuple[Demonstration, ...]:
        """The examples for a query, in the order in which they are shown."""
        own = _key(query)
        ranked = [one for one in descending(self._distinct, self._similarities(query)) if _key(one.query) != own]
        return self._sided(query, ranked[: self.k][::-1])

    @cached_property
    def _distinct(self) -> list[Demonstration]:
        """The first example of each query."""
        firsts: dict[str, Demonstration] = {}
        for one in self.examples:
            firsts.setdefault(_key(one.query), one)
        return list(firsts.values())

    def _similarities(self, query: str) -> Scores:
        """How similar each distinct example is to the query."""
        if self.encoder is not None:
            return np.asarray(self._vectors @ self._encoded([query])[0], dtype=np.float64)
        postings, norms = self._index
        scores = np.zeros(len(norms))
        for word in sorted(_words(query) & postings.keys()):  # sorted: sums are rounded by their order
            places = postings[word]
            scores[places] += log(1 + len(norms) / len(places)) ** 2
        return scores / norms

    @cached_property
    def _index(self) -> tuple[dict[str, list[int]], Scores]:
        """Places of the examples that hold each word, and the length of every example's vector."""
        bags = [sorted(_words(one.query)) for one in self._distinct]
        counts = Counter(word for bag in bags for word in bag)
        postings: dict[str, list[int]] = {word: [] for word in counts}
        norms = np.ones(len(bags))  # of an example without words, which matches nothing
        for place, bag in enumerate(bags):
            norms[place] = sqrt(sum(log(1 + len(bags) / counts[word]) ** 2 for word in bag)) or 1.0
            for word in bag:
                postings[word].append(place)
        return postings, norms

    @cached_property
    def _vectors(self) -> NDArray[np.float64]:
        return self._encoded([one.query for one in self._distinct])

    def _encoded(self, queries: Sequence[str]) -> NDArray[np.float64]:
        """Vectors of queries, (queries, width); with the prefix that an encoder expects before a query."""
        encoder: Any = self.encoder
        prefix = getattr(encoder, "query_prefix", "")
        vectors = encoder.encode(queries, prefix) if prefix else encoder.encode(queries)
        return np.asarray(vectors[0] if isinstance(vectors, tuple) else vectors, dtype=np.float64)

    def _sided(self, query: str, chosen: Sequence[Demonstration]) -> tuple[Demonstration, ...]:
        """The better documents on both sides in turn."""
        if self.sides is None:
            return tuple(chosen)
        begin = crc32(query.encode())
        wanted = [self.sides[(begin + place) % 2] for place in range(len(chosen))]
        return tuple(
            one if one.answer == side else replace(one, texts=one.texts[::-1], answer=side)
            for one, side in zip(chosen, wanted, strict=True)
        )


def hardest(examples: Sequence[Demonstration], scorer: Scorer, k: int) -> tuple[Demonstration, ...]:
    """The ``k`` examples whose query is least likely given their document, the least likely first.

    Args:
        examples: To choose from, each with one text.
        scorer: ``QueryLikelihood(model)``, without demonstrations.
        k: How many.

    Raises:
        ConfigurationError: An example has several texts, or ``k`` is below 1.

    Reference:
        Drozdov et al., 2023 (PaRaDe): difficulty-based selection by query likelihood (DQL).
    """
    if k < 1:
        raise ConfigurationError(f"k must be at least 1, got {k}")
    for one in examples:
        if len(one.texts) != 1:
            raise ConfigurationError(f"hardest compares examples of one text, got {len(one.texts)} in {one!r}")
    questions = [Question(one.query, (Doc(str(place), one.texts[0]),)) for place, one in enumerate(examples)]
    likely = np.array([answer.scores[0] for answer in scorer(questions)], dtype=np.float64)
    return tuple(descending(list(examples), -likely)[:k])


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.casefold()))


def _key(query: str) -> str:
    """What two spellings of one query share."""
    return one_line(query).casefold()
