"""``ListwiseLLM``: windows of documents in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pyterrier_llmrank.core import Strategy
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.presets.registry import Name, Options
from pyterrier_llmrank.prompts import ListPrompt
from pyterrier_llmrank.prompts.base import Template
from pyterrier_llmrank.strategies import SlidingWindow

from .base import DEFAULT_MODEL, Demonstrations, Method

if TYPE_CHECKING:
    from typing_extensions import Unpack


class ListwiseLLM(Method):
    """Shows a language model windows of documents and asks for their order (RankGPT; FIRST with ``decode="first"``).

    ``bm25 >> ListwiseLLM()``. For 100 documents in windows of 20 with stride 10, 9 calls in 9 rounds. A checkpoint
    that was trained as a listwise reranker, such as ``"castorini/rank_zephyr_7b_v1_full"`` (see ``presets.list()``), is
    asked as it was trained to be.

    Args:
        model: A name on the Hugging Face hub, a folder, or a ``Model`` such as ``HFModel(name, thinking=True)``.
        window: Documents shown at once.
        stride: How far the window moves.
        passes: How often the whole list is gone through.
        strategy: Which windows are asked about, in place of a sliding one, e.g. ``TopDown(20)`` or
            ``Sampled(equi_replicate(20), page_rank)``.
        decode: "generate" lets the model write the order out, by numbers; "first" reads it from the probabilities of
            the first identifier, a letter: one forward pass, no generation, at most 26 documents a window; with
            "constrained" the model writes nothing but identifiers that it did not use yet, so that every window is
            ordered completely. With ``top_k`` up to ``window``, one pass and no other strategy, it then names only as
            many of each window as can get there (half of them by default), and the first ``top_k`` are the same.
        prompt: What is asked, in place of ``ListPrompt(decode=decode)``, by letters with "first".
        demonstrations: Solved examples, shown before each question.
        max_doc_tokens: Tokens to keep of any document; 256 by default, or what the checkpoint was trained on.
        **options: What every method takes; see ``Options``.

    Raises:
        ConfigurationError: A window, stride or decode mode out of range, or parts that do not fit together.
        ModelNotFound: A folder that does not exist, or a name that the hub does not know. Where the hub cannot be
            reached this waits for the first use, or for ``load()``, and comes before any prompt is run.
    """

    family = "listwise"

    def __init__(
        self,
        model: Name = DEFAULT_MODEL,
        *,
        window: int = 20,
        stride: int = 10,
        passes: int = 1,
        strategy: Strategy | None = None,
        decode: Literal["generate", "first", "constrained"] = "generate",
        prompt: Template | None = None,
        demonstrations: Demonstrations = (),
        max_doc_tokens: int | None = None,
        **options: Unpack[Options],
    ) -> None:
        self.model, self.prompt, self.told = model, prompt, strategy
        self.window, self.stride, self.passes, self.decode = window, stride, passes, decode
        self.demonstrations, self.max_doc_tokens = demonstrations, max_doc_tokens
        self._alone(strategy, window=window, stride=stride, passes=passes)
        usual = ListPrompt("letters" if decode == "first" else "numbers", decode, top_k=self._named(options))
        scorer, known = self._asked(usual, 256, options)
        if known is not None and decode == "constrained":
            raise ConfigurationError(
                f"{model} is asked as it was trained to be, and writes freely; leave out decode=, or say "
                "prompt=ListPrompt(decode='constrained') to ask in another way"
            )
        sliding = SlidingWindow(window, stride, passes)
        trained = known if known is not None and sliding == SlidingWindow() else sliding
        self._build(strategy or trained, scorer, options)

    def _named(self, options: Options) -> int | None:
        """How many documents of a window an answer names that is held to a permutation; None for all.

        The next window shows the first ``window - stride`` of this one and the rest is never seen again, so what
        decides the first ``top_k`` of the list are those of each window and the first ``top_k`` of the last one.
        """
        k = options.get("top_k")
        if self.decode != "constrained" or self.told is not None or self.passes > 1 or k is None or k < 1:
            return None
        named = max(self.window - self.stride, k)
        return named if named < self.window else None
