"""The Set-Encoder: a cross-encoder in which the documents of a list see one another, whatever their order.

Schlatt et al., 2025, "Set-Encoder: Permutation-Invariant Inter-Passage Attention for Listwise Passage Re-Ranking with
Cross-Encoders", section 3. In every layer a document's tokens attend to each other and to one token of every other
document, the interaction token. Documents have no positions among themselves. A document's score is read off its first
token.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, repeat
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from pyterrier_llmrank.errors import ModelError

from .set_attention import NAME, Part, Seen
from .set_formats import FORMAT, read_config, rewrite_config
from .set_inputs import INTERACTION, Row

Draws = Sequence[torch.Generator | None]


class SetEncoderNetwork(PreTrainedModel):  # type: ignore[no-untyped-call]
    """An encoder built like BERT (ELECTRA, RoBERTa …) whose documents see one another, and a linear score.

    Reads documents of any number of sets one behind the other, without padding, in training as in ranking. Its
    checkpoints are those of lightning IR: ``model_type: set-encoder``, names of parameters without a prefix.

    Args:
        config: Of the encoder, with ``depth`` (documents of a list in training) and ``add_extra_token`` (whether there
            is an interaction token, behind the first one, or the first one is it) beside its own.
        backbone: The encoder; a random one by default.

    Raises:
        ModelError: The encoder is not built like BERT.
    """

    config_class = PretrainedConfig
    base_model_prefix = "backbone"
    supports_gradient_checkpointing = True
    _keys_to_ignore_on_load_missing = [r"^linear\.bias$"]  # noqa: RUF012 - as transformers has it; then it is 0

    def __init__(self, config: PretrainedConfig, backbone: PreTrainedModel | None = None) -> None:
        config._attn_implementation = NAME
        super().__init__(config)
        make: Any = AutoModel.from_config
        self.backbone: Any = make(config) if backbone is None else backbone
        _check_built_like_bert(self.backbone)
        if hasattr(self.backbone, "pooler"):
            self.backbone.pooler = None
        self.linear = nn.Linear(config.hidden_size, 1)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(self, row: Row, *, draws: Draws | None = None, chunk: int | None = None) -> Tensor:
        """One score per document, (documents,), in the order given.

        Args:
            row: The documents.
            draws: For each set, what draws states for documents that it lacks of ``config.depth``; no set lacks any
                by default.
            chunk: Tokens that a layer reads at once, about; all by default.
        """
        scores: Tensor = self.linear(self.embed(row, draws=draws, chunk=chunk))
        return scores[:, 0].float()

    def embed(self, row: Row, *, draws: Draws | None = None, chunk: int | None = None) -> Tensor:
        """The last state of each document's first token, (documents, width); arguments as of a call."""
        self.backbone.config._attn_implementation = NAME  # under any other, layers would read each document alone
        starts = torch.tensor([0, *accumulate(row.lengths)][:-1], device=row.ids.device)
        marks = starts + (place := int(bool(getattr(self.config, "add_extra_token", False))))
        parts = _parts(row, place, chunk)
        states: Any = self._embedded(row, starts)  # (tokens, width)
        *layers, last = self.backbone.encoder.layer
        for layer in layers:
            shared = self._shared(layer, states[marks], row.sizes, draws)
            cut = states.split([part.tokens for part in parts])
            states = _joined([layer(own[None], part=part, shared=shared) for own, part in zip(cut, parts, strict=True)])
        # of the last layer nothing is read but the first tokens, so that it makes nothing of the others but keys
        shared = self._shared(last, states[marks], row.sizes, draws)
        cut = states.split([part.tokens for part in parts])
        firsts = states[starts].split([len(part.sets) for part in parts])
        return _joined(
            [
                last(first[None], part=part, shared=shared, own=_seen(last, own))
                for first, own, part in zip(firsts, cut, parts, strict=True)
            ]
        )

    def _embedded(self, row: Row, starts: Tensor) -> Tensor:
        """What the first layer reads, (tokens, width); positions count from 0 in every document."""
        embeddings, device = self.backbone.embeddings, row.ids.device
        before = starts.repeat_interleave(torch.tensor(row.lengths, device=device), output_size=len(row.ids))
        places = torch.arange(len(row.ids), device=device) - before
        padding = embeddings.position_embeddings.padding_idx
        places = places if padding is None else places + padding + 1  # RoBERTa counts from behind its padding token
        types = row.types[None] if self.config.type_vocab_size > 1 else None
        states: Tensor = embeddings(row.ids[None], token_type_ids=types, position_ids=places[None])
        project = getattr(self.backbone, "embeddings_project", None)  # ELECTRA's small size has narrow embeddings
        return (states if project is None else project(states))[0]

    def _shared(self, layer: Any, states: Tensor, sizes: list[int], draws: Draws | None) -> list[Seen]:  # noqa: ANN401
        """Keys and values of the interaction tokens of each set, projected once."""
        cut: Any = states.split(sizes)  # type: ignore[no-untyped-call]
        drawn = zip(cut, draws or [None] * len(sizes), strict=True)
        of = [with_missing(own, self.config.depth, draw) for own, draw in drawn]
        counts = [len(own) for own in of]
        both: Any = _seen(layer, torch.cat(of))
        return [Seen(*own) for own in zip(*(states.split(counts) for states in both), strict=True)]

    @classmethod
    def config_of(cls, name: str, **where: Any) -> PretrainedConfig:  # noqa: ANN401 - arguments of transformers
        """The configuration of a checkpoint; see ``read_config``."""
        return read_config(name, **where)

    @classmethod
    def from_pretrained(cls, name: Any, *args: Any, **options: Any) -> Any:  # type: ignore[override]  # noqa: ANN401
        """The network of a checkpoint.

        Raises:
            ModelError: The checkpoint lacks weights.
        """
        config = options.pop("config", None) or read_config(name)
        load: Any = super().from_pretrained
        network, report = load(name, *args, config=config, output_loading_info=True, **options)
        if lacking := sorted(report["missing_keys"]):
            raise ModelError(f"{name} lacks {len(lacking)} weights of a Set-Encoder, such as {lacking[0]}")
        return network

    def save_pretrained(self, save_directory: Any, *args: Any, **options: Any) -> None:  # noqa: ANN401
        """Saves it as official checkpoints are, to be loaded again by ``from_pretrained``."""
        weights = options.pop("state_dict", None) or self.state_dict()
        options["state_dict"] = {name.removeprefix("backbone."): weight for name, weight in weights.items()}
        super().save_pretrained(save_directory, *args, **options)
        rewrite_config(Path(save_directory))


