"""``Explanation``: which passages, and which of their words, attracted the attention of a query."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pyterrier_llmrank.core import Doc
from pyterrier_llmrank.errors import InputError, MissingExtra
from pyterrier_llmrank.scorers.attention import Weighed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WARM, COLD = (230, 97, 1), (94, 60, 153)  # attention that the query attracted, and that it drew off
LINE = 118  # characters of a line in the picture
STRONGEST = 0.75  # of a colour, so that what is written on it can be read


class Explanation(pd.DataFrame):
    """One row per word of every passage, best passage first: docno, rank, score, position, word, weight.

    The weights of a passage's words add up to its score; position 0 is its label, such as "[3]". A notebook shows the
    passages with their words coloured; ``draw()`` is the same as a matplotlib picture. What is selected from it is a
    plain frame.

    Attributes:
        asked: The query.
    """

    asked: str
    _metadata = ["asked"]  # noqa: RUF012 - as pandas asks for it

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def passages(self) -> pd.DataFrame:
        """One row per passage, best first: docno, rank, score."""
        return pd.DataFrame(self[["docno", "rank", "score"]].drop_duplicates("rank").reset_index(drop=True))

    def _passages(self) -> Iterator[tuple[str, float, list[tuple[str, float]]]]:
        """Docno, score and weighed words of each passage."""
        for _, rows in self.groupby("rank", sort=True):
            words = list(zip(rows["word"].tolist(), rows["weight"].tolist(), strict=True))
            yield str(rows["docno"].iloc[0]), float(rows["score"].iloc[0]), words

    def _scale(self) -> float:
        """The largest weight of a word that is no label; labels may attract more than all others."""
        inner = self.loc[self["position"] > 0, "weight"].abs()
        return float(inner.max()) if len(inner) and inner.max() > 0 else 1.0

    def _repr_html_(self) -> str:
        """Passages best first, each with a bar for its score, words coloured by weight."""
        scale = self._scale()
        most = max((abs(score) for _, score, _ in self._passages()), default=0.0) or 1.0
        rows = []
        for docno, score, words in self._passages():
            shown = " ".join(
                f'<span style="background:{_shade(weight / scale)};border-radius:3px" title="{weight:.5f}">'
                f"{html.escape(word)}</span>"
                for word, weight in words
            )
            bar = f"width:{100 * abs(score) / most:.0f}%;height:6px;background:{_shade(np.sign(score))}"
            rows.append(
                f'<tr><td style="vertical-align:top;text-align:left;min-width:9em"><b>{html.escape(docno)}</b> '
                f'{score:.4f}<div style="{bar}"></div></td>'
                f'<td style="text-align:left;line-height:1.6;white-space:normal">{shown}</td></tr>'
            )
        head = f"<p><b>Query:</b> {html.escape(self.asked)}</p>"
        return f"<div>{head}<table>{''.join(rows)}</table></div>"

    def draw(self, passages: int = 8) -> Figure:
        """The same as a matplotlib figure, of the best passages.

        Args:
            passages: How many.

        Raises:
            MissingExtra: matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise MissingExtra("Explanation.draw", "matplotlib", "plots") from error
        shown = list(self._passages())[:passages]
        laid = [_lines(words) for _, _, words in shown]
        heights = [max(len(lines), 2) + 0.8 for lines in laid]
        figure = Figure(figsize=(12, 0.21 * sum(heights) + 0.7), layout="constrained")
        bars, texts = figure.subplots(1, 2, width_ratios=(1, 5))
        figure.suptitle(f"Attention of: {self.asked}", x=0.01, ha="left", fontsize=10)
        tops = np.cumsum([0, *heights])
        scale, left = self._scale(), bars.get_yaxis_transform()
        for (docno, score, _), lines, top in zip(shown, laid, tops, strict=False):
            bars.barh(top + 1.2, score, height=0.7, color=_rgb(float(np.sign(score)), 1.0))
            paper = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # over the axis
            bars.text(0, top + 0.4, f"{docno}  {score:.4f}", fontsize=9, va="center", transform=left, bbox=paper)
            _write(texts, lines, top, scale)
        bars.axvline(0, color="0.5", linewidth=0.8)
        for axes, width in ((bars, None), (texts, LINE)):
            axes.set_ylim(tops[-1], -0.3)
            axes.set_axis_off()
            if width is not None:
                axes.set_xlim(0, width)
        return figure


