"""What tells one pipeline from another, in every process and on every machine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from types import FunctionType
from typing import Any

import pyterrier as pt

from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.middleware.fingerprint import fingerprint

MISSING = pt.inspect.TransformerAttribute.MISSING
ELSEWHERE = {"device", "device_map", "batch_tokens", "verbose"}  # arguments that say where, how fast and how loudly
PLAIN = (str, bytes, int, float, type(None))  # constants of a function that are written alike everywhere
MAIN = re.compile(r"\b__(?:mp_)?main__\.")  # one module, which has another name in a process that it started


@dataclass(frozen=True)
class Weights:
    """A folder as a local model has it: with these fields a fingerprint tells it by its content."""

    name: str
    revision: str | None = None


def identity(pipeline: pt.Transformer) -> str:
    """A digest that is another one for a pipeline that may give other rows.

    Transformers are told by their class and arguments: functions by their code, models and scorers as ``Cached`` tells
    them, folders of weights by their content. An argument that does not say what it is counts as its ``repr``. What it
    cannot see is a change within a class or within a function that another one calls.
    """
    return blake2b(MAIN.sub("", _told(pipeline)).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def lasting(part: object) -> str:
    """The ``repr`` without what changes from process to process."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(part))


def _told(part: Any) -> str:  # noqa: ANN401 - anything that an argument may be
    """A transformer by its parts, anything else by its fingerprint, or by what else can be said of it."""
    if isinstance(part, pt.Compose):
        return " >> ".join(map(_told, part))
    if isinstance(part, pt.Transformer):
        kind = type(part)
        arguments = [
            f"{one.name}={_told(one.value)}"
            for one in pt.inspect.transformer_attributes(part, strict=False)
            if one.value is not MISSING and one.value is not one.init_default_value and one.name not in ELSEWHERE
        ]
        return f"{kind.__module__}.{kind.__qualname__}({', '.join(arguments)})"
    if isinstance(part, list | tuple):
        return f"[{', '.join(map(_told, part))}]"
    if isinstance(part, str | Path) and Path(part, "config.json").is_file():
        return fingerprint(Weights(str(part)))
    try:
        return fingerprint(part)
    except ConfigurationError:
        return _code(part) if isinstance(part, FunctionType) else lasting(part)


def _code(function: FunctionType) -> str:
    """A function by its code, and by what can be said of what it holds."""
    code, held_there = function.__code__, [cell.cell_contents for cell in function.__closure__ or ()]
    constants = [one for one in code.co_consts if isinstance(one, PLAIN)]
    told = [_told(one) for one in held_there if one is not function]
    return f"{function.__module__}.{function.__qualname__}:{code.co_code.hex()} {code.co_names} {constants} {told}"
