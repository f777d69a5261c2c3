"""``Attention``: documents by how much the words of the query attend to them, inside the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Answer, Evidence, Question, Usage, brief
from pyterrier_llmrank.errors import ConfigurationError, Unsupported
from pyterrier_llmrank.models import HFModel, Model
from pyterrier_llmrank.models.base import Attended, Attentive
from pyterrier_llmrank.models.hf.asked import ask
from pyterrier_llmrank.models.hf.weightless import weightless
from pyterrier_llmrank.prompts.in_context import InContextPrompt, Passages, Span
from pyterrier_llmrank.prompts.truncation import fit

from .heads import Head, Heads, checked, released, resolved
from .limits import check_limits
from .showing import is_probed

NOTHING = "N/A"  # the query that asks for nothing
IE = InContextPrompt()
ROOM = 8  # tokens for it, where a query is shorter


class Weighed(NamedTuple):
    """How much a document was attended to.

    Attributes:
        text: The document as it was shown, with its label.
        tokens: Where its tokens stand in ``text``, [start, end) in characters.
        weights: Of each token, (tokens,), or (heads, tokens); 0 for those that were left out. Their sum is the score.
    """

    text: str
    tokens: list[Span]
    weights: NDArray[np.float64]


class Looked(NamedTuple):
    """What a question comes to: its documents, in its order, and the cost."""

    docs: list[Weighed]
    usage: Usage


@dataclass(frozen=True, repr=False)
class Attention:
    """Scores documents by the attention that a query pays to them, in one pass over a prompt that shows them all.

    A document's score is the sum over its tokens, over the chosen heads, of the attention from the words after the
    documents (instruction, query, and what closes the turn), averaged over these. With ``calibrate`` the same for the
    query "N/A" is taken off, token by token, and tokens that then lie two standard deviations or more below the mean
    of their document are left out: what is left is the attention that the query itself attracted. Nothing is generated.
    Scores of one prompt compare with each other, not with those of another prompt. The order in which documents are
    shown matters.

    Memory grows with the length of the prompt, not with its square: documents are computed once for both queries, and
    layers behind the last chosen head are not run at all.

    Args:
        model: A local decoder, ``HFModel(name)``.
        heads: "all" (ICR); "middle", a band of layers (Selective-ICR), or another ``Band``; "qr" or "core", the heads
            that were published for a model as QRHead and CoRe; or pairs of a layer and a head, counted from 0.
        calibrate: Whether the attention of the query "N/A" is taken off.
        order: "reversed" shows the first document last, nearest to the query; "input" shows it first.
        prompt: Instruction, way of writing the turn, layout.
        max_words: Words to keep of a document, separated by single spaces, as in the papers; None for all.
        max_doc_tokens: Tokens to keep of it.
        slowly: Whether the network attends by itself, for those that are not exact otherwise: takes memory that grows
            with the square of the length, and all layers.

    Raises:
        ConfigurationError: An argument is out of range, or there are no published heads for the model.
        Unsupported: The model is not a local one. On first use: it does not attend in the ordinary way.

    Reference:
        Chen et al., 2025 (ICR); Zhang et al., 2025 (QRHead); Tran et al., 2025 (CoRe); Chen et al., 2026
        (Selective-ICR).
    """

    model: Model
    heads: Heads = "all"
    _: KW_ONLY
    calibrate: bool = True
    order: Literal["reversed", "input"] = "reversed"
    prompt: InContextPrompt = IE
    max_words: int | None = 300
    max_doc_tokens: int | None = None
    slowly: bool = False

    __repr__ = brief

    def __post_init__(self) -> None:
        object.__setattr__(self, "heads", checked(self.heads))
        if self.order not in ("reversed", "input"):
            raise ConfigurationError(f"order must be 'reversed' or 'input', got {self.order!r}")
        check_limits(self, "max_words", unit="word")
        check_limits(self, "max_doc_tokens")
        can = () if is_probed(self.model) else getattr(self.model, "can", None)
        if can is None:
            raise ConfigurationError(f"{self.model!r} is not a model: pass one such as HFModel('Qwen/Qwen3-0.6B')")
        if "attention" not in can:
            raise Unsupported(f"attention is read from local models, such as HFModel(name); {self.model!r} gives none")
        if self.heads in ("qr", "core") and not self._is_folder:
            released(str(self.heads), self._name)

    @property
    def gives(self) -> Evidence:
        """The order of the documents of one prompt."""
        return Evidence.ORDER

    @property
    def max_docs(self) -> int | None:
        """As many as the model's context holds."""
        return None

    def load(self) -> None:
        """Loads the model, and finds its heads."""
        self.model.load()
        self._heads  # noqa: B018 - a cached property

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question."""
        return [
            Answer(np.array([doc.weights.sum() for doc in one.docs], dtype=np.float64), one.usage)
            for one in self.look(questions)
        ]

    def look(self, questions: Sequence[Question], *, by_head: bool = False) -> list[Looked]:
        """How much each token of each document was attended to; with ``by_head``, by each head."""
        if not questions:
            return []
        self.load()
        shown = self._shown(self.model, questions)
        prompts = [prompt for prompt, _ in shown]
        nothing = [self._prompt(self.model).recast(prompt, self.model.plain(NOTHING)) for prompt in prompts]
        asked = [*prompts, *(nothing if self.calibrate else [])]
        found = self._attentive.attention(
            asked,
            rows=[prompt.rows for prompt in asked],
            spans=[prompt.spans for prompt in asked],
            heads=self._heads,
            by_head=by_head,
            slowly=self.slowly,
        )
        base: Sequence[Attended | None] = found[len(prompts) :] or [None] * len(prompts)
        return [
            self._looked(prompt, lost, query, other)
            for (prompt, lost), query, other in zip(shown, found[: len(prompts)], base, strict=True)
        ]

    def planned(self, questions: Sequence[Question]) -> list[Usage]:
        """What questions would cost, by the tokenizer alone: no weights are loaded."""
        model: Any = self.model
        while not isinstance(model, HFModel) and hasattr(model, "inner"):
            model = model.inner
        model = weightless(model)
        usages = []
        for prompt, lost in self._shown(model, questions):
            runs = [prompt, *([self._prompt(model).recast(prompt, NOTHING)] if self.calibrate else [])]
            asked = [ask(model._text, one, one.rows, one.spans) for one in runs]
            tokens, shared = sum(len(one.ids) for one in asked), sum(one.rows[0] for one in asked[1:])
            usages.append(Usage(len(runs), tokens, 0 if self.slowly else shared, truncated_tokens=lost))
        return usages

    def _shown(self, model: Model, questions: Sequence[Question]) -> list[tuple[Passages, int]]:
        """A prompt for each question, and the tokens that its documents lost."""
        step = -1 if self.order == "reversed" else 1
        items = [
            (model.plain(one.query), [model.plain(self._cut(doc.text)) for doc in one.docs[::step]])
            for one in questions
        ]
        reserve = [ROOM] * len(items)
        fitted = fit(self._prompt(model), items, model, reserve=reserve, max_doc_tokens=self.max_doc_tokens)
        return [(one.prompt, one.lost) for one in fitted]  # type: ignore[misc]

    def _cut(self, text: str) -> str:
        """The words of a text that are shown."""
        return " ".join(text.split(" ")[: self.max_words]).strip()

    def _looked(self, prompt: Passages, lost: int, query: Attended, nothing: Attended | None) -> Looked:
        """The documents of one prompt, in the order of its question."""
        content = prompt.messages[-1].content
        docs = []
        for place, (start, end) in enumerate(prompt.spans):
            weights = query.weights[place].astype(np.float64)
            if nothing is not None:
                weights = without_outliers(weights - nothing.weights[place])
            tokens = [(max(a, start) - start, min(b, end) - start) for a, b in query.tokens[place]]
            docs.append(Weighed(content[start:end], tokens, weights))
        usage = query.usage + (Usage() if nothing is None else nothing.usage) + Usage(truncated_tokens=lost)
        return Looked(docs[::-1] if self.order == "reversed" else docs, usage)

    def _prompt(self, model: Any) -> InContextPrompt:  # noqa: ANN401 - a model, or one without weights
        return self.prompt if self.prompt.dialect != "auto" else self.prompt.of(model.dialect)

    @cached_property
    def _heads(self) -> tuple[Head, ...] | None:
        return resolved(self.heads, self._attentive.attention_heads, self._name)

    @property
    def _attentive(self) -> Attentive:
        return cast("Attentive", self.model)

    @property
    def _name(self) -> str:
        return str(getattr(self.model, "name", ""))

    @property
    def _is_folder(self) -> bool:
        """Whether the name of the model may say nothing of it, so that it is only asked for where it is used."""
        return self._name.startswith((".", "/", "~"))

    def __getstate__(self) -> dict[str, Any]:
        """Its arguments; heads are found again where it is unpickled."""
        return {name: value for name, value in vars(self).items() if name in self.__dataclass_fields__}


def without_outliers(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Calibrated weights of the tokens of a document, 0 for those far below the others: (…, tokens) -> (…, tokens).

    A token counts if it lies above the mean less two standard deviations (unbiased), and if it is the only one.

    Reference:
        Chen et al., 2025 (ICR), section 3.
    """
    n = weights.shape[-1]
    if n < 2:
        return weights
    floor = weights.mean(-1, keepdims=True) - 2 * weights.std(-1, ddof=1, keepdims=True)
    return np.where(weights > floor, weights, 0.0)
