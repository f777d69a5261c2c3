"""``CrossAttention``: documents scored by how much a decoder attends to them while it answers the query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import cast

from pyterrier_llmrank.core import Answer, Evidence, Question, Usage, brief
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.models import FusedModel, HFModel
from pyterrier_llmrank.models.hf.crossing import attended
from pyterrier_llmrank.models.hf.weightless import weightless
from pyterrier_llmrank.prompts.base import check_template
from pyterrier_llmrank.prompts.fused import FusedPrompt

from .fusion import as_fused, fitted
from .limits import check_limits
from .showing import Item

TOKENS = 19  # of an answer: 20 with the token that it starts with, as in castorini/LiT5


@dataclass(frozen=True, repr=False)
class CrossAttention:
    """Scores the documents of a group by the cross-attention of a model that answers the query from all of them.

    Each document is encoded alone, beside the query; one decoder writes an answer, which is thrown away. A document's
    score is the attention that its tokens got, without those of the query: the share of each, times the norm of its
    value vector, averaged over heads, summed over steps and layers. It is above 0, and comparable within the group
    only, as documents share the attention. No labels of relevance were needed to train such a model.

    Args:
        model: A reader of questions with fusion in the decoder, by name or as an ``HFModel``, whose ``max_length``
            bounds what is read of one document, with the query.
        head: What a text begins with, and is not counted: text with ``{query}``.
        tail: What follows it: text with ``{text}``.
        max_doc_tokens: Tokens to keep of any document; all that fit by default.
        max_tokens: Tokens of the answer at most.

    Raises:
        ConfigurationError: ``model`` runs elsewhere, a template lacks its field, or a number is below 1.
        Unsupported: On first use, if ``model`` is not a T5.

    Examples:
        LiT5-Score, over 100 passages at once::

            Rerank(OneShot(), CrossAttention("castorini/LiT5-Score-base"), depth=100)

    Reference:
        Tamber et al., 2023 (LiT5), section 3.2; Izacard and Grave, 2021 (Distilling Knowledge from Reader to
        Retriever), section 3.
    """

    model: HFModel | str
    _: KW_ONLY
    head: str = "question: {query}"
    tail: str = " context: {text}"
    max_doc_tokens: int | None = None
    max_tokens: int = TOKENS

    __repr__ = brief

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", as_fused(self.model))
        if not isinstance(self.model, FusedModel):
            raise ConfigurationError(f"CrossAttention looks inside a model: pass its name, not {self.model!r}")
        check_template(self.head, ["query"])
        check_template(self.tail, ["text"])
        check_limits(self, "max_doc_tokens", "max_tokens")

    @property
    def gives(self) -> Evidence:
        """The order of the group."""
        return Evidence.ORDER

    @property
    def max_docs(self) -> int | None:
        """Any number."""
        return None

    def load(self) -> None:
        """Loads the model."""
        self._model.load()

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question; all documents of all questions are batched together."""
        if not questions:
            return []
        model, items = self._model, self._items(questions)
        prompts, lost = fitted(self._prompt, items, model, self.max_doc_tokens)
        heads = [self.head.format(query=item.query) for item in items]
        skipped = [len(ends) for ends in model.token_ends(heads)]
        read = attended(model, prompts, skipped, self.max_tokens)
        return [
            Answer(one.parts, one.usage + Usage(truncated_tokens=gone)) for one, gone in zip(read, lost, strict=True)
        ]

    def planned(self, questions: Sequence[Question]) -> list[Usage]:
        """What questions would cost at most, by the tokenizer alone: no weights are loaded."""
        own = replace(self, model=weightless(self._model))
        prompts, lost = fitted(self._prompt, own._items(questions), own._model, self.max_doc_tokens)
        return [
            Usage(calls=1, prompt_tokens=length, output_tokens=self.max_tokens, truncated_tokens=gone)
            for length, gone in zip(own._model.lengths(prompts), lost, strict=True)
        ]

    @property
    def _model(self) -> FusedModel:
        return cast(FusedModel, self.model)

    @property
    def _prompt(self) -> FusedPrompt:
        return FusedPrompt(self.head + self.tail)

    def _items(self, questions: Sequence[Question]) -> list[Item]:
        """What is shown of each question."""
        plain = self._model.plain
        return [Item(plain(one.query), tuple(plain(doc.text) for doc in one.docs), ()) for one in questions]
