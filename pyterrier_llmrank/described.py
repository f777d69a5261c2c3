"""``Described``: a transformer that is a value, told by the arguments that it was built with."""

from __future__ import annotations

import inspect
from typing import Any

import pyterrier as pt

from .core import spelled

EMPTY = inspect.Parameter.empty


class Described(pt.Transformer):
    """A transformer whose ``repr`` is the call that builds an equal one.

    Each argument is kept as an attribute of its name, or of its name behind an underscore where a method has the name.
    """

    def attributes(self) -> list[pt.inspect.TransformerAttribute]:
        """The arguments it was built with."""
        kept, parameters = vars(self), inspect.signature(type(self)).parameters
        return [
            pt.inspect.TransformerAttribute(
                name,
                kept[f"_{name}"] if name not in kept and f"_{name}" in kept else getattr(self, name),
                parameter.default,
                parameter.kind,
            )
            for name, parameter in parameters.items()
        ]

    def apply_attributes(self, **changes: Any) -> Described:  # noqa: ANN401 - PyTerrier's protocol
        """A copy with other arguments.

        Raises:
            InspectError: It has no such argument.
        """
        attributes = {attribute.name: attribute.value for attribute in self.attributes()}
        if unknown := sorted(changes.keys() - attributes.keys()):
            raise pt.inspect.InspectError(f"{type(self).__name__} has no argument {', '.join(unknown)}")
        return type(self)(**(attributes | changes))

    def subtransformers(self) -> dict[str, pt.Transformer]:
        """None: what it is made of are values, not transformers."""
        return {}

    def schematic(self, *, input_columns: list[str] | None = None) -> dict[str, Any]:
        """How it is drawn: its name, and the arguments that differ from the defaults; offline, so without a link."""
        settings = {name: spelled(value) for name, value in self._told().items()}
        return {"label": type(self).__name__, "help_url": None, "settings": settings}

    def _told(self) -> dict[str, Any]:
        """Arguments that differ from their defaults."""
        return {
            a.name: a.value
            for a in self.attributes()
            if a.init_default_value is EMPTY or a.value != a.init_default_value
        }

    def __repr__(self) -> str:
        """The call that builds an equal transformer."""
        parameters = inspect.signature(type(self)).parameters
        told = [
            spelled(value) if parameters[name].kind is not inspect.Parameter.KEYWORD_ONLY else f"{name}={value!r}"
            for name, value in self._told().items()
        ]
        return f"{type(self).__name__}({', '.join(told)})"

    def __eq__(self, other: object) -> bool:
        """Same class, equal arguments."""
        if type(other) is not type(self):
            return NotImplemented
        return [a.value for a in self.attributes()] == [a.value for a in other.attributes()]

    def __hash__(self) -> int:
        """By repr, which follows from the arguments."""
        return hash(repr(self))
