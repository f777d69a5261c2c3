"""Arithmetic on checkpoints: means of several, a way between two, and what training added to one, put on another.

Folders in, a folder out: weights in safetensors, whole or in shards, are read tensor by tensor and written as one file.
All that lies beside the weights (configuration, tokenizer, pooling, prompts) is copied from one of the folders.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from pyterrier_llmrank.errors import ConfigurationError, ModelNotFound

Folder: TypeAlias = str | os.PathLike[str]

WHOLE, SHARDS = "model.safetensors", "model.safetensors.index.json"
PARALLEL = 0.9995  # a cosine above which the way along the sphere is the straight one


def average_checkpoints(folders: Sequence[Folder], to: Folder, *, weights: Sequence[float] | None = None) -> Path:
    """The mean of checkpoints of one shape, such as the last ones of a training.

    Args:
        folders: At least one; what lies beside the weights is the first one's.
        to: Where the mean goes.
        weights: How much each counts; they are made to sum up to 1. Evenly by default.

    Returns:
        ``to``.

    Raises:
        ConfigurationError: Checkpoints differ in their tensors, ``to`` is one of them, or weights are none.
        ModelNotFound: A folder has no weights in safetensors.

    Reference:
        Wortsman et al., 2022 (model soups).
    """
    shares = [1.0] * len(folders) if weights is None else [float(one) for one in weights]
    if not folders or len(shares) != len(folders) or not sum(shares) > 0 or min(shares) < 0:
        raise ConfigurationError(
            f"a mean needs folders, and for each a weight of at least 0, not all 0; got {len(folders)} folders and "
            f"weights {weights}"
        )

    def mean(tensors: Sequence[Tensor]) -> Tensor:
        return torch.stack([one * (share / sum(shares)) for one, share in zip(tensors, shares, strict=True)]).sum(dim=0)

    opened = [Weights(folder) for folder in folders]
    return _written(opened[0], _combined(opened, mean), to, opened)


def slerp_checkpoints(first: Folder, second: Folder, to: Folder, *, share: float = 0.5) -> Path:
    """A checkpoint on the way between two, tensor by tensor along the arc between them (spherical interpolation).

    Unlike a mean, it does not shrink what the two have in different directions; Qwen3-Embedding's published weights
    are merged so.

    Args:
        first: What lies beside the weights is its.
        second: Of the same shape.
        to: Where the result goes.
        share: How far to go, 0 (the first) to 1 (the second).

    Returns:
        ``to``.

    Raises:
        ConfigurationError: Checkpoints differ in their tensors, ``to`` is one of them, or ``share`` is out of range.
        ModelNotFound: A folder has no weights in safetensors.

    Reference:
        Shoemake, 1985; Zhang et al., 2025 (Qwen3 Embedding), for its use.
    """
    if not 0 <= share <= 1:
        raise ConfigurationError(f"share goes from 0 (the first) to 1 (the second), got {share}")
    opened = [Weights(first), Weights(second)]
    return _written(opened[0], _combined(opened, lambda two: slerp(two[0], two[1], share)), to, opened)


def add_task_vector(base: Folder, tuned: Folder, adapted: Folder, to: Folder, *, scale: float = 1.0) -> Path:
    """``adapted + scale * (tuned - base)``: a retriever for a language model that has read more (RE-AdaptIR).

    ``tuned`` was made from ``base`` with labels, ``adapted`` from ``base`` by reading a collection without any. Base
    and adapted may have a head, or a prefix of names, that the retriever lacks (``bert.encoder…`` for ``encoder…``).

    Args:
        base: What both began with.
        tuned: The retriever; what lies beside the weights is its.
        adapted: The base after more reading.
        to: Where the result goes.
        scale: How much of the difference is added; the authors use 0.5 to 1.

    Returns:
        ``to``.

    Raises:
        ConfigurationError: Checkpoints differ in their tensors, or ``to`` is one of them.
        ModelNotFound: A folder has no weights in safetensors.

    Reference:
        Fleshman and Van Durme, 2024 (RE-AdaptIR); Ilharco et al., 2023 (task arithmetic).
    """
    own = Weights(tuned)
    opened = [own, Weights(base).like(own), Weights(adapted).like(own)]
    made = _combined(opened, lambda three: three[2] + scale * (three[0] - three[1]))
    return _written(own, made, to, opened)


def slerp(first: Tensor, second: Tensor, share: float) -> Tensor:
    """The point between two tensors of one shape on the arc between their directions, ``share`` of the way."""
    norms = first.norm() * second.norm()
    cosine = float((first * second).sum() / norms) if norms > 0 else 1.0
    if abs(cosine) > PARALLEL:
        return first * (1 - share) + second * share
    angle = math.acos(cosine)
    return (first * math.sin((1 - share) * angle) + second * math.sin(share * angle)) / math.sin(angle)


class Weights:
    """The tensors of a checkpoint folder, read one at a time.

    Args:
        folder: With safetensors, whole or in shards.

    Raises:
        ModelNotFound: It has none.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = Path(folder)
        self.prefix = ""
        if (self.folder / SHARDS).is_file():
            named: Mapping[str, str] = json.loads((self.folder / SHARDS).read_text(encoding="utf-8"))["weight_map"]
            self.files = {name: self.folder / file for name, file in named.items()}
        elif (self.folder / WHOLE).is_file():
            from safetensors import safe_open

            with safe_open(self.folder / WHOLE, "pt") as file:
                self.files = dict.fromkeys(file.keys(), self.folder / WHOLE)
        else:
            raise ModelNotFound(f"{folder} holds no {WHOLE}; save the checkpoint with save_pretrained(folder)")

    def like(self, other: Weights) -> Weights:
        """Itself, its tensors by the names that another checkpoint has for them; what that lacks is left out.

        Raises:
            ConfigurationError: A tensor of the other is missing.
        """
        probe = min(other.files)
        ends = [name[: len(name) - len(probe)] for name in self.files if name.endswith(probe)]
        fitting = [one for one in ends if all(one + name in self.files for name in other.files)]
        if not fitting:
            lost = sorted(name for name in other.files if name not in self.files)
            raise ConfigurationError(
                f"{self.folder} lacks {len(lost)} of the {len(other.files)} tensors of {other.folder}, such as "
                f"{lost[0]!r}; both have to come from one base"
            )
        self.prefix = fitting[0]
        self.files = {name: self.files[self.prefix + name] for name in other.files}
        return self

    def __getitem__(self, name: str) -> Tensor:
        """A tensor by its name."""
        from safetensors import safe_open

        with safe_open(self.files[name], "pt") as file:
            found: Tensor = file.get_tensor(self.prefix + name)
        return found


