"""Published pairwise prompting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pyterrier_llmrank.aggregates import additive
from pyterrier_llmrank.core import Strategy
from pyterrier_llmrank.designs import all_pairs
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.prompts import PairPrompt
from pyterrier_llmrank.prompts.passages import VERBATIM
from pyterrier_llmrank.rerank import Rerank
from pyterrier_llmrank.scorers import BothOrders, Prompted
from pyterrier_llmrank.strategies import Bubble, Heapsort, Sampled

from .registry import Name, Options, engine, preset, reranker

if TYPE_CHECKING:
    from typing_extensions import Unpack

PRP = """\
Given a query "{query}", which of the following two passages is more relevant to the query?

Passage A: "{first}"

Passage B: "{second}"

Output Passage A or Passage B:"""  # ielab/llm-rankers, pairwise.py; Flan-T5's answer is begun with "Passage"


@preset(
    paper="Qin et al., 2024, Large Language Models are Effective Text Rankers with Pairwise Ranking Prompting",
    family="pairwise",
    published={"DL19": 65.71},
    source="ielab/llm-rankers README, Flan-T5-large, heapsort, BM25 top 100",
)
def prp(
    model: Name = "google/flan-t5-large",
    *,
    sort: Literal["heapsort", "sliding", "allpair"] = "heapsort",
    decode: Literal["choices", "generate"] = "choices",
    **options: Unpack[Options],
) -> Rerank:
    """Pairwise ranking prompting of an instruction-tuned encoder-decoder, in the format of llm-rankers.

    Each pair is shown both ways round; answers that contradict each other, or cannot be read, are a tie, which keeps
    the order. Passages of 128 tokens.

    Args:
        model: The model.
        sort: "heapsort" or "sliding" (as many passes as ``top_k``, from the bottom) put the first ``top_k`` documents
            in order, 10 unless the options say otherwise; "allpair" compares all, and counts wins and half the ties.
        decode: Whether the two answers are compared by their probability ("choices") or one is written ("generate").
        **options: See ``Options``.

    Raises:
        ConfigurationError: ``sort`` is none of the three.
    """
    options.setdefault("top_k", 10)
    sorts: dict[str, Strategy] = {
        "heapsort": Heapsort(2),
        "sliding": Bubble(2),
        "allpair": Sampled(all_pairs, additive),
    }
    if sort not in sorts:
        raise ConfigurationError(f"sort must be 'heapsort', 'sliding' or 'allpair', got {sort!r}")
    prompt = PairPrompt(decode, PRP, (" A", " B"), answer="Passage", raw=True, passage=VERBATIM, question=VERBATIM)
    return reranker(sorts[sort], BothOrders(Prompted(prompt, engine(model, options), max_doc_tokens=128)), **options)
