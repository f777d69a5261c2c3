"""Checks of arguments that bound what is read, shown or written."""

from __future__ import annotations

from pyterrier_llmrank.errors import ConfigurationError


def check_limits(part: object, *names: str, unit: str = "token") -> None:
    """Whether attributes of a part leave room for anything; None is for all.

    Args:
        part: A scorer.
        names: Of its attributes.
        unit: What they count.

    Raises:
        ConfigurationError: One is below 1.
    """
    for name in names:
        value = getattr(part, name)
        if value is not None and value < 1:
            raise ConfigurationError(f"{name} must be at least 1 {unit}, got {value}")
