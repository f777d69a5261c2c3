"""``PointwiseLLM``: each document by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyterrier_llmrank.core import Strategy
from pyterrier_llmrank.presets.registry import Name, Options
from pyterrier_llmrank.prompts import YesNo
from pyterrier_llmrank.prompts.base import Template
from pyterrier_llmrank.strategies import Pointwise

from .base import DEFAULT_MODEL, Demonstrations, Method

if TYPE_CHECKING:
    from typing_extensions import Unpack


class PointwiseLLM(Method):
    """Asks a language model about each document by itself: is it relevant, yes or no?

    ``bm25 >> PointwiseLLM()``. Scores are log-odds of yes against no. n calls, one round. A checkpoint that was trained
    as a pointwise reranker (see ``presets.list()``) is asked as it was trained to be.

    Args:
        model: A name on the Hugging Face hub, a folder, or a ``Model`` such as ``HFModel(name, thinking=True)``.
        prompt: What is asked, e.g. ``Graded()``; ``YesNo()``, or what the checkpoint was trained on, by default.
        strategy: Which groups are asked about; ``Pointwise()`` by default.
        demonstrations: Solved examples, shown before each question.
        max_doc_tokens: Tokens to keep of any document; 512 by default, or what the checkpoint was trained on.
        **options: What every method takes; see ``Options``.

    Raises:
        ConfigurationError: Parts that do not fit together.
        ModelNotFound: A folder that does not exist, or a name that the hub does not know. Where the hub cannot be
            reached this waits for the first use, or for ``load()``, and comes before any prompt is run.
    """

    family = "pointwise"

    def __init__(
        self,
        model: Name = DEFAULT_MODEL,
        *,
        prompt: Template | None = None,
        strategy: Strategy | None = None,
        demonstrations: Demonstrations = (),
        max_doc_tokens: int | None = None,
        **options: Unpack[Options],
    ) -> None:
        self.model, self.prompt, self.told = model, prompt, strategy
        self.demonstrations, self.max_doc_tokens = demonstrations, max_doc_tokens
        scorer, known = self._asked(YesNo(), 512, options)
        self._build(strategy or known or Pointwise(), scorer, options)