def _combined(opened: Sequence[Weights], made: Callable[[Sequence[Tensor]], Tensor]) -> Iterable[tuple[str, Tensor]]:
    """Name by name what is made of the tensors of all checkpoints, in the precision of the first.

    Raises:
        ConfigurationError: They differ in names or shapes, or in numbers that are no weights.
    """
    first, *others = opened
    for other in others:
        if differ := sorted(first.files.keys() ^ other.files.keys()):
            raise ConfigurationError(
                f"{first.folder} and {other.folder} have not the same tensors: {len(differ)} are in one of them only, "
                f"such as {differ[0]!r}"
            )
    for name in sorted(first.files):
        tensors = [one[name] for one in opened]
        for other, tensor in zip(others, tensors[1:], strict=True):
            if tensor.shape != tensors[0].shape:
                raise ConfigurationError(
                    f"{name!r} has the shape {tuple(tensors[0].shape)} in {first.folder}, and {tuple(tensor.shape)} in "
                    f"{other.folder}; only checkpoints of one shape can be put together"
                )
        if tensors[0].is_floating_point():
            yield name, made([one.double() for one in tensors]).to(tensors[0].dtype)
        elif all(torch.equal(one, tensors[0]) for one in tensors):
            yield name, tensors[0]
        else:
            raise ConfigurationError(f"{name!r} holds whole numbers that differ between {first.folder} and the others")


def _written(beside: Weights, tensors: Iterable[tuple[str, Tensor]], to: Folder, opened: Sequence[Weights]) -> Path:
    """A folder with these weights, and all else of another; it is there when it is whole."""
    from safetensors.torch import save_file

    path = Path(to)
    for one in opened:
        if path.exists() and path.samefile(one.folder):
            raise ConfigurationError(f"{to} is one of the checkpoints that are put together; choose another folder")
    part = path.with_name(f"{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(beside.folder, part, ignore=shutil.ignore_patterns("*.safetensors", SHARDS, "*.bin", "checkpoint*"))
    save_file({name: tensor.contiguous() for name, tensor in tensors}, part / WHOLE, metadata={"format": "pt"})
    shutil.rmtree(path, ignore_errors=True)
    part.rename(path)
    return path
