"""Models by name, local ones and those behind a server."""

from __future__ import annotations

import json
from os import PathLike, fspath
from typing import Any

from pyterrier_llmrank.errors import ConfigurationError

from .base import Model
from .hf import HFModel
from .http import OpenAIModel

SERVED = "openai:"


def as_model(model: str | PathLike[str] | Model, **options: str | int | bool | tuple[str, ...] | None) -> Model:
    """A model from its name: a local Hugging Face model, unless the hub says that there is none of this name.

    ``"openai:name"`` is a model behind a server, with arguments of ``OpenAIModel`` after it, such as
    ``"openai:Qwen/Qwen3-8B base_url=http://localhost:8000/v1"`` (of several servers, with commas between them).

    Args:
        model: A name, a folder, or a model, which stays as it is.
        options: Arguments of ``HFModel``; None for its default.

    Raises:
        ModelNotFound: No such folder, or no such model on the hub.
        ConfigurationError: Options for a model that has its own already, or that a server does not take.
    """
    told: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if isinstance(model, str) and model.startswith(SERVED):
        return _served(model, told)
    if isinstance(model, str | PathLike):
        named = HFModel(fspath(model), **told)
        named.check()
        return named
    if told:
        raise ConfigurationError(f"{', '.join(told)} must be given to {model!r} itself, not beside it")
    return model


def _served(name: str, options: dict[str, Any]) -> OpenAIModel:
    """A model behind a server, from a text of its name and arguments."""
    model, *pairs = name.removeprefix(SERVED).split()
    told = {key: _value(text) for key, _, text in (pair.partition("=") for pair in pairs)}
    if isinstance(urls := told.get("base_url"), str) and "," in urls:
        told["base_url"] = urls.split(",")
    unknown = sorted((options.keys() | told.keys()) - OpenAIModel.__dataclass_fields__.keys())
    if unknown:
        raise ConfigurationError(
            f"{SERVED}{model} takes no {', '.join(unknown)}; it takes {', '.join(OpenAIModel.__dataclass_fields__)}"
        )
    return OpenAIModel(model, **{**told, **options})


def _value(text: str) -> Any:  # noqa: ANN401 - as JSON has it
    """A number or a truth value; anything else is a text."""
    try:
        return json.loads(text.lower() if text in ("True", "False") else text)
    except json.JSONDecodeError:
        return text
