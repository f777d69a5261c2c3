"""Checkpoints of others, as networks of this package."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pyterrier_llmrank.errors import ModelNotFound

from .saving import save

LIST, LINEAR = "list_transformer.pt", "linear_in_embedding.pt"
TEMPLATE = "list_transformer_layer."  # what the layers were copied from; trained no further


def list_con_ranker(source: str | os.PathLike[str], folder: str | os.PathLike[str]) -> None:
    """Converts the list encoder of the released ListConRanker to a folder that ``ListEncoder`` reads.

    Its text encoder is the checkpoint itself: ``ListEncoder(folder, BiEncoder(source, normalize=False,
    max_length=512))``, with the mean of each text's states, queries and passages one by one.

    Args:
        source: A folder with ByteDance/ListConRanker at a revision with ``list_transformer.pt`` and
            ``linear_in_embedding.pt`` (2852d459b0e3942733da8756b809f3659649d5a6).
        folder: Where the network goes.

    Raises:
        ModelNotFound: A file is missing.

    Reference:
        The code published with the checkpoint; not seen to run with its weights here.
    """
    import torch

    from .contrast import ListConNetwork

    path = Path(source)
    if missing := [name for name in (LIST, LINEAR, "config.json") if not (path / name).is_file()]:
        raise ModelNotFound(
            f"{path} lacks {', '.join(missing)}: download ByteDance/ListConRanker at the revision "
            "2852d459b0e3942733da8756b809f3659649d5a6"
        )
    linear, whole = (torch.load(path / name, map_location="cpu", weights_only=True) for name in (LINEAR, LIST))
    state: dict[str, Any] = {f"linear_in_embedding.{name}": value for name, value in linear.items()}
    state |= {name: value for name, value in whole.items() if not name.startswith(TEMPLATE)}
    width, inputs = linear["weight"].shape
    layers = {name.split(".")[2] for name in state if name.startswith("list_transformer.layers.")}
    network = ListConNetwork(
        inputs,
        width=width,
        layers=len(layers),
        heads=json.loads((path / "config.json").read_text(encoding="utf-8"))["num_attention_heads"],
        hidden=len(state["list_transformer.layers.0.linear1.bias"]),
    )
    network.load_state_dict({name: value.float() for name, value in state.items()})
    save(network, folder)
