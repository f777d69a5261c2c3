"""What a Set-Encoder reads of a query and a document: ``[CLS] [INT] query [SEP] document [SEP]``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from pyterrier_llmrank.errors import ModelError, PromptTooLong
from pyterrier_llmrank.models.hf.encoders import Encoded, Limits

INTERACTION = ("[INT]", "[DOC]")  # as the released checkpoints call it; where there are both, the first was trained


class Row(NamedTuple):
    """Documents of some sets, one behind the other, without padding.

    Attributes:
        ids: Their tokens, (tokens,).
        types: The segments of these, (tokens,).
        lengths: Tokens of each document.
        sizes: Documents of each set.
    """

    ids: torch.Tensor
    types: torch.Tensor
    lengths: list[int]
    sizes: list[int]


def row_of(sets: Sequence[Sequence[Encoded]], device: torch.device | str = "cpu") -> Row:
    """What a network reads of some sets of documents."""
    docs = [one for own in sets for one in own]
    ids, types = [token for one in docs for token in one.ids], [kind for one in docs for kind in one.types]
    both = torch.tensor([ids, types], dtype=torch.long, device=device)
    return Row(both[0], both[1], [len(one.ids) for one in docs], [len(own) for own in sets])


class SetInputs:
    """Puts texts together as the checkpoint was trained on them, for training and for ranking alike.

    Each text is tokenised, cut, written out again and tokenised anew, as the official code does it: what comes out may
    differ in a few tokens from what went in.

    Args:
        tokenizer: Of the checkpoint.
        config: Of the checkpoint.
        known_ids: Token ids that the network has an embedding for.
        limits: Tokens to keep at most; of query and document by default as many as in training.

    Raises:
        ModelError: The tokenizer lacks a token that inputs are made with.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, known_ids: int, limits: Limits
    ) -> None:
        self.tokenizer = tokenizer
        self.limits = limits
        query, text = getattr(config, "query_length", None), getattr(config, "doc_length", None)
        self._query = limits.first or query
        self._text = limits.second or text
        self._start, self._end = tokenizer.cls_token_id, tokenizer.sep_token_id
        if self._start is None or self._end is None:
            raise ModelError(
                f"the tokenizer of {tokenizer.name_or_path} has no [CLS] or [SEP], which inputs are made with"
            )
        self._head = [self._start]
        if getattr(config, "add_extra_token", False):
            self._head.append(_interaction(tokenizer, known_ids))

    def __call__(self, queries: Sequence[str], texts: Sequence[str]) -> list[Encoded]:
        """One input for each pair of a query and a text.

        Raises:
            PromptTooLong: A query leaves no room for a document.
        """
        if not queries:
            return []
        distinct = list(dict.fromkeys(queries))
        read = dict(zip(distinct, self._cut(distinct, self._query), strict=True))
        inputs = []
        for query, (text, lost) in zip(queries, self._cut(texts, self._text), strict=True):
            first = [*self._head, *read[query][0], self._end]
            room = len(text) if self.limits.whole is None else self.limits.whole - len(first) - 1
            if room < min(1, len(text)):
                raise PromptTooLong(
                    f"a query of {len(read[query][0])} tokens leaves no room for a document within "
                    f"{self.limits.whole} tokens; shorten the query, or use a model with more context"
                )
            kept = text[:room]
            ids = [*first, *kept, self._end]
            types = [0] * len(first) + [1] * (len(kept) + 1)
            inputs.append(Encoded(ids, types, lost + len(text) - len(kept)))
        return inputs

    def _cut(self, texts: Sequence[str], limit: int | None) -> list[tuple[list[int], int]]:
        """Tokens of each text, and how many it lost."""
        whole = self._ids(texts)
        cut = self._ids([str(self.tokenizer.decode(ids[:limit])) for ids in whole])
        lost = [0 if limit is None else max(0, len(ids) - limit) for ids in whole]
        return list(zip(cut, lost, strict=True))

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        rows: Any = self.tokenizer(
            list(texts), add_special_tokens=False, return_attention_mask=False, truncation=False, verbose=False
        )
        return list(rows["input_ids"])


def _interaction(tokenizer: PreTrainedTokenizerBase, known_ids: int) -> int:
    """The id of the token by which documents see one another: one that the network has an embedding for."""
    vocabulary = tokenizer.get_vocab()
    for token in INTERACTION:
        if vocabulary.get(token, known_ids) < known_ids:
            return int(vocabulary[token])
    raise ModelError(
        f"the tokenizer of {tokenizer.name_or_path} has no interaction token ({' or '.join(INTERACTION)}) that the "
        "network knows; use a checkpoint such as 'webis/set-encoder-base' with its own tokenizer"
    )