def explained(query: str, docs: Sequence[Doc], looked: Sequence[Weighed]) -> Explanation:
    """The frame of a query's documents, from how their tokens were weighed."""
    scores = np.array([one.weights.sum() for one in looked])
    parts = []
    for rank, place in enumerate(np.argsort(-scores, kind="stable").tolist()):
        words = word_weights(looked[place])
        frame = pd.DataFrame(words, columns=["word", "weight"])
        frame.insert(0, "position", range(len(words)))
        frame.insert(0, "score", scores[place])
        frame.insert(0, "rank", rank)
        frame.insert(0, "docno", docs[place].docno)
        parts.append(frame)
    told = Explanation(pd.concat(parts, ignore_index=True))
    told.asked = query
    return told


def word_weights(one: Weighed) -> list[tuple[str, float]]:
    """Words of a passage, told by white space, with the sum of the weights of their tokens.

    A token belongs to the word in which its first character that is no white space stands; else to the word before.
    """
    found = list(re.finditer(r"\S+", one.text))
    starts = np.array([word.start() for word in found])
    sums = np.zeros(len(found))
    for (start, end), weight in zip(one.tokens, one.weights, strict=True):
        piece = one.text[start:end]
        at = start + len(piece) - len(piece.lstrip())
        sums[max(int(np.searchsorted(starts, at, side="right")) - 1, 0)] += weight
    return [(word[0], float(weight)) for word, weight in zip(found, sums, strict=True)]


def as_docs(docs: Any) -> list[Doc]:  # noqa: ANN401 - what users have
    """Documents from a frame with docno and text, from ``Doc``, or from texts, which are named by their place.

    Raises:
        InputError: There are none, or a frame lacks a column.
    """
    if isinstance(docs, pd.DataFrame):
        if missing := {"docno", "text"} - {*docs.columns}:
            raise InputError(f"documents need the columns docno and text; {', '.join(sorted(missing))} is missing")
        docs = [Doc(str(docno), str(text)) for docno, text in docs[["docno", "text"]].itertuples(index=False)]
    found = [doc if isinstance(doc, Doc) else Doc(str(place), str(doc)) for place, doc in enumerate(docs)]
    if not found:
        raise InputError("explain needs one document or more")
    return found


def _rgb(sign: float, strength: float) -> tuple[float, float, float, float]:
    """A colour for matplotlib."""
    red, green, blue = WARM if sign >= 0 else COLD
    return red / 255, green / 255, blue / 255, min(1.0, strength) * STRONGEST


def _shade(weight: float) -> str:
    """A colour for HTML: the stronger, the less one sees through it."""
    red, green, blue = WARM if weight >= 0 else COLD
    return f"rgba({red},{green},{blue},{min(1.0, abs(weight)) * STRONGEST:.2f})"


def _lines(words: Sequence[tuple[str, float]]) -> list[list[tuple[int, str, float]]]:
    """Words in lines, each with the column where it begins."""
    lines: list[list[tuple[int, str, float]]] = [[]]
    column = 0
    for whole, weight in words:
        word = whole if len(whole) <= LINE else whole[: LINE - 1] + "…"
        if lines[-1] and column + len(word) > LINE:
            lines.append([])
            column = 0
        lines[-1].append((column, word, weight))
        column += len(word) + 1
    return lines


def _write(axes: Any, lines: Sequence[Sequence[tuple[int, str, float]]], top: float, scale: float) -> None:  # noqa: ANN401
    """Writes coloured words."""
    from matplotlib.patches import Rectangle

    for row, line in enumerate(lines):
        for column, word, weight in line:
            colour = _rgb(weight, abs(weight) / scale)
            axes.add_patch(Rectangle((column - 0.3, top + row), len(word) + 0.6, 0.95, color=colour, linewidth=0))
            axes.text(column, top + row + 0.52, word, fontsize=9, family="monospace", va="center")
