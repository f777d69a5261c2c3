"""``CrossEncoder``: a classification network that reads query and document together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyterrier_llmrank.core import Answer, Question, Usage
from pyterrier_llmrank.errors import ModelError
from pyterrier_llmrank.models.hf.encoders import LocalEncoder, encode, run_encoder

from .alone import Alone, regrouped


@dataclass(frozen=True, repr=False)
class CrossEncoder(Alone, LocalEncoder):
    """Scores (query, document) pairs with a sequence-classification checkpoint of one or two labels.

    The score is the logit of the one label, or the difference of the two logits (label 1 against label 0: natural
    log-odds). Documents are cut to fit, never queries. No score depends on its batch. Takes the arguments of
    ``Local`` (``device``, ``dtype``, ``batch_tokens``, ``max_length`` …).

    Raises:
        ModelError: On first use, if the checkpoint has another head.

    Reference:
        Nogueira and Cho, 2019 (monoBERT).
    """

    kind = "classifier"

    def load(self) -> None:
        """Loads the network and checks its labels."""
        config = self._loaded.network.config
        if (config.num_labels or 0) > 2:
            raise ModelError(f"{self.name} has {config.num_labels} labels; CrossEncoder reads one or two")

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question; all pairs of all questions are batched together."""
        if not questions:
            return []
        self.load()
        pairs = [(one.query, doc.text) for one in questions for doc in one.docs]
        first = [self.plain(query) for query, _ in pairs]
        inputs = encode(self._loaded, first, [self.plain(text) for _, text in pairs], self.context)
        logits = run_encoder(self._loaded, inputs, self._budget, lambda out, mask: out.logits.float())
        scores = logits[:, -1] - logits[:, 0] if logits.shape[-1] == 2 else logits[:, 0]
        costs = (Usage(calls=1, prompt_tokens=len(one.ids), truncated_tokens=one.lost) for one in inputs)
        return regrouped(questions, zip(scores, costs, strict=True))
