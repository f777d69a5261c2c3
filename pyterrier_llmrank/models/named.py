"""Models by name."""

from __future__ import annotations

from os import PathLike, fspath
from typing import Any

from pyterrier_llmrank.errors import ConfigurationError

from .base import Model
from .hf import HFModel


def as_model(model: str | PathLike[str] | Model, **options: str | int | bool | None) -> Model:
    """A model from its name: a local Hugging Face model, unless the hub says that there is none of this name.

    Args:
        model: A name, a folder, or a model, which stays as it is.
        options: Arguments of ``HFModel``; None for its default.

    Raises:
        ModelNotFound: No such folder, or no such model on the hub.
        ConfigurationError: Options for a model that has its own already.
    """
    told: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if isinstance(model, str | PathLike):
        named = HFModel(fspath(model), **told)
        named.check()
        return named
    if told:
        raise ConfigurationError(f"{', '.join(told)} must be given to {model!r} itself, not beside it")
    return model