def from_encoder(name: str, **options: Any) -> tuple[SetEncoderNetwork, PreTrainedTokenizerBase]:  # noqa: ANN401
    """A network to be trained: a pretrained encoder, a random head, and a new interaction token.

    Args:
        name: Folder or name of an encoder built like BERT.
        **options: Of its format, in place of those of the official checkpoints (``depth``, ``query_length``,
            ``doc_length``), or for loading it (``dtype``, ``revision`` …).

    Raises:
        ModelError: The encoder is not built like BERT.
    """
    told = {key: options.pop(key, value) for key, value in FORMAT.items()}
    source = {key: value for key, value in options.items() if key != "dtype"}
    tokenizer: Any = AutoTokenizer.from_pretrained(name, **source)
    backbone: Any = AutoModel.from_pretrained(name, **options)
    _check_built_like_bert(backbone)
    tokenizer.add_tokens([INTERACTION[0]], special_tokens=True)
    if len(tokenizer) > backbone.config.vocab_size:
        backbone.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=8, mean_resizing=False)
    for key, value in told.items():
        setattr(backbone.config, key, value)
    return SetEncoderNetwork(backbone.config, backbone), tokenizer


def with_missing(states: Tensor, depth: int, draw: torch.Generator | None) -> Tensor:
    """States of interaction tokens, (documents, width), filled up to ``depth`` with drawn ones.

    They are drawn from a normal with mean and standard deviation of those that are there, which the official code does
    wherever a list is shorter than those of its training.
    """
    missing = depth - len(states)
    if draw is None or missing < 1:
        return states
    with torch.no_grad():
        noise = torch.randn(missing, states.shape[1], generator=draw).to(states.device)  # the same on every device
        spread = states.float().std(0) if len(states) > 1 else 0.0
        drawn = states.float().mean(0) + noise * spread
    return torch.cat([states, drawn.to(states.dtype)])


def _seen(layer: Any, states: Tensor) -> Seen:  # noqa: ANN401 - of any architecture
    """Keys and values that a layer makes of some states, (tokens, width)."""
    attention = layer.attention.self
    shape = (len(states), attention.num_attention_heads, attention.attention_head_size)
    return Seen(attention.key(states).view(shape), attention.value(states).view(shape))


def _joined(parts: list[Tensor]) -> Tensor:
    """States of parts, (1, tokens, width) each, one behind the other, (tokens, width)."""
    return torch.cat(parts, 1)[0] if len(parts) > 1 else parts[0][0]


def _parts(row: Row, place: int, chunk: int | None) -> list[Part]:
    """All documents, in parts of about ``chunk`` tokens."""
    sets = [number for number, size in enumerate(row.sizes) for _ in repeat(None, size)]
    cuts, tokens = [0], 0
    for at, length in enumerate(row.lengths):
        if chunk is not None and tokens and tokens + length > chunk:
            cuts.append(at)
            tokens = 0
        tokens += length
    ends = [*cuts[1:], len(row.lengths)]
    return [Part(row.lengths[a:b], sets[a:b], place) for a, b in zip(cuts, ends, strict=True)]


def _check_built_like_bert(backbone: Any) -> None:  # noqa: ANN401 - any encoder
    layers = getattr(getattr(backbone, "encoder", None), "layer", None)
    attention = getattr(getattr(layers[0], "attention", None), "self", None) if layers else None
    if not all(hasattr(attention, name) for name in ("key", "value", "num_attention_heads", "attention_head_size")):
        raise ModelError(
            f"a {type(backbone).__name__} is not built like BERT, whose layers a Set-Encoder has; use BERT, ELECTRA, "
            "RoBERTa or one of their like"
        )
