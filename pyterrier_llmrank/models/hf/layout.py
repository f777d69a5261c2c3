"""Which token of a packed row sees which: sequences one behind the other, some of them going on from others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

Span = tuple[int, int]  # places in a row, the end excluded


class Segment(NamedTuple):
    """Tokens of a row that see each other, and tokens before them.

    Attributes:
        start: Place of the first one.
        end: Place after the last one.
        before: What they go on from, first to last: spans of the same row, or names of tokens kept from earlier rows.
    """

    start: int
    end: int
    before: Sequence[Span | int] = ()

    @property
    def pieces(self) -> list[Span | int]:
        """All that the last token sees, in order; spans that touch are one."""
        joined: list[Span | int] = []
        for piece in [*self.before, (self.start, self.end)]:
            last = joined[-1] if joined else None
            if isinstance(piece, tuple) and isinstance(last, tuple) and last[1] == piece[0]:
                joined[-1] = (last[0], piece[1])
            else:
                joined.append(piece)
        return joined


class Kept:
    """Keys and values of tokens that later rows go on from, by name and attention module."""

    def __init__(self) -> None:
        self.tensors: dict[int, dict[Any, tuple[Tensor, Tensor]]] = {}

    def drop(self, names: Iterable[int]) -> None:
        """Forgets tokens that nothing goes on from any more."""
        for name in names:
            self.tensors.pop(name, None)


class Layout:
    """The segments of a row, and what is kept of it. One is made for every row, and used in all layers.

    Args:
        segments: They cover the row from left to right.
        across: For a decoder's row, the span of the encoder's row that each segment reads.
        keep: Spans whose keys and values later rows need, by name.
        kept: Where those are.
        trim: Which rows the last layer has to finish (see ``trimming``); all by default.
    """

    def __init__(
        self,
        segments: Sequence[Segment],
        *,
        across: Sequence[Span] | None = None,
        keep: Mapping[int, Span] | None = None,
        kept: Kept | None = None,
        trim: Any = None,  # noqa: ANN401 - made of a layout, and in one
    ) -> None:
        self.segments, self.trim = segments, trim
        self.pieces = [segment.pieces for segment in segments]
        self.across = across
        self.keep = keep or {}
        self.kept = kept or Kept()
        self.promises: Any = None  # of keys and values that are not made (see ``promises``)
        self.tokens = segments[-1].end
        self.longest = max(segment.end - segment.start for segment in segments)
        self.gathered: dict[tuple[bool, Any], Any] = {}
        self._masks: dict[tuple[Any, ...], Tensor] = {}
        self._biases: tuple[Tensor | None, dict[int, Tensor]] = (None, {})
        self._plain: tuple[Tensor, bool] | None = None

    def remember(self, module: Any, key: Tensor, value: Tensor) -> None:  # noqa: ANN401 - torch is imported lazily
        """Keeps what later rows need of the keys and values of one module, (1, heads, tokens, width)."""
        for name, (start, end) in self.keep.items():
            own = key[:, :, start:end].clone(), value[:, :, start:end].clone()  # a view would hold the whole row
            self.kept.tensors.setdefault(name, {})[module] = own

    def seen(self, module: Any, place: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        """Keys and values that the segment at ``place`` sees, (1, heads, tokens, width) each."""
        import torch

        found = [
            self.kept.tensors[piece][module]
            if isinstance(piece, int)
            else (key[:, :, piece[0] : piece[1]], value[:, :, piece[0] : piece[1]])
            for piece in self.pieces[place]
        ]
        if len(found) == 1:
            return found[0]
        keys, values = zip(*found, strict=True)
        return torch.cat(keys, 2), torch.cat(values, 2)

    def mask(self, queries: int, keys: int, like: Tensor, *, causal: bool, window: int | None) -> Tensor | None:
        """0 where the last ``queries`` of ``keys`` tokens may look, else -inf, (queries, keys); None for everywhere."""
        import torch

        if window is not None and window >= keys:
            window = None
        if window is None and (not causal or queries == 1):
            return None
        shape = (queries, keys, causal, window, like.device)
        if shape not in self._masks:  # the same in every layer of a device
            back = torch.arange(keys - queries, keys)[:, None] - torch.arange(keys)[None]
            allowed = back >= 0 if causal else torch.ones_like(back, dtype=torch.bool)
            if window is not None:
                allowed &= back.abs() < window
            empty = torch.zeros(allowed.shape, dtype=like.dtype)
            self._masks[shape] = empty.masked_fill_(~allowed, -torch.inf).to(like.device)
        return self._masks[shape]

    def plain(self, position_bias: Tensor) -> bool:
        """Whether a bias adds nothing: encoder-decoders have such a one across."""
        if self._plain is None or self._plain[0] is not position_bias:  # layers may share one
            self._plain = position_bias, not bool(position_bias.any())
        return self._plain[1]

    def bias(self, position_bias: Tensor, place: int, keys: Span) -> Tensor:
        """What a network adds to the scores of the segment at ``place`` for these keys, (1, heads, tokens, keys).

        Args:
            position_bias: For the whole row, or for its longest segment, with which all begin.
            place: Of the segment.
            keys: Its own span, or the one it reads across.
        """
        if self._biases[0] is not position_bias:  # layers may share one
            self._biases = position_bias, {}
        if place not in self._biases[1]:
            start, end, _ = self.segments[place]
            whole = position_bias.shape[2] == self.tokens
            row, column = (start, keys[0]) if whole else (0, 0)
            own = position_bias[:, :, row : row + end - start, column : column + keys[1] - keys[0]]
            self._biases[1][place] = own.contiguous()
        return self._biases[1][place]
