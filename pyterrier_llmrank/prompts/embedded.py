"""Prompts for networks that read documents as vectors: a place for each vector, or the documents beside their vectors.

Both are formats that released checkpoints were trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyterrier_llmrank.core import Prompt, brief
from pyterrier_llmrank.errors import ConfigurationError

from .base import chat, check_template
from .passages import Preparation, without_numbers

PLACEHOLDER = "<PLACEHOLDER>"  # of PE-Rank's tokenizer; where it stands, a vector is read

SHOWN = (  # liuqi6777/pe_rank, src/ranker.py; the passages and the question follow
    "I will provide you with {n} passages, each with a special token representing the passage enclosed in [], followed "
    "by original text.\nRank the passages based on their relevance to the search query: {query}.\n"
)
ASKED = (  # the same
    "Search Query: {query}.\nRank the {n} relatively ordered passages above based on their relevance to the search "
    "query, output the ranking in descending order. Only output the {n} unique special token in the ranking.\n\n"
)
PSEUDO_QUERY = (  # Alibaba-NLP/E2Rank, src/eval.py; its model card and training data differ in line breaks
    "Given a web search query and some relevant documents, rerank the documents that answer the query:\n"
    "Documents:\n{documents}\nSearch Query: {query}"
)


@dataclass(frozen=True, repr=False)
class EmbeddedPrompt:
    """A window of passages, each with a place for its vectors (PE-Rank).

    Args:
        texts: Whether the text of a passage follows its vectors.
        m: Vectors of each passage; the released checkpoint reads one.

    Raises:
        ConfigurationError: ``m`` is below 1.

    Reference:
        Liu et al., 2024 (PE-Rank); liuqi6777/pe_rank, src/ranker.py, to the byte.
    """

    texts: bool = False
    m: int = 1

    __repr__ = brief

    def __post_init__(self) -> None:
        if self.m < 1:
            raise ConfigurationError(f"m must be at least 1 vector, got {self.m}")

    def render(self, query: str, texts: Sequence[str]) -> Prompt:
        """The prompt, with a placeholder for each vector; ``[12]`` in a text becomes ``(12)``."""
        shown = []
        for place, text in enumerate(texts, start=1):
            beside = f" {without_numbers(text.strip())}" if self.texts else ""
            shown.append(f"Passage {place}: [{PLACEHOLDER * self.m}]{beside}\n\n")
        told = {"n": len(texts), "query": query}
        return chat(SHOWN.format(**told) + "".join(shown) + ASKED.format(**told))


@dataclass(frozen=True, repr=False)
class PseudoQuery:
    """A query and the first documents of its list, read as one longer query (E2Rank).

    Args:
        template: Text with ``{documents}`` and ``{query}``.
        max_words: Words to keep of a document.

    Raises:
        ConfigurationError: ``template`` lacks one of its fields, or has others.

    Reference:
        Liu et al., 2025 (E2Rank); Alibaba-NLP/E2Rank, src/eval.py, to the byte.
    """

    template: str = PSEUDO_QUERY
    max_words: int = 1024

    __repr__ = brief

    def __post_init__(self) -> None:
        check_template(self.template, ["documents", "query"])

    @property
    def passage(self) -> Preparation:
        """What is done to a document's text."""
        return Preparation(markers="none", max_words=self.max_words)

    def render(self, query: str, texts: Sequence[str]) -> Prompt:
        """The prompt; every document is a line."""
        lines = [f"[{place}] {self.passage(text)}" for place, text in enumerate(texts, start=1)]
        return chat(self.template.format(documents="\n".join(lines), query=query))
