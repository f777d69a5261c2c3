"""``CrossEncoder``: a classification network that reads query and document together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from pyterrier_llmrank.core import Answer, Prompt, Question, Usage
from pyterrier_llmrank.errors import ConfigurationError, ModelError
from pyterrier_llmrank.models.hf.encoders import Encoded, Limits, LocalEncoder, Pooling, encode, pooled, spot_of
from pyterrier_llmrank.models.hf.heads import Kind
from pyterrier_llmrank.models.hf.trimming import Spot
from pyterrier_llmrank.models.hf.weightless import weightless
from pyterrier_llmrank.prompts.base import chat, check_template
from pyterrier_llmrank.prompts.truncation import fit

from .alone import Alone, regrouped
from .limits import check_limits

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, repr=False)
class CrossEncoder(Alone, LocalEncoder):
    """Scores (query, document) pairs with a sequence-classification checkpoint of one or two labels.

    The score is the logit of the one label, or the difference of the two logits (label 1 against label 0: natural
    log-odds). An encoder reads it off its first token, a decoder off the last one of the input. The two texts are put
    together as the checkpoint's tokenizer does it (``[CLS] query [SEP] document [SEP]``, ``<s>query<s>document`` …).
    Documents are cut to fit, queries only to ``max_query_tokens``. No score depends on its batch. Takes the arguments
    of ``Local`` (``device``, ``dtype``, ``batch_tokens``, ``max_length``, ``adapter`` …), and:

    Args:
        query_template: What the checkpoint reads for a ``{query}``.
        doc_template: What it reads for the ``{text}`` of a document.
        max_query_tokens: Tokens to keep of a query, in its template.
        max_doc_tokens: Tokens to keep of a document, in its template; all that fit by default.
        closed: Whether the tokenizer's end token closes an input, also where the tokenizer does not put it there.
        template: For checkpoints that read one text in place of a pair: text with ``{query}`` and ``{text}``. Documents
            are cut so that its end stays.
        pooling: For checkpoints with a head on every token (``…ForTokenClassification``): "mean", "cls" (the first
            token's score) or "last". As such a head is linear, the mean of its scores is a dense layer on the mean of
            the states.

    Raises:
        ConfigurationError: An argument is out of range, a template lacks its field, or ``template`` is given beside
            what belongs to pairs.
        ModelError: On first use, if the checkpoint has another head, or no end token to close inputs with. T5 that
            answers in words (monoT5) is read by presets, which the message names.

    Examples:
        RankLLaMA (``max_doc_tokens=2045`` for the document checkpoints), with title and text in the text column. Its
        paper closes the input with ``</s>``; the example on its model card does not (``closed=False``)::

            CrossEncoder(
                "castorini/rankllama-v1-7b-lora-passage", query_template="query: {query}",
                doc_template="document: {text}", max_query_tokens=32, max_doc_tokens=161, closed=True,
            )

        The first stage of DeAR::

            CrossEncoder(
                "abdoelsayed/dear-8b-reranker-ranknet-v1", query_template="query: {query}",
                doc_template="document: {text}", max_query_tokens=32, max_doc_tokens=193,
            )

        RankT5 without a decoder, as an encoder with a dense layer that was trained in transformers::

            CrossEncoder(folder, template="Query: {query} Document: {text}", pooling="mean", max_length=512)

    Reference:
        Nogueira and Cho, 2019 (monoBERT); Ma et al., 2023 (RankLLaMA), section 3.2, with the lengths of its published
        code: 3 of a passage's 164 tokens are kept for special ones; Abdallah et al., 2025 (DeAR): 3 of 196;
        Zhuang et al., 2022 (RankT5), section 4.2, for encoders alone.
    """

    query_template: str = field(default="{query}", kw_only=True)
    doc_template: str = field(default="{text}", kw_only=True)
    max_query_tokens: int | None = field(default=None, kw_only=True)
    max_doc_tokens: int | None = field(default=None, kw_only=True)
    closed: bool = field(default=False, kw_only=True)
    template: str | None = field(default=None, kw_only=True)
    pooling: Pooling | None = field(default=None, kw_only=True)

    kind = "classifier"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_template(self.query_template, ["query"])
        check_template(self.doc_template, ["text"])
        check_limits(self, "max_query_tokens", "max_doc_tokens")
        if self.pooling not in (None, "mean", "cls", "last"):
            raise ConfigurationError(f"pooling must be 'mean', 'cls' or 'last', got {self.pooling!r}")
        if self.template is not None:
            check_template(self.template, ["query", "text"])
            if (self.query_template, self.doc_template, self.max_query_tokens) != ("{query}", "{text}", None):
                raise ConfigurationError(
                    "query_template, doc_template and max_query_tokens are for pairs of texts; leave them out beside "
                    "template"
                )

    @property
    def _of(self) -> Kind:
        """The kind of its head."""
        return "tokens" if self.pooling else "classifier"

    def load(self) -> None:
        """Loads the network and checks its labels, and the tokenizer's end token where it is needed."""
        super().load()
        config = self._loaded.network.config
        if (config.num_labels or 0) > 2:
            raise ModelError(f"{self.name} has {config.num_labels} labels; CrossEncoder reads one or two")
        if self.closed and self._loaded.tokenizer.eos_token_id is None:
            raise ModelError(f"{self.name} has no end token to close an input with; leave out closed=True")

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question; all pairs of all questions are batched together."""
        if not questions:
            return []
        self.load()
        inputs = self.inputs(questions)
        scores = self._run(inputs, self.read, self._spot)[:, 0]
        return regrouped(questions, zip(scores, (one.usage for one in inputs), strict=True))

    def planned(self, questions: Sequence[Question]) -> list[Usage]:
        """What questions would cost, by the tokenizer alone: no weights are loaded."""
        inputs = weightless(self).inputs(questions)
        return [answer.usage for answer in regrouped(questions, ((0.0, one.usage) for one in inputs))]

    def read(self, out: Any, mask: Tensor) -> Tensor:  # noqa: ANN401 - of every network its own
        """The score of each input of a batch, (batch, 1), off what the network gave."""
        logits: Tensor = out.logits.float()
        labels = logits if self.pooling is None else pooled(logits, mask, self.pooling)  # (batch, labels)
        return labels[:, 1:] - labels[:, :1] if labels.shape[1] == 2 else labels

    @property
    def _spot(self) -> Spot | None:
        """The one token of an input that the score depends on."""
        return "label" if self.pooling is None else spot_of(self.pooling)

    def inputs(self, questions: Sequence[Question]) -> list[Encoded]:
        """What is read for each document in turn."""
        pairs = [(self.plain(one.query), self.plain(doc.text)) for one in questions for doc in one.docs]
        end = [self._loaded.tokenizer.eos_token_id] if self.closed else []
        if self.template is not None:
            asked = [(query, [text]) for query, text in pairs]
            text = OneText(self.template)
            cut = fit(text, asked, self, reserve=[len(end)] * len(asked), max_doc_tokens=self.max_doc_tokens)
            inputs = encode(self._loaded, [one.prompt.messages[0].content for one in cut], None, Limits(), end)
            return [one._replace(lost=own.lost) for one, own in zip(inputs, cut, strict=True)]
        queries = [self.query_template.format(query=query) for query, _ in pairs]
        texts = [self.doc_template.format(text=text) for _, text in pairs]
        limits = Limits(self.context, self.max_query_tokens, self.max_doc_tokens)
        return encode(self._loaded, queries, texts, limits, end)


class OneText(NamedTuple):
    """Renders a query and a document as one text."""

    template: str

    def render(self, query: str, texts: Sequence[str]) -> Prompt:
        """The text."""
        return chat(self.template.format(query=query, text=texts[0]))
