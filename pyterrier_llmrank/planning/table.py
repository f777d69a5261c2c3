"""``plan``: calls, rounds, tokens, seconds and money of a run, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
import pandas as pd
import pyterrier as pt

from pyterrier_llmrank.errors import ConfigurationError, InputError
from pyterrier_llmrank.ledger import Ledger
from pyterrier_llmrank.seeds import derived, generator

from .rates import Price, Rates, Speed
from .row import COLUMNS, Scope, row
from .watching import Watched, replaced, rerankers_in

T = TypeVar("T")
Each: TypeAlias = T | list[T | None] | None

TURNS = 3  # runs with other orders, where what is asked depends on the answers


def plan(
    pipeline: pt.Transformer,
    topics: pd.DataFrame,
    *,
    candidates: int | pd.DataFrame | None = None,
    price: Each[Price] = None,
    speed: Each[Speed] = None,
    earlier: Each[Ledger] = None,
    answer_tokens: int | None = None,
    queries: int = 100,
    questions: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """What running a pipeline over topics will take: a row per reranker in it, and their total. No prompt is run.

    The pipeline is run up to its last reranker over the topics, or over a sample of them, with a stand-in for each
    reranker that answers by a random order of the documents. So what the strategies ask is counted, not modelled: it is
    the number where it does not depend on the answers, else the expectation for lists in random order and a model that
    never contradicts itself (a good first stage saves some strategies questions, a confused model costs some more),
    beside the strategy's own bound. A sample of the questions is rendered with the prompts and tokenised, with no
    weights loaded and no server asked: with the tokenizer of a local model, or the one that ``OpenAIModel`` was told.
    Everything else in the pipeline is really run, but for caches around rerankers; so is a reranker that cannot be
    seen, in a function or a worker process. ``SlideGAR`` is planned as a reranker, without a bound.

    Prompt tokens are all that prompts hold. What a model does not compute again of prompts that begin alike (much, of
    pairs) depends on which of them it reads together, and is taken from an ``earlier`` run, or else as nothing.

    ``% k`` saves what it saves in a run: plan ``pipeline.compile()`` where that is what you run.

    Args:
        pipeline: Any pipeline of PyTerrier, or a reranker.
        topics: What it will be given: topics, or results to rerank.
        candidates: What to use in place of the stages before the first reranker: results with texts; or a number of
            documents for each topic, whose texts are not known, and so neither are tokens.
        price: Money per million tokens: (prompt, output), or (prompt, output, cached prompt tokens).
        speed: Tokens a second, those of prompts (less cached ones) and outputs together; or (prompt, output).
        earlier: Costs of an earlier run of the same reranker, such as ``reranker.ledger``: how many tokens an answer
            had and how many of a prompt's were cached, and, unless ``speed`` is given, seconds by token.
        answer_tokens: Tokens that written answers are expected to have, where they may be longer by far (reasoning).
        queries: Topics to run; the others are taken to be like them.
        questions: Questions of each reranker to render.
        seed: Of the samples and the orders.

        ``price``, ``speed`` and ``earlier`` can each be a list, of one for each reranker (None where it has none).

    Returns:
        A frame with ``reranker`` ("total" for the last row); ``queries``; ``docs``, the mean number of documents that
        are reranked for a query; ``exact``, whether calls and rounds are the numbers of the run; ``calls``;
        ``calls_at_most``; ``rounds``, how many times the scorer is asked, one after the other; ``rounds_at_most``;
        ``prompt_tokens``, of these ``cached_tokens`` (0 unless ``earlier`` tells); ``output_tokens``, as many as there
        may be where nothing tells how many there will be; ``truncated_tokens`` of documents that do not fit;
        ``seconds`` and ``money``, and how much they are if calls and answers are as many and as long as they may be;
        ``counted``, how tokens were counted: by a "tokenizer", by an "estimate" (4 characters a token), or "unknown".
        NaN is what is not known: bounds of a strategy without ``cost``, tokens of a scorer that does not tell them.

    Raises:
        ConfigurationError: The pipeline holds no reranker, or an argument is out of range.
        InputError: Topics or candidates lack a column, or have no qid in common.
    """
    _check(topics, candidates, queries=queries, questions=questions, answer_tokens=answer_tokens)
    stages = list(pipeline) if isinstance(pipeline, pt.Compose) else [pipeline]
    places = [place for place, stage in enumerate(stages) if rerankers_in(stage)]
    if not places:
        raise ConfigurationError(f"there is no reranker in {pipeline!r} that could be seen; plan the reranker itself")
    watched: list[Watched] = []

    def stand_in(reranker: pt.Transformer) -> pt.Transformer:
        watched.append(Watched(reranker, derived(seed, len(watched)), questions))
        return watched[-1].stand_in()

    body = [replaced(stage, stand_in) for stage in stages[places[0] : places[-1] + 1]]
    every = topics["qid"].drop_duplicates()
    chosen = every if len(every) <= queries else every.iloc[np.sort(generator(seed).permutation(len(every))[:queries])]
    start = _start(stages[: places[0]], topics[topics["qid"].isin(chosen)], candidates, watched)
    turns = _run(body, start, watched)
    number = isinstance(candidates, int)
    scope = Scope(turns, len(chosen), len(every), number, not number, answer_tokens)
    told = [_each(name, value, watched) for name, value in (("price", price), ("speed", speed), ("earlier", earlier))]
    rates = [Rates(*own) for own in zip(*told, strict=True)]
    rows = [row(one, rate, scope) for one, rate in zip(watched, rates, strict=True)]
    return pd.DataFrame([*rows, _total(rows)], columns=list(COLUMNS))


def _start(
    head: Sequence[pt.Transformer],
    topics: pd.DataFrame,
    candidates: int | pd.DataFrame | None,
    watched: Sequence[Watched],
) -> pd.DataFrame:
    """What reaches the first stage that holds a reranker."""
    if candidates is None:
        for stage in head:
            topics = stage.transform(topics)
        return topics
    if isinstance(candidates, pd.DataFrame):
        own = candidates[candidates["qid"].astype(str).isin(topics["qid"].astype(str))]
        if not len(own):
            raise InputError("no qid of the topics is among the candidates")
        return own
    lists = topics.drop_duplicates("qid")[["qid"]].merge(pd.DataFrame({"rank": range(candidates)}), how="cross")
    texts = {name: "" for name in ("query", *(one.reranker.text_field for one in watched))}
    return lists.assign(docno=lists["rank"].astype(str), score=-lists["rank"].astype(float), **texts)


def _run(body: Sequence[pt.Transformer], start: pd.DataFrame, watched: Sequence[Watched]) -> int:
    """Runs the stages with stand-ins, once more for other orders where it matters; returns how often."""
    for turn in range(TURNS):
        frame = start
        for one in watched:
            one.turn = turn
        for stage in body:
            frame = stage.transform(frame)
        if all((costs := one.costs()) is not None and all(cost.exact for cost in costs) for one in watched):
            return turn + 1
    return TURNS


def _each(name: str, value: Any, watched: Sequence[Watched]) -> list[Any]:  # noqa: ANN401 - any of the three
    """One value for each reranker."""
    if not isinstance(value, list):
        return [value] * len(watched)
    if len(value) != len(watched):
        raise ConfigurationError(f"{name} lists {len(value)} values for {len(watched)} rerankers; give one for each")
    return value


def _total(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The sum of all rows; unknown where one of them is."""
    sums = {name: sum(one[name] for one in rows) for name in COLUMNS[COLUMNS.index("calls") : -1]}
    counted = ", ".join(dict.fromkeys(one["counted"] for one in rows))
    exact = all(one["exact"] for one in rows)
    return {
        "reranker": "total",
        "queries": rows[0]["queries"],
        "docs": np.nan,
        "exact": exact,
        **sums,
        "counted": counted,
    }


def _check(topics: pd.DataFrame, candidates: int | pd.DataFrame | None, **numbers: int | None) -> None:
    """Refuses what cannot be planned."""
    if "qid" not in topics or "query" not in topics:
        raise InputError(f"topics need the columns qid and query, got {list(topics)}")
    if isinstance(candidates, pd.DataFrame):
        if "qid" not in candidates:
            raise InputError(f"candidates need the column qid, got {list(candidates)}")
    else:
        numbers["candidates"] = candidates
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise ConfigurationError(f"{name} must be at least 1, got {value}")
