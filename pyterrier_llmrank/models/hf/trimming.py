"""What nobody reads is not computed: of the last layer, keys and values of all tokens, the rest of wanted rows alone.

A layer goes twice: with all tokens as far as its attention, which notes their keys and values and stops there, and then
with the wanted rows, which attend to what was noted. What follows the layer finds all rows; the others are 0. No
architecture has to be known: a network that does more with its layers fails the trial that every network has to pass in
packed rows (see ``exactness``), and is then run without.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .layout import Layout, Segment, Span
from .promises import promising

if TYPE_CHECKING:
    from torch import Tensor, nn

Spot: TypeAlias = Literal["cls", "last", "label", "ends", "steps"]
"""What is read of each text: its first token, its last one, that which a classification head reads (the last one of a
causal network), or all from some token on to its end; of an encoder-decoder a few steps of its decoder."""


class KeysKnown(Exception):
    """The keys and values of all tokens, (1, heads, tokens, width) each, are there."""

    def __init__(self, states: tuple[Tensor, Tensor]) -> None:
        super().__init__()
        self.states = states


class Trim:
    """Which rows of a packed row the last layer has to finish, and how far it is. One is made for every row.

    Args:
        segments: Of the row.
        wanted: Places of segments with the first row that is wanted of each, which then are wanted to its end; or the
            spot of every segment.

    Attributes:
        stage: "keys" while the layer runs to its attention, "rows" while it runs with the wanted rows.
        states: Keys and values of all tokens, (1, heads, tokens, width) each.
        layout: Of the wanted rows alone.
    """

    def __init__(self, segments: Sequence[Segment], wanted: Sequence[tuple[int, int]] | Spot) -> None:
        if not isinstance(wanted, str) and not wanted:  # a row that others go on from has to come to its end, too
            wanted = [(len(segments) - 1, segments[-1].end - 1)]
        self.segments, self.wanted = segments, wanted
        self.stage: Literal["keys", "rows"] | None = None
        self.states: tuple[Tensor, Tensor] | None = None
        self.layout: Layout | None = None
        self.causal = True

    def note(self, key: Tensor, value: Tensor, *, causal: bool) -> None:
        """Ends the layer at its keys and values.

        Raises:
            KeysKnown: Always.
        """
        self.causal = causal
        raise KeysKnown((key, value))

    @property
    def spans(self) -> list[tuple[int, Span]]:
        """Wanted rows of segments, by the segments' places."""
        if not isinstance(self.wanted, str):
            return [(place, (start, self.segments[place].end)) for place, start in self.wanted]
        first = self.wanted == "cls" or (self.wanted == "label" and not self.causal)
        return [
            (place, (start, start + 1) if first else (end - 1, end))
            for place, (start, end, _) in enumerate(self.segments)
        ]

    def rest(self, layout: Layout) -> Layout:
        """The layout of the wanted rows alone, which see what they saw in the whole row."""
        segments, start = [], 0
        for _, (first, after) in self.spans:
            segments.append(Segment(start, start + after - first))
            start = segments[-1].end
        found = Layout(segments, kept=layout.kept)
        found.promises = layout.promises
        found.pieces = [layout.pieces[place] for place, _ in self.spans]
        return found

    def rows(self, like: Tensor) -> Tensor:
        """Places of the wanted rows, (rows,)."""
        import torch

        return torch.cat([torch.arange(*span) for _, span in self.spans]).to(like.device)


@contextmanager
def trimmed(layer: nn.Module, layout: Layout) -> Iterator[None]:
    """Lets the last layer of a network finish the rows of a layout's trim alone."""
    trim: Trim = layout.trim

    def to_keys(args: tuple[Any, ...], given: dict[str, Any]) -> tuple[Tensor, Tensor]:
        trim.stage = "keys"
        try:
            layer.forward(*args, **given)
        except KeysKnown as known:
            return known.states
        raise NotImplementedError("a last layer that attends in a way of its own")

    def shorten(_: object, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[Any, Any]:
        with promising(layer, layout) if isinstance(trim.wanted, str) else nullcontext():  # one row of each segment
            trim.states = to_keys(args, given)
        if layout.promises is not None and layout.promises.behind(*trim.states) is None:
            layout.promises = None
            trim.states = to_keys(args, given)
        trim.stage, trim.layout = "rows", trim.rest(layout)
        states = args[0] if args else given["hidden_states"]
        rows = trim.rows(states)
        return _shortened(args, layout.tokens, rows), _shortened(given, layout.tokens, rows)

    def lengthen(_: object, __: object, output: Any) -> Any:  # noqa: ANN401 - of every network its own
        trim.stage = trim.states = None
        states, *others = output if isinstance(output, tuple) else (output,)
        whole = states.new_zeros(1, layout.tokens, states.shape[-1]).index_copy(1, trim.rows(states), states)
        return (whole, *others) if isinstance(output, tuple) else whole

    handles = [
        layer.register_forward_pre_hook(shorten, with_kwargs=True),
        layer.register_forward_hook(lengthen),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _shortened(part: Any, tokens: int, rows: Tensor) -> Any:  # noqa: ANN401 - whatever a layer is given
    """The same for some of a row's tokens: of tensors (1, tokens, …), within tuples and dictionaries, too."""
    if isinstance(part, dict):
        return {name: _shortened(one, tokens, rows) for name, one in part.items()}
    if isinstance(part, tuple):
        return tuple(_shortened(one, tokens, rows) for one in part)
    if tuple(getattr(part, "shape", ())[:2]) == (1, tokens):
        return part[:, rows.to(part.device)]
    return part
