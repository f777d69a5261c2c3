"""The methods of the literature as transformers, one line each. Every one is a ``Rerank`` with good defaults."""

from __future__ import annotations

from os import PathLike
from typing import Literal

from .models import Model, as_model
from .prompts import ListPrompt, YesNo
from .rerank import Rerank
from .scorers import Prompted
from .strategies import Pointwise, SlidingWindow

DEFAULT_MODEL = "Qwen/Qwen3-1.7B"


class PointwiseLLM(Rerank):
    """Asks a language model about each document by itself: is it relevant, yes or no?

    ``bm25 >> PointwiseLLM()``. Scores are log-odds of yes against no. n calls, one round.

    Args:
        model: A name on the Hugging Face hub, a folder, or a ``Model`` such as ``HFModel(name, thinking=True)``.
        max_doc_tokens: Tokens to keep of any document.
        device: Where a model that is given by name runs; the best device by default.
        dtype: "float32", "bfloat16" or "float16"; by default half precision on a GPU, float32 on a CPU.
        batch_tokens: Tokens of one forward pass.
        max_length: Tokens of a prompt with its answer; the model's own limit by default.
        depth: Candidates to rerank; the rest follow below them. All by default.
        num_results: Rows to return for a query. All by default.
        text_field: Column of the documents' text.
        verbose: Whether to show a progress bar.

    Raises:
        ModelNotFound: A folder that does not exist, or a name that the hub does not know. Where the hub cannot be
            reached this waits for the first use, or for ``load()``, and comes before any prompt is run.
    """

    def __init__(
        self,
        model: str | PathLike[str] | Model = DEFAULT_MODEL,
        *,
        max_doc_tokens: int | None = 512,
        device: str | None = None,
        dtype: str | None = None,
        batch_tokens: int | None = None,
        max_length: int | None = None,
        depth: int | None = None,
        num_results: int | None = None,
        text_field: str = "text",
        verbose: bool = False,
    ) -> None:
        self.model, self.max_doc_tokens = model, max_doc_tokens
        self.device, self.dtype, self.batch_tokens, self.max_length = device, dtype, batch_tokens, max_length
        engine = as_model(model, device=device, dtype=dtype, batch_tokens=batch_tokens, max_length=max_length)
        super().__init__(
            Pointwise(),
            Prompted(YesNo(), engine, max_doc_tokens),
            depth=depth,
            num_results=num_results,
            text_field=text_field,
            verbose=verbose,
        )


class ListwiseLLM(Rerank):
    """Shows a language model windows of documents and asks for their order (RankGPT; FIRST with ``decode="first"``).

    ``bm25 >> ListwiseLLM()``. For 100 documents in windows of 20 with stride 10, 9 calls in 9 rounds.

    Args:
        model: A name on the Hugging Face hub, a folder, or a ``Model`` such as ``HFModel(name, thinking=True)``.
        window: Documents shown at once.
        stride: How far the window moves.
        passes: How often the whole list is gone through.
        decode: "generate" lets the model write the order out, by numbers; "first" reads it from the probabilities of
            the first identifier, a letter: one forward pass, no generation, at most 26 documents a window.
        max_doc_tokens: Tokens to keep of any document.
        device: Where a model that is given by name runs; the best device by default.
        dtype: "float32", "bfloat16" or "float16"; by default half precision on a GPU, float32 on a CPU.
        batch_tokens: Tokens of one forward pass.
        max_length: Tokens of a prompt with its answer; the model's own limit by default.
        depth: Candidates to rerank; the rest follow below them. All by default.
        num_results: Rows to return for a query. All by default.
        text_field: Column of the documents' text.
        verbose: Whether to show a progress bar.

    Raises:
        ConfigurationError: A window, stride or decode mode out of range.
        ModelNotFound: A folder that does not exist, or a name that the hub does not know. Where the hub cannot be
            reached this waits for the first use, or for ``load()``, and comes before any prompt is run.
    """

    def __init__(
        self,
        model: str | PathLike[str] | Model = DEFAULT_MODEL,
        *,
        window: int = 20,
        stride: int = 10,
        passes: int = 1,
        decode: Literal["generate", "first"] = "generate",
        max_doc_tokens: int | None = 256,
        device: str | None = None,
        dtype: str | None = None,
        batch_tokens: int | None = None,
        max_length: int | None = None,
        depth: int | None = None,
        num_results: int | None = None,
        text_field: str = "text",
        verbose: bool = False,
    ) -> None:
        self.model, self.max_doc_tokens = model, max_doc_tokens
        self.window, self.stride, self.passes, self.decode = window, stride, passes, decode
        self.device, self.dtype, self.batch_tokens, self.max_length = device, dtype, batch_tokens, max_length
        engine = as_model(model, device=device, dtype=dtype, batch_tokens=batch_tokens, max_length=max_length)
        prompt = ListPrompt(labels="letters" if decode == "first" else "numbers", decode=decode)
        super().__init__(
            SlidingWindow(window, stride, passes),
            Prompted(prompt, engine, max_doc_tokens),
            depth=depth,
            num_results=num_results,
            text_field=text_field,
            verbose=verbose,
        )
