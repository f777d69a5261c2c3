"""What is known of published methods, and how one is looked up by the name of its checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, TypeVar, get_args

import numpy as np
import pandas as pd

from pyterrier_llmrank.core import Scorer, Strategy, spelled
from pyterrier_llmrank.models import Model, as_model
from pyterrier_llmrank.rerank import Rerank

if TYPE_CHECKING:
    from typing_extensions import Unpack

Family = Literal["pointwise", "pairwise", "setwise", "listwise", "groupwise", "in-context"]
FAMILIES = get_args(Family)
Name: TypeAlias = str | PathLike[str] | Model
Build = TypeVar("Build", bound=Callable[..., Any])


class Common(TypedDict, total=False):
    """What every method takes beside its own arguments.

    Attributes:
        device: Where a model that is given by name runs: "cuda", "cuda:1", "mps" or "cpu"; the best device by default.
        dtype: Its precision: "float32", "bfloat16" or "float16"; half precision on a GPU, float32 on a CPU by default.
        batch_tokens: Tokens of one forward pass.
        max_length: Tokens of a prompt with its answer; the model's own limit by default.
        depth: Candidates to rerank; the rest follow below them. All by default.
        num_results: Rows to return for a query. All by default.
        text_field: Column of the documents' text; "text" by default.
        verbose: Whether to show a progress bar.
    """

    device: str | None
    dtype: str | None
    batch_tokens: int | None
    max_length: int | None
    depth: int | None
    num_results: int | None
    text_field: str
    verbose: bool


class Options(Common, total=False):
    """``Common``, and how much of a ranking is settled; what every preset takes beside its own arguments.

    Attributes:
        top_k: Positions to settle; the rest may stay in input order. All by default.
    """

    top_k: int | None


ENGINE = ("device", "dtype", "batch_tokens", "max_length")
FOLDER = os.curdir  # a model that is there, as far as anybody looks before it is loaded


@dataclass(frozen=True)
class Preset:
    """One published method.

    Attributes:
        name: Of its function in ``presets``.
        build: The function: a model (by default the checkpoint) and ``Options`` in, a ``Rerank`` out.
        paper: Authors, year, title.
        family: How many documents it shows at once.
        checkpoints: Names on the Hugging Face hub that were trained for its format, the function's default first.
        published: nDCG@10 times 100, as published, by collection.
        source: Where those numbers stand.
        licence: Of the weights, where it is known.
    """

    name: str
    build: Callable[..., Rerank]
    paper: str
    family: Family
    checkpoints: tuple[str, ...] = ()
    published: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    licence: str = ""

    @property
    def strategy(self) -> str:
        """The call that builds the strategy of the transformer with its default options."""
        return spelled(self.build(FOLDER).strategy)


REGISTRY: dict[str, Preset] = {}


def preset(
    *,
    paper: str,
    family: Family,
    checkpoints: tuple[str, ...] = (),
    published: Mapping[str, float] | None = None,
    source: str = "",
    licence: str = "",
) -> Callable[[Build], Build]:
    """Notes what is known of the method that a function builds; the function stays as it is."""

    def noted(build: Build) -> Build:
        name = build.__name__
        REGISTRY[name] = Preset(name, build, paper, family, checkpoints, published or {}, source, licence)
        return build

    return noted


def find(checkpoint: object) -> Preset | None:
    """The preset whose format a checkpoint was trained for; None if it is not known.

    Known by its name on the hub, whatever its case; a folder is known by its last part, where that is the name of one.
    """
    if not isinstance(checkpoint, str | PathLike):
        return None
    wanted = fspath(checkpoint).rstrip("/\\").casefold()
    for known in REGISTRY.values():
        names = [name.casefold() for name in known.checkpoints]
        if wanted in names or wanted.replace("\\", "/").rpartition("/")[2] in [n.rpartition("/")[2] for n in names]:
            return known
    return None


HEADLINE = ("DL19", "DL20")  # collections with a column of their own


def frame() -> pd.DataFrame:
    """One row per preset, by family and name: what is known of it, and what was published of its effectiveness.

    Columns: name, checkpoint (the default), paper, family, strategy (of the transformer with its default options),
    nDCG@10 on DL19 and DL20 times 100 (``ndcg_dl19``, ``ndcg_dl20``), the same elsewhere as a text, source (of these
    numbers) and licence (of the weights); missing where it is not known. No model is looked for, or loaded.
    """
    rows = []
    for known in sorted(REGISTRY.values(), key=lambda known: (FAMILIES.index(known.family), known.name)):
        elsewhere = [f"{name} {value}" for name, value in known.published.items() if name not in HEADLINE]
        rows.append(
            {
                "name": known.name,
                "checkpoint": known.checkpoints[0] if known.checkpoints else None,
                "paper": known.paper,
                "family": known.family,
                "strategy": known.strategy,
                **{f"ndcg_{name.lower()}": known.published.get(name, np.nan) for name in HEADLINE},
                "ndcg_elsewhere": "; ".join(elsewhere) or None,
                "source": known.source or None,
                "licence": known.licence or None,
            }
        )
    return pd.DataFrame(rows)


def engine(model: Name, options: Common, **own: Any) -> Model:  # noqa: ANN401 - arguments of HFModel
    """The model of a preset: a name becomes an ``HFModel`` with the options, and with what the format asks for else."""
    told = {name: options.get(name) for name in ENGINE}
    if isinstance(model, str | PathLike):
        told = {**own, **{name: value for name, value in told.items() if value is not None}}
    return as_model(model, **told)  # type: ignore[arg-type]


def reranker(strategy: Strategy, scorer: Scorer, **options: Unpack[Options]) -> Rerank:
    """A ``Rerank`` with those of the options that are for it."""
    return Rerank(strategy, scorer, **{name: value for name, value in options.items() if name not in ENGINE})  # type: ignore[arg-type]
