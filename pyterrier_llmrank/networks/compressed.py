"""Documents compressed into a few vectors, and a decoder that reads a query with them: RRK's two networks, trainable.

A folder holds them apart, each as transformers saves it: ``compressor/``, with ``memory.safetensors`` beside its
weights, and ``decoder/``, with ``score.safetensors``. So vectors depend on ``compressor/`` alone, and stay good when
only the decoder is trained on.

Reference:
    Déjean and Clinchant, 2025, Reranking with Compressed Document Representation, arXiv:2505.15394: eight memory tokens
    a document, a decoder with one score, squared error to the scores of a cross-encoder. No weights were published.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pyterrier_llmrank.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

COMPRESSOR, DECODER = "compressor", "decoder"  # folders
MEMORY, SCORE = "memory.safetensors", "score.safetensors"  # beside the weights of each


class Placed(NamedTuple):
    """Right-padded rows with vectors behind the last real token of each.

    Attributes:
        embeddings: (rows, tokens + m, width).
        mask: 1 where there is something, (rows, tokens + m).
        places: Where the vectors are, (rows, m).
    """

    embeddings: Tensor
    mask: Tensor
    places: Tensor


def placed(embeddings: Tensor, mask: Tensor, vectors: Tensor) -> Placed:
    """Puts vectors, (rows, m, width), behind right-padded tokens, (rows, tokens, width)."""
    rows, m = vectors.shape[:2]
    lengths = mask.sum(1, keepdim=True)  # (rows, 1)
    places = lengths + torch.arange(m, device=lengths.device)
    room = embeddings.new_zeros(rows, m, embeddings.shape[2])
    wide = torch.cat([embeddings, room], 1)
    index = places[..., None].expand(-1, -1, wide.shape[2])
    real = torch.arange(wide.shape[1], device=mask.device) < lengths + m
    return Placed(wide.scatter(1, index, vectors.to(wide.dtype)), real.long(), places)


class Compressor(nn.Module):
    """Documents to m vectors each: the states of memory tokens that are read behind a document's own.

    Args:
        body: An encoder, or a decoder without a head (whose memory tokens see the document, being behind it).
        m: Memory tokens.
        width: Of the vectors: the hidden size of what reads them.
    """

    def __init__(self, body: PreTrainedModel, m: int, width: int) -> None:
        super().__init__()
        hidden = body.config.hidden_size
        self.body = body
        self.memory = nn.Parameter(torch.empty(m, hidden).normal_(std=body.config.initializer_range))
        self.connector = nn.Linear(hidden, width)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The vectors of right-padded documents, (documents, m, width).

        Args:
            ids: Token ids, (documents, tokens).
            mask: 1 where a token is real, (documents, tokens).
        """
        embed: Any = self.body.get_input_embeddings()
        rows = placed(embed(ids), mask, self.memory.expand(len(ids), -1, -1))
        states = self.body(inputs_embeds=rows.embeddings, attention_mask=rows.mask).last_hidden_state
        chosen = states.gather(1, rows.places[..., None].expand(-1, -1, states.shape[2]))
        vectors: Tensor = self.connector(chosen)
        return vectors

    def save(self, folder: Path) -> None:
        """Writes weights and configuration to a folder."""
        self.body.save_pretrained(folder)
        own = {name: weight for name, weight in self.state_dict().items() if not name.startswith("body.")}
        save_file(own, folder / MEMORY)

    @classmethod
    def load(cls, folder: Path, body: PreTrainedModel) -> Compressor:
        """The compressor of a folder, around its body, on its device and in its precision.

        Raises:
            ModelError: The folder has no memory tokens.
        """
        own = _weights(folder / MEMORY, "memory tokens of a compressor")
        made = cls(body, len(own["memory"]), len(own["connector.weight"]))
        made.load_state_dict(own, strict=False)
        return made.to(body.device, body.dtype)


