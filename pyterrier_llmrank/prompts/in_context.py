"""Passages first, then the query: prompts whose attention is read, with where everything stands in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from pyterrier_llmrank.core import Message, Prompt, brief
from pyterrier_llmrank.errors import ConfigurationError

Span = tuple[int, int]  # characters, the end excluded

INSTRUCTIONS = {
    "QA": "Please answer the following question based on the information in the paragraphs above.",
    "IE": "Please find information that are relevant to the following query in the paragraphs above.",
}
"""What the authors of ICR ask: QA for questions (their TREC-COVID, FiQA, Touché, DBpedia, NQ and multi-hop sets), IE
("information extraction") for every other collection. Spelled as it was published."""

OPENING = "Here are some paragraphs:"


class Dialect(NamedTuple):
    """How one family of models writes a user turn.

    Attributes:
        before: What opens it.
        after: What closes it, and opens the answer.
        gap: What stands between paragraphs.
    """

    before: str
    after: str
    gap: str = "\n\n"


DIALECTS = {  # no line ends after a role, unlike in the models' own chat templates
    # OSU-NLP-Group/In-Context-Reranking, src/in_context_reranker.py
    "llama-3": Dialect(
        "<|start_header_id|>user<|end_header_id|>",
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>",
        " \n\n",  # one token, which a full stop before it does not swallow
    ),
    "mistral": Dialect("[INST]", "[/INST]"),
    # princeton-pli/QRHead, src/qrretriever/attn_retriever.py
    "qwen": Dialect("<|im_start|>user", "<|im_end|>\n<|im_start|>assistant"),
    # linhhtran/CoRe-Reranking, experiments/src/reranker_calib.py
    "phi": Dialect("<|im_start|>user<|im_sep|>", "<|im_end|><|im_start|>assistant<|im_sep|>"),
    "granite": Dialect(
        "<|start_of_role|>user<|end_of_role|>", "<|end_of_text|><|start_of_role|>assistant<|end_of_role|>"
    ),
    "plain": Dialect("", ""),
}


@dataclass(frozen=True)
class Layout:
    """How passages are written, and what of the prompt counts.

    Attributes:
        label: What stands before the text of passage ``{i}``.
        labelled: Whether the label is a part of the passage that is attended to.
        suffix: Whether what closes the turn after the query attends too.
        gap: What stands between paragraphs; as the dialect has it by default.
    """

    label: str = "[{i}] "
    labelled: bool = True
    suffix: bool = True
    gap: str | None = None


ICR = Layout()
"""As ICR and QRHead read attention."""

CORE = Layout("[document {i}] ", labelled=False, suffix=False, gap="\n\n")
"""As CoRe reads it, but for the one token after each passage, and after the query, that its code counts too."""

LAYOUTS = {"icr": ICR, "core": CORE}


@dataclass(frozen=True, slots=True)
class Passages(Prompt):
    """A prompt, and where things stand in the text of its last message, in characters.

    Attributes:
        spans: The passages.
        texts: Their texts, without labels.
        rows: What attends to them; None for the end of the prompt.
    """

    spans: tuple[Span, ...] = ()
    texts: tuple[Span, ...] = ()
    rows: tuple[int, int | None] = (0, None)


@dataclass(frozen=True, repr=False)
class InContextPrompt:
    """Shows passages, numbered, and then asks for what is relevant to the query.

    Args:
        instruction: "IE" or "QA", as the authors of ICR ask (see ``INSTRUCTIONS``), or a text of one's own.
        dialect: How the turn is written: "llama-3", "mistral", "qwen", "phi" or "granite", as published; "plain" for no
            turn at all; "chat" for the model's own chat template; "auto" for what the model's tokenizer shows it to be.
        layout: "icr", "core", or a ``Layout``.

    Raises:
        ConfigurationError: There is no such instruction, dialect or layout.

    Reference:
        Chen et al., 2025, Attention in Large Language Models Yields Efficient Zero-Shot Re-Rankers (ICR).
    """

    instruction: str = "IE"
    dialect: str = "auto"
    layout: Layout | Literal["icr", "core"] = "icr"

    __repr__ = brief

    def __post_init__(self) -> None:
        if not self.instruction.strip():
            raise ConfigurationError("instruction must not be empty; it is where attention begins. Use 'IE' or 'QA'")
        if self.dialect not in (known := [*DIALECTS, "chat", "auto"]):
            raise ConfigurationError(f"dialect must be one of {', '.join(known)}, got {self.dialect!r}")
        if not isinstance(self.layout, Layout) and self.layout not in LAYOUTS:
            raise ConfigurationError(f"layout must be 'icr', 'core' or a Layout, got {self.layout!r}")

    def of(self, dialect: str) -> InContextPrompt:
        """The prompt for a model of this dialect; the same where it says another itself."""
        return replace(self, dialect=dialect) if self.dialect == "auto" else self

    def render(self, query: str, texts: Sequence[str]) -> Passages:
        """The prompt about these passages, in the order given."""
        turn, layout = self._turn, self._layout
        written = f"{turn.before} {OPENING}" if turn.before else OPENING
        spans, inner = [], []
        for number, text in enumerate(texts, 1):
            label = layout.label.format(i=number)
            entry = (label + text.strip()).rstrip()  # of an empty passage, the label
            written += self._gap
            start = len(written)
            own = min(start + len(label), start + len(entry))
            written += entry
            inner.append((own, len(written)))
            spans.append((start if layout.labelled else own, len(written)))
        return self._asked(written + self._gap, query, tuple(spans), tuple(inner))

    def recast(self, shown: Passages, query: str) -> Passages:
        """The prompt about the same passages, with another query."""
        return self._asked(shown.messages[-1].content[: shown.rows[0]], query, shown.spans, shown.texts)

    def _asked(self, beginning: str, query: str, spans: tuple[Span, ...], texts: tuple[Span, ...]) -> Passages:
        """Passages, and what is asked after them."""
        instruction = INSTRUCTIONS.get(self.instruction, self.instruction)
        end = f"{beginning}{instruction}{self._gap}Query: {query.strip()}"
        rows = len(beginning), None if self._layout.suffix else len(end)
        chat = self.dialect == "chat"
        return Passages((Message("user", end + self._turn.after),), "", not chat, spans, texts, rows)

    @property
    def _turn(self) -> Dialect:
        return DIALECTS.get(self.dialect, DIALECTS["plain"])

    @property
    def _layout(self) -> Layout:
        return self.layout if isinstance(self.layout, Layout) else LAYOUTS[self.layout]

    @property
    def _gap(self) -> str:
        return self._turn.gap if self._layout.gap is None else self._layout.gap
