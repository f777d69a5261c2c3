"""``GroupwiseLLM``: a score for every document of a group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyterrier_llmrank.aggregates import mean
from pyterrier_llmrank.core import Strategy
from pyterrier_llmrank.designs import shuffled_groups
from pyterrier_llmrank.presets.registry import Name, Options
from pyterrier_llmrank.prompts import GroupPrompt
from pyterrier_llmrank.prompts.base import Template
from pyterrier_llmrank.strategies import Sampled

from .base import DEFAULT_MODEL, Demonstrations, Method

if TYPE_CHECKING:
    from typing_extensions import Unpack


class GroupwiseLLM(Method):
    """Shows a language model groups of documents and asks for a score of each (GroupRank).

    ``bm25 >> GroupwiseLLM()``. Groups are drawn at random, anew in each epoch; scores are averaged, those that could
    not be read are left out. ``epochs * ceil(n / group_size)`` calls in one round. A checkpoint that was trained as a
    groupwise reranker (see ``presets.list()``) is asked as it was trained to be.

    Args:
        model: A name on the Hugging Face hub, a folder, or a ``Model`` such as ``HFModel(name, thinking=True)``.
        group_size: Documents shown at once.
        epochs: How often each document is shown.
        seed: Draws the groups.
        strategy: Which groups are asked about, in place of these three.
        prompt: What is asked, in place of ``GroupPrompt()``.
        demonstrations: Solved examples, shown before each question.
        max_doc_tokens: Tokens to keep of any document; 256 by default, or what the checkpoint was trained on.
        **options: What every method takes; see ``Options``.

    Raises:
        ConfigurationError: A size or a number of epochs out of range, or parts that do not fit together.
        ModelNotFound: A folder that does not exist, or a name that the hub does not know. Where the hub cannot be
            reached this waits for the first use, or for ``load()``, and comes before any prompt is run.
    """

    family = "groupwise"

    def __init__(
        self,
        model: Name = DEFAULT_MODEL,
        *,
        group_size: int = 10,
        epochs: int = 2,
        seed: int = 0,
        strategy: Strategy | None = None,
        prompt: Template | None = None,
        demonstrations: Demonstrations = (),
        max_doc_tokens: int | None = None,
        **options: Unpack[Options],
    ) -> None:
        self.model, self.prompt, self.told = model, prompt, strategy
        self.group_size, self.epochs, self.seed = group_size, epochs, seed
        self.demonstrations, self.max_doc_tokens = demonstrations, max_doc_tokens
        self._alone(strategy, group_size=group_size, epochs=epochs, seed=seed)
        scorer, _ = self._asked(GroupPrompt(), 256, options)
        self._build(strategy or Sampled(shuffled_groups(group_size, epochs, seed), mean), scorer, options)