class VectorReader(nn.Module):
    """Scores documents by their vectors: a decoder reads a query and then the m vectors of one document.

    Args:
        decoder: A decoder without a head, as ``AutoModel`` loads it.
    """

    def __init__(self, decoder: PreTrainedModel) -> None:
        super().__init__()
        self.decoder = decoder
        self.score = nn.Linear(decoder.config.hidden_size, 1)

    def forward(self, query: Tensor, mask: Tensor, vectors: Tensor) -> Tensor:
        """The scores of pairs of a query and a document, (pairs,).

        Args:
            query: Token ids, right-padded, (pairs, tokens).
            mask: 1 where a token is real, (pairs, tokens).
            vectors: What a compressor made of the documents, (pairs, m, hidden).
        """
        embed: Any = self.decoder.get_input_embeddings()
        rows = placed(embed(query), mask, vectors)
        states = self.decoder(inputs_embeds=rows.embeddings, attention_mask=rows.mask, use_cache=False)
        return self._scored(states.last_hidden_state[torch.arange(len(query)), rows.places[:, -1]])

    def of_query(self, query: Tensor, vectors: Tensor) -> Tensor:
        """The same scores for documents of one query, (documents,), whose tokens, (tokens,), are read once."""
        from transformers import DynamicCache

        embed: Any = self.decoder.get_input_embeddings()
        cache = DynamicCache(config=self.decoder.config)
        self.decoder(inputs_embeds=embed(query[None]), past_key_values=cache, use_cache=True)
        cache.batch_repeat_interleave(len(vectors))
        own = vectors.to(self.decoder.dtype)
        states = self.decoder(inputs_embeds=own, past_key_values=cache, use_cache=True).last_hidden_state
        return self._scored(states[:, -1])

    def _scored(self, states: Tensor) -> Tensor:
        """States, (documents, hidden), to scores, (documents,), in float32."""
        return nn.functional.linear(states.float(), self.score.weight.float(), self.score.bias.float())[:, 0]

    def save(self, folder: Path) -> None:
        """Writes weights and configuration to a folder."""
        self.decoder.save_pretrained(folder)
        save_file(self.score.state_dict(), folder / SCORE)

    @classmethod
    def load(cls, folder: Path, decoder: PreTrainedModel) -> VectorReader:
        """The reader of a folder, around its decoder, on its device.

        Raises:
            ModelError: The folder has no score.
        """
        made = cls(decoder)
        made.score.load_state_dict(_weights(folder / SCORE, "score of a decoder that reads vectors"))
        made.score.to(decoder.device)
        return made


class CompressedRanker(nn.Module):
    """A compressor and a reader of its vectors, to be trained together or one of them.

    ``forward`` gives the scores of pairs for any loss, such as the squared error to a cross-encoder's scores (v1 of the
    paper, with a frozen compressor: ``ranker.compressor.requires_grad_(False)``).
    """

    def __init__(self, compressor: Compressor, reader: VectorReader) -> None:
        super().__init__()
        self.compressor = compressor
        self.reader = reader

    def forward(self, query: Tensor, query_mask: Tensor, doc: Tensor, doc_mask: Tensor) -> Tensor:
        """The scores of pairs, (pairs,), from right-padded token ids and masks, (pairs, tokens) each."""
        scores: Tensor = self.reader(query, query_mask, self.compressor(doc, doc_mask))
        return scores

    def save(self, folder: str, tokenizers: tuple[PreTrainedTokenizerBase, PreTrainedTokenizerBase]) -> None:
        """Writes all that ``scorers.RRK`` needs to a folder.

        Args:
            folder: Made if there is none.
            tokenizers: The compressor's and the decoder's.
        """
        root = Path(folder)
        self.compressor.save(root / COMPRESSOR)
        self.reader.save(root / DECODER)
        for name, tokenizer in zip((COMPRESSOR, DECODER), tokenizers, strict=True):
            tokenizer.save_pretrained(root / name)

    @classmethod
    def load(cls, folder: str, dtype: torch.dtype = torch.float32) -> CompressedRanker:
        """What ``save`` wrote, on the CPU, ready to be trained on.

        Raises:
            ModelError: The folder lacks a part.
        """
        from transformers import AutoModel

        compressor, decoder = (Path(folder) / name for name in (COMPRESSOR, DECODER))
        return cls(
            Compressor.load(compressor, AutoModel.from_pretrained(compressor, dtype=dtype)),
            VectorReader.load(decoder, AutoModel.from_pretrained(decoder, dtype=dtype)),
        )


def _weights(file: Path, what: str) -> dict[str, Tensor]:
    """The tensors of a file."""
    if not file.is_file():
        raise ModelError(f"there is no {file}, the {what}; give a folder that CompressedRanker.save wrote")
    return load_file(file)
