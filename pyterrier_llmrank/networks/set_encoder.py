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
from .set_inputs import INTERACTION

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
    _keys_to_ignore_on_load_missing = [r"^linear\.bias$"]  # noqa: RUF012 - transformers' own name; 0 where there is none

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

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor,
        lengths: Sequence[int],
        sizes: Sequence[int],
        *,
        draws: Draws | None = None,
        chunk: int | None = None,
    ) -> Tensor:
        """One score per document, (documents,), in the order given.

        Args:
            input_ids: Tokens of all documents, one behind the other, (tokens,).
            token_type_ids: Their segments, (tokens,).
            lengths: Tokens of each document.
            sizes: Documents of each set.
            draws: For each set, what draws states for documents that it lacks of ``config.depth``; no set lacks any
                by default.
            chunk: Tokens that a layer reads at once, about; all by default.
        """
        firsts = self.embed(input_ids, token_type_ids, lengths, sizes, draws=draws, chunk=chunk)
        scores: Tensor = self.linear(firsts)
        return scores[:, 0].float()

    def embed(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor,
        lengths: Sequence[int],
        sizes: Sequence[int],
        *,
        draws: Draws | None = None,
        chunk: int | None = None,
    ) -> Tensor:
        """The last state of each document's first token, (documents, width); arguments as of a call."""
        self.backbone.config._attn_implementation = NAME  # under any other, layers would read each document alone
        starts = torch.tensor([0, *accumulate(lengths)][:-1], device=input_ids.device)
        place = int(bool(getattr(self.config, "add_extra_token", False)))
        parts = _parts(lengths, sizes, place, chunk)
        states = self._embedded(input_ids, token_type_ids, lengths, starts)  # (tokens, width)
        layers = self.backbone.encoder.layer
        for number, layer in enumerate(layers, 1):
            last = number == len(layers)
            project = layer.attention.self
            shared = _shared(project, states[starts + place], sizes, self.config.depth, draws)
            rows = states.split([part.tokens for part in parts])  # type: ignore[no-untyped-call]
            if last:  # what it makes of other tokens than the first would not be read
                firsts = states[starts].split([len(part.sets) for part in parts])  # type: ignore[no-untyped-call]
                read = [
                    layer(first[None], part=part, shared=shared, own=_seen(project, row))[0]
                    for first, row, part in zip(firsts, rows, parts, strict=True)
                ]
            else:
                read = [layer(row[None], part=part, shared=shared)[0] for row, part in zip(rows, parts, strict=True)]
            states = torch.cat(read) if len(read) > 1 else read[0]
        return states

    def _embedded(self, ids: Tensor, types: Tensor, lengths: Sequence[int], starts: Tensor) -> Tensor:
        """What the first layer reads, (tokens, width); positions count from 0 in every document."""
        embeddings = self.backbone.embeddings
        before = starts.repeat_interleave(torch.tensor(lengths, device=ids.device), output_size=len(ids))
        places = torch.arange(len(ids), device=ids.device) - before
        padding = embeddings.position_embeddings.padding_idx
        places = places if padding is None else places + padding + 1  # RoBERTa counts from behind its padding token
        kinds = types[None] if self.config.type_vocab_size > 1 else None
        states: Tensor = embeddings(ids[None], token_type_ids=kinds, position_ids=places[None])
        project = getattr(self.backbone, "embeddings_project", None)  # ELECTRA's small size has narrow embeddings
        return (states if project is None else project(states))[0]

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


def _shared(project: Any, states: Tensor, sizes: Sequence[int], depth: int, draws: Draws | None) -> list[Seen]:  # noqa: ANN401
    """Keys and values of the interaction tokens of each set, projected once."""
    rows: Any = states.split(list(sizes))  # type: ignore[no-untyped-call]
    of = [with_missing(own, depth, draw) for own, draw in zip(rows, draws or [None] * len(sizes), strict=True)]
    both: Any = _seen(project, torch.cat(of))
    counts = [len(own) for own in of]
    return [Seen(*own) for own in zip(*(states.split(counts) for states in both), strict=True)]


def _seen(project: Any, states: Tensor) -> Seen:  # noqa: ANN401 - the attention of any architecture
    """Keys and values of some states, (tokens, width)."""
    shape = (len(states), project.num_attention_heads, project.attention_head_size)
    return Seen(project.key(states).view(shape), project.value(states).view(shape))


def _parts(lengths: Sequence[int], sizes: Sequence[int], place: int, chunk: int | None) -> list[Part]:
    """All documents, in parts of about ``chunk`` tokens."""
    sets = [number for number, size in enumerate(sizes) for _ in repeat(None, size)]
    cuts, tokens = [0], 0
    for at, length in enumerate(lengths):
        if chunk is not None and tokens and tokens + length > chunk:
            cuts.append(at)
            tokens = 0
        tokens += length
    return [Part(lengths[a:b], sets[a:b], place) for a, b in zip(cuts, [*cuts[1:], len(lengths)], strict=True)]


def _check_built_like_bert(backbone: Any) -> None:  # noqa: ANN401 - any encoder
    layers = getattr(getattr(backbone, "encoder", None), "layer", None)
    attention = getattr(getattr(layers[0], "attention", None), "self", None) if layers else None
    if not all(hasattr(attention, name) for name in ("key", "value", "num_attention_heads", "attention_head_size")):
        raise ModelError(
            f"a {type(backbone).__name__} is not built like BERT, whose layers a Set-Encoder has; use BERT, ELECTRA, "
            "RoBERTa or one of their like"
        )
