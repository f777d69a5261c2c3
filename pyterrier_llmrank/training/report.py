"""What a training leaves beside the weights: every step as JSON, a plot, and a model card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from pyterrier_llmrank._version import __version__

from .settings import Training

History = Sequence[Mapping[str, float]]
SMOOTHED = 0.95  # of the loss that the plot shows beside the raw one: how much of the mean so far is kept


def report(folder: Path, history: History, training: Training, about: Mapping[str, str]) -> None:
    """Writes ``history.jsonl``, ``README.md`` and, where matplotlib is installed, ``history.png``.

    Args:
        folder: That of the weights.
        history: A row a step: step (from 1), loss, rate, and measure where it was measured after this step. A row of
            step 0 has only a measure.
        training: How it was trained.
        about: Texts for the card: "title", "base" (model), "data", "measure", "usage" (Python) …; all optional.
    """
    lines = "".join(json.dumps(row) + "\n" for row in history)
    (folder / "history.jsonl").write_text(lines, encoding="utf-8")
    drawn = find_spec("matplotlib") is not None
    if drawn:
        plot(history, folder / "history.png", about.get("measure", "measure"))
    (folder / "README.md").write_text(card(history, training, about, drawn=drawn), encoding="utf-8")


def card(history: History, training: Training, about: Mapping[str, str], *, drawn: bool = False) -> str:
    """A model card in Markdown, with the metadata that the Hugging Face hub reads at its head."""
    base = about.get("base")
    head = ["---", "library_name: transformers", "tags:", "- pyterrier", "- reranking", "- pyterrier-llmrank"]
    head += [f"base_model: {base}"] * bool(base) + ["---", ""]
    body = [f"# {about.get('title', 'A model for ranking')}", ""]
    body += [f"Trained with pyterrier_llmrank {__version__}" + (f" from `{base}`." if base else "."), ""]
    if usage := about.get("usage"):
        body += ["```python", usage, "```", ""]
    told = [(name.capitalize(), text) for name, text in about.items() if name not in ("title", "base", "usage")]
    body += ["| | |", "|---|---|", *[f"| {name} | {_cell(text)} |" for name, text in told]]
    body += [f"| Settings | `{_cell(repr(training))}` |", *_results(history), ""]
    return "\n".join([*head, *body, *["![loss of each step](history.png)", ""] * drawn])


def _results(history: History) -> list[str]:
    """Rows of the card's table: steps, loss and measurements."""
    losses = [row["loss"] for row in history if "loss" in row]
    measured = [row for row in history if "measure" in row]
    rows = [f"| Steps | {len(losses)} |"]
    if losses:
        few = max(1, len(losses) // 10)
        rows.append(
            f"| Loss | {sum(losses[:few]) / few:.4g} over the first {few} steps, "
            f"{sum(losses[-few:]) / few:.4g} over the last |"
        )
    if measured:
        best = max(measured, key=lambda row: row["measure"])
        rows.append(
            f"| Measured | {measured[0]['measure']:.4f} after step {measured[0]['step']:.0f}; best "
            f"{best['measure']:.4f} after step {best['step']:.0f}, of which these weights are |"
        )
    return rows


def _cell(text: str) -> str:
    """A text that fits in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def plot(history: History, path: Path, measure: str) -> None:
    """Draws the loss of each step, its running mean, and what was measured, each against its own axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    steps, losses = zip(*[(row["step"], row["loss"]) for row in history if "loss" in row], strict=True)
    axes.plot(steps, losses, color="tab:blue", alpha=0.3, linewidth=0.8)
    axes.plot(steps, _running_mean(losses), color="tab:blue", label="loss")
    axes.set(xlabel="step", ylabel="loss")
    if measured := [(row["step"], row["measure"]) for row in history if "measure" in row]:
        right = axes.twinx()
        right.plot(*zip(*measured, strict=True), color="tab:orange", marker="o", markersize=4, label=measure)
        right.set_ylabel(measure)
    figure.legend(loc="upper center", ncols=2, frameon=False)
    figure.savefig(path, dpi=120)


def _running_mean(values: Sequence[float]) -> list[float]:
    """The exponential mean of what came so far, each value of the start weighing in full."""
    means, total, weight = [], 0.0, 0.0
    for value in values:
        total, weight = SMOOTHED * total + value, SMOOTHED * weight + 1
        means.append(total / weight)
    return means
