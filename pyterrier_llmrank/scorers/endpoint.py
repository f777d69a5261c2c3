"""``RerankEndpoint``: a reranking model behind a server that takes a query and documents, and gives scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from pyterrier_llmrank.core import Answer, Question, Usage
from pyterrier_llmrank.errors import ConfigurationError, ModelError, PromptTooLong
from pyterrier_llmrank.models.http.failures import Failed
from pyterrier_llmrank.models.http.loop import run
from pyterrier_llmrank.models.http.outcomes import NOTHING
from pyterrier_llmrank.models.http.remote import Remote
from pyterrier_llmrank.models.http.wire import cut

from .alone import Alone, regrouped
from .limits import check_limits


class Interface(NamedTuple):
    """How an endpoint names things.

    Attributes:
        path: Of the endpoint, below the address.
        at_root: Whether it is not below "/v1".
        query: The field of the query.
        docs: The field of the documents.
        results: The field of the results; empty where the answer is the list of them.
        score: The field of a result's score.
        cut: What lets a server cut documents that it would refuse for their length.
    """

    path: str
    at_root: bool
    query: str
    docs: str
    results: str
    score: str
    cut: Mapping[str, Any]


Pairs: TypeAlias = Sequence[tuple[str, str]]
Scored: TypeAlias = list[tuple[float, Usage]]

VLLM = {"truncate_prompt_tokens": -1}  # to all that the model takes
INTERFACES = {
    "rerank": Interface("/rerank", False, "query", "documents", "results", "relevance_score", VLLM),
    "score": Interface("/score", False, "text_1", "text_2", "data", "score", VLLM),
    "tei": Interface("/rerank", True, "query", "texts", "", "score", {"truncate": True}),
    "voyage": Interface("/rerank", False, "query", "documents", "data", "relevance_score", {"truncation": True}),
}


@dataclass(frozen=True, repr=False)
class RerankEndpoint(Alone, Remote):
    """Scores documents with a cross-encoder behind a server; NaN where a request failed or told nothing of a document.

    Scores are in the server's unit, and compare between documents of one query. The server cuts what is too long, in
    its own way; one that refuses it is told to (vLLM), and a document that it refuses even so is NaN (llama-server).
    All documents of a query in one call travel together, whatever groups they are in. Takes the arguments of
    ``Remote`` (``base_url``, ``key_env``, ``concurrency`` …; ``extra`` for fields that are sent as they are), and:

    Args:
        api: Whose interface: "rerank" (Cohere, Jina, vLLM, llama-server), "score" (vLLM), "tei" (text-embeddings-
            inference) or "voyage".
        docs_per_request: Documents of one request at most; servers have limits (TEI: 32 by default).

    Raises:
        ConfigurationError: An argument is out of range.
        AccessDenied: On use: the key is missing or wrong.
        ServerError: On use: too many requests in a row failed, or the first ones, so that no server may be there.

    Examples:
        ``RerankEndpoint("BAAI/bge-reranker-v2-m3", "http://localhost:8000/v1", api="score")``
    """

    api: Literal["rerank", "score", "tei", "voyage"] = field(default="rerank", kw_only=True)
    docs_per_request: int = field(default=32, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.api not in INTERFACES:
            raise ConfigurationError(f"api must be one of {', '.join(map(repr, INTERFACES))}, got {self.api!r}")
        check_limits(self, "docs_per_request", unit="document")

    def load(self) -> None:
        """Asks about one document, so that whatever is wrong with the server is said before a run.

        Of several servers, one that cannot be reached is left out.

        Raises:
            ServerError: There is no score of it.
        """
        if len(self._members) == 1:
            self._try()
        else:
            self._fleet.reached(lambda one: one._try())

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question; the documents of one request belong to one query."""
        pairs = [(one.query, doc.text) for one in questions for doc in one.docs]
        of_query: dict[str, list[int]] = {}
        for place, (query, _) in enumerate(pairs):
            of_query.setdefault(query, []).append(place)
        places = [chunk for own in of_query.values() for chunk in cut(own, self.docs_per_request)]
        told: dict[int, tuple[float, Usage]] = {}
        for chunk, scored in zip(
            places, self._shared([[pairs[place] for place in own] for own in places]), strict=True
        ):
            told.update(zip(chunk, scored, strict=True))
        return regrouped(questions, (told[place] for place in range(len(pairs))))

    def _try(self) -> None:
        """Asks for a score.

        Raises:
            ServerError: There is none.
        """
        run(self._request([("water", "Water is wet.")]))

    def _shared(self, chunks: Sequence[Pairs]) -> list[Scored]:
        """Score and cost of each pair, chunk by chunk, of whichever server."""
        if len(self._members) == 1:
            return _rechunked(self._asked(chunks), chunks)

        def call(one: RerankEndpoint, some: list[int]) -> list[Scored]:
            own = [chunks[place] for place in some]
            try:
                return _rechunked(one._asked(own), own)
            except ModelError as error:
                told = _rechunked(error.partial, own) if error.partial else []
                error.partial = [None if None in chunk else chunk for chunk in told]
                raise

        texts = [query for chunk in chunks for query, _ in chunk[:1]]
        return self._fleet.ask(texts, call, lambda chunk: any(usage.failures for _, usage in chunk))

    def _asked(self, chunks: Sequence[Pairs]) -> list[tuple[float, Usage]]:
        """Score and cost of each pair.

        Raises:
            ServerError: Too many requests failed; or all of them, and the server has not answered any before.
        """
        wire, lost = self._wire, list[Failed]()

        async def ask(chunk: Pairs) -> Scored:
            try:
                return await self._request(chunk)
            except Failed as error:
                lost.append(error)
                raise

        answers, error = wire.each(ask, chunks)
        if lost and self._known not in wire.known:
            error = error or lost[-1]
        if error:
            error.partial = answers
            raise error
        return [one or (np.nan, NOTHING) for one in answers]

    async def _request(self, chunk: Pairs) -> Scored:
        """Score and cost of each pair of one query.

        Raises:
            Failed: They are not all told.
        """
        interface = INTERFACES[self.api]
        texts = {interface.query: chunk[0][0], interface.docs: [text for _, text in chunk]}
        tokens = sum(len(query.encode()) + len(text.encode()) for query, text in chunk)
        answer = await self._posted(texts, tokens)
        scores = _scores(answer, interface, len(chunk))
        return list(zip(scores, _costs(answer, len(chunk)), strict=True))

    async def _posted(self, texts: Mapping[str, Any], tokens: int) -> Any:  # noqa: ANN401 - JSON
        """The answer; of a server that has refused a document for its length, with that cut.

        Raises:
            Failed: There is none, or the server does not cut.
        """
        wire, interface = self._wire, INTERFACES[self.api]
        path = f"{wire.root}{interface.path}" if interface.at_root else interface.path
        known: Mapping[str, Any] = wire.known.get(self._known, {})
        for cut_off in [known] if known else [known, interface.cut]:
            try:
                answer = await wire.post(path, {"model": self.name, **texts, **cut_off, **self.extra}, tokens=tokens)
            except PromptTooLong:
                continue
            wire.known[self._known] = cut_off or wire.known.get(self._known, {})
            return answer
        raise Failed(
            f"{wire.address.url} refuses documents that exceed the context of {self.name!r}, and does not cut them; "
            "shorten their texts before they are sent",
            refused=True,
        )

    @property
    def _known(self) -> tuple[str, str]:
        """Where a wire holds, once its server gave an answer, the fields that make it cut, if it had to be told."""
        return "rerank", self.api


