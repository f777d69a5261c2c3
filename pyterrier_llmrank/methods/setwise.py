"""``SetwiseLLM``: the best of a small set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pyterrier_llmrank.core import Strategy
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.presets.registry import Common, Name
from pyterrier_llmrank.prompts import SetPrompt
from pyterrier_llmrank.prompts.base import Template
from pyterrier_llmrank.strategies import Bubble, Heapsort, Insertion

from .base import DEFAULT_MODEL, Demonstrations, Method, chosen

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SetwiseLLM(Method):
    """Shows a language model a few documents at a time and asks for the best one.

    ``bm25 >> SetwiseLLM()``. A checkpoint that was trained as a setwise reranker (see ``presets.list()``) is asked as
    it was trained to be, in groups of its own size.

    Args:
        model: A name on the Hugging Face hub, a folder, or a ``Model`` such as ``HFModel(name, thinking=True)``.
        strategy: How the best of groups make an order: "heapsort" (82 calls for 100 documents, groups of 4 and
            ``top_k=10``), "bubble" (about 300), "insertion" (from about 50, where the first stage is good); or a
            strategy object.
        group_size: Documents shown at once; 4 by default, or what the checkpoint was trained on.
        decode: "choices" compares the probabilities of the labels; "generate" lets the model write one.
        prompt: What is asked, in place of ``SetPrompt(decode=decode)``.
        top_k: Positions to settle; the rest stay in input order. None for all.
        demonstrations: Solved examples, shown before each question.
        max_doc_tokens: Tokens to keep of any document; 256 by default, or what the checkpoint was trained on.
        **options: What every method takes; see ``Common``.

    Raises:
        ConfigurationError: An unknown strategy or decode mode, a group of fewer than 2, or parts that do not fit
            together.
        ModelNotFound: A folder that does not exist, or a name that the hub does not know. Where the hub cannot be
            reached this waits for the first use, or for ``load()``, and comes before any prompt is run.
    """

    family = "setwise"

    def __init__(
        self,
        model: Name = DEFAULT_MODEL,
        *,
        strategy: Literal["heapsort", "bubble", "insertion"] | Strategy = "heapsort",
        group_size: int | None = None,
        decode: Literal["choices", "generate"] = "choices",
        prompt: Template | None = None,
        top_k: int | None = 10,
        demonstrations: Demonstrations = (),
        max_doc_tokens: int | None = None,
        **options: Unpack[Common],
    ) -> None:
        self.model, self.prompt, self.told = model, prompt, strategy
        self.group_size, self.decode, self.top_k = group_size, decode, top_k
        self.demonstrations, self.max_doc_tokens = demonstrations, max_doc_tokens
        if group_size is not None and not isinstance(strategy, str):
            raise ConfigurationError(f"group_size={group_size} belongs to the strategy that is given: {strategy!r}")
        scorer, known = self._asked(SetPrompt(decode=decode), 256, options)
        size = group_size or (known.group_size if known else None) or 4
        named: dict[str, Strategy] = {"heapsort": Heapsort(size), "bubble": Bubble(size), "insertion": Insertion(size)}
        self._build(chosen(strategy, named), scorer, options)
