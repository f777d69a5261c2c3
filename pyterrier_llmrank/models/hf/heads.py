"""Which head a network must have been trained with: one that is made up at random would give random scores."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pyterrier_llmrank.errors import ModelError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

Kind = Literal["language", "classifier", "tokens", "encoder"]


class Head(NamedTuple):
    """What tells a head.

    Attributes:
        task: What it was trained for.
        trained: What the names of its architectures hold.
        instead: What to use for other networks.
    """

    task: str
    trained: str
    instead: str


HEADS = {
    "language": Head(
        "language-model",
        "ForCausalLM|LMHead|Seq2SeqLM|ConditionalGeneration",
        "a language model, or CrossEncoder or BiEncoder for an encoder",
    ),
    "classifier": Head(
        "sequence-classification",
        "SequenceClassification",
        "a cross-encoder checkpoint, or PointwiseLLM for a language model",
    ),
    "tokens": Head("token-classification", "TokenClassification", "CrossEncoder without pooling"),
}


def check_head(kind: Kind, name: str, config: PretrainedConfig) -> None:
    """Whether a checkpoint has the head that it is read with.

    Raises:
        ModelError: It has not; says what reads it.
    """
    if kind == "encoder" or (kind == "language" and not config.architectures):
        return
    head = HEADS[kind]
    if any(re.search(head.trained, architecture) for architecture in config.architectures or []):
        return
    found = ", ".join(config.architectures or ["no architecture named"])
    if kind == "classifier" and config.is_encoder_decoder:
        raise ModelError(
            f"{name} answers in words ({found}) and has no sequence-classification head; presets.mono_t5({name!r}) "
            f"reads it as monoT5 is read, presets.rank_t5({name!r}) as RankT5"
        )
    raise ModelError(
        f"{name} has no trained {head.task} head ({found}), so its scores would be random; use {head.instead}"
    )


def auto_class(kind: Kind, config: PretrainedConfig) -> Any:  # noqa: ANN401 - transformers is imported lazily
    """What loads a network with this head."""
    import transformers

    if kind == "language":
        both = config.is_encoder_decoder
        return transformers.AutoModelForSeq2SeqLM if both else transformers.AutoModelForCausalLM
    if kind == "classifier":
        return transformers.AutoModelForSequenceClassification
    return transformers.AutoModelForTokenClassification if kind == "tokens" else transformers.AutoModel


def shorten(config: PretrainedConfig, layers: int, name: str) -> None:
    """Leaves a configuration the first ``layers`` layers of its network, behind which its head comes at once.

    Raises:
        ModelError: There are fewer, or the network has two sides.
    """
    own = config.get_text_config(decoder=True)
    there = None if config.is_encoder_decoder else getattr(own, "num_hidden_layers", None)
    if there is None:
        raise ModelError(f"layers= is for networks of one stack of layers, and {name} is a {config.model_type}")
    if not 1 <= layers <= there:
        raise ModelError(f"layers must be 1 to {there}, the layers of {name}, got {layers}")
    for field, value in vars(own).items():
        if isinstance(value, list | tuple) and len(value) == there and field.endswith(("layers", "types", "pattern")):
            setattr(own, field, value[:layers])  # such as which layers see only a window
    own.num_hidden_layers = layers


@contextmanager
def quietly(partly: bool) -> Iterator[None]:
    """Loads without a report of the weights that are there and not used, or not there, where this is on purpose."""
    from logging import ERROR

    from transformers.utils import logging

    before = logging.get_verbosity()
    if partly:
        logging.set_verbosity(ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)