def _rechunked(flat: Sequence[Any], chunks: Sequence[Pairs]) -> list[list[Any]]:
    """What belongs to each chunk, from one list of all pairs."""
    turn = iter(flat)
    return [[next(turn) for _ in chunk] for chunk in chunks]


def _scores(answer: Any, interface: Interface, n: int) -> list[float]:  # noqa: ANN401 - JSON
    """The scores of ``n`` documents, in the order in which they were sent.

    Raises:
        Failed: There is not one finite score for each.
    """
    results = answer.get(interface.results) if isinstance(answer, dict) and interface.results else answer
    if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
        raise Failed(f"the server answered without results: {str(answer)[:100]!r}")
    found = {result.get("index"): result.get(interface.score) for result in results}
    scores = [found.get(place) for place in range(n)]
    if len(results) != n or not all(isinstance(one, int | float) and math.isfinite(one) for one in scores):
        raise Failed(f"the server gave {len(results)} results for {n} documents, or some without a score")
    return [float(one) for one in scores if one is not None]


def _costs(answer: Any, n: int) -> list[Usage]:  # noqa: ANN401 - JSON
    """What each of ``n`` documents cost, where the server tells it of all together."""
    usage = answer.get("usage") if isinstance(answer, dict) else None
    told: Mapping[str, Any] = usage if isinstance(usage, dict) else {}
    whole = told.get("prompt_tokens") or told.get("total_tokens")
    tokens = whole if isinstance(whole, int) else 0
    return [Usage(1, tokens // n + (place < tokens % n)) for place in range(n)]
