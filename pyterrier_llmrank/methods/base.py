"""What the methods share: a model by name, a checkpoint's own format, and the arguments that all of them take."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, TypeAlias

import pyterrier as pt

from pyterrier_llmrank.core import Scorer, Strategy
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.presets import find
from pyterrier_llmrank.presets.registry import ENGINE, Common, Family, Name, engine
from pyterrier_llmrank.prompts import Demonstrated, Demonstration
from pyterrier_llmrank.prompts.base import Template
from pyterrier_llmrank.rerank import Rerank
from pyterrier_llmrank.scorers import Prompted

DEFAULT_MODEL = "Qwen/Qwen3-1.7B"

SHARED: dict[str, Any] = {
    "device": None,
    "dtype": None,
    "batch_tokens": None,
    "max_length": None,
    "top_k": None,
    "depth": None,
    "num_results": None,
    "text_field": "text",
    "verbose": False,
}
"""The arguments that every method takes, with their defaults (see ``Options``)."""

Demonstrations: TypeAlias = tuple[Demonstration, ...] | Callable[[str], tuple[Demonstration, ...]]
"""Solved examples: fixed ones (none by default), or a function from a query to those for it."""


class Asked(NamedTuple):
    """What answers, and the strategy that the checkpoint's preset has; None for a model of no preset."""

    scorer: Scorer
    strategy: Strategy | None


class Method(Rerank):
    """A ``Rerank`` that is built from a model and a few choices.

    A subclass says in its ``__init__`` which choices, and takes the rest as ``**options``; those of ``Options`` are
    then arguments and attributes like its own.
    """

    family: ClassVar[Family]
    __signature__: ClassVar[inspect.Signature]

    model: Name
    prompt: Template | None
    demonstrations: Demonstrations
    max_doc_tokens: int | None
    told: str | Strategy | None

    def __init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401 - the class's own
        super().__init_subclass__(**kwargs)
        signature = inspect.signature(cls.__init__)
        own = [p for p in [*signature.parameters.values()][1:] if p.kind is not inspect.Parameter.VAR_KEYWORD]
        told = {parameter.name for parameter in own}
        shared = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
            for name, default in SHARED.items()
            if name not in told
        ]
        cls.__signature__ = inspect.Signature([*own, *shared])

    def _build(self, strategy: Strategy, scorer: Scorer, options: Common) -> None:
        """Becomes a ``Rerank`` of these; the class has set the attributes of its own arguments."""
        for name, default in SHARED.items():
            setattr(self, name, options.get(name, getattr(self, name, default)))
        super().__init__(strategy, scorer, **{name: getattr(self, name) for name in SHARED if name not in ENGINE})

    def _check(self, options: Common) -> None:
        """Whether there are such arguments.

        Raises:
            TypeError: There is no argument of this name; says which is meant.
        """
        parameters = type(self).__signature__.parameters
        if unknown := sorted(options.keys() - parameters.keys()):
            near = difflib.get_close_matches(unknown[0], parameters, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(parameters)}"
            raise TypeError(f"{type(self).__name__} has no argument {unknown[0]!r}; {hint}")

    def _asked(self, usual: Template, cap: int, options: Common) -> Asked:
        """What answers: the checkpoint's preset, or the model with ``prompt``, or with the ``usual`` one.

        Args:
            usual: Of models that were not trained for a format.
            cap: Tokens to keep of their documents.
            options: Arguments of the model.
        """
        self._check(options)
        told: Common = {name: options[name] for name in ENGINE if name in options}  # type: ignore[literal-required, assignment]
        known = find(self.model) if self.prompt is None else None
        if known is None or known.family != self.family:
            prompt = self.prompt or usual
            asked = Demonstrated(prompt, self.demonstrations) if self.demonstrations else prompt
            return Asked(Prompted(asked, engine(self.model, told), self.max_doc_tokens or cap), None)
        built = known.build(self.model, **told)
        if self.demonstrations or self.max_doc_tokens:
            raise ConfigurationError(
                f"{self.model} is asked as it was trained to be (presets.{known.name}), which leaves no room for "
                "demonstrations= or max_doc_tokens=; leave them out, or say prompt= to ask in another way"
            )
        return Asked(built.scorer, built.strategy)

    def _alone(self, strategy: Strategy | None, **beside: int) -> None:
        """Whether nothing was told beside a strategy that it would replace.

        Raises:
            ConfigurationError: Something was, and would have no effect.
        """
        parameters = type(self).__signature__.parameters
        changed = [f"{name}={value}" for name, value in beside.items() if value != parameters[name].default]
        if strategy is not None and changed:
            raise ConfigurationError(f"{', '.join(changed)} is without effect beside strategy={strategy!r}")

    def attributes(self) -> list[pt.inspect.TransformerAttribute]:
        """The arguments it was built with; a strategy as it was told, by name or as an object."""
        told = super().attributes()
        for attribute in told:
            if attribute.name == "strategy":
                attribute.value = self.told
        return told


def chosen(strategy: str | Strategy, named: Mapping[str, Strategy]) -> Strategy:
    """A strategy by its name, or the object itself.

    Raises:
        ConfigurationError: There is no such name.
    """
    if not isinstance(strategy, str):
        return strategy
    if strategy not in named:
        names = ", ".join(map(repr, named))
        raise ConfigurationError(f"strategy must be one of {names}, or a strategy object, got {strategy!r}")
    return named[strategy]
