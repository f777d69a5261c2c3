"""What would change an answer, as a text that is the same in every process and on every machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import lru_cache, partial
from hashlib import blake2b
from pathlib import Path, PurePath
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np

from pyterrier_llmrank.errors import ConfigurationError

WHERE = {  # a field of what runs models: fields that say where, how fast and how patiently, not what is answered
    "batch_tokens": frozenset({"device", "device_map", "batch_tokens"}),
    "base_url": frozenset({"key_env", "concurrency", "timeout", "deadline", "retries", "max_failures", "budget"}),
}
WEIGHTS = {".safetensors", ".bin", ".json", ".txt", ".model", ".jinja", ".py"}  # files that decide what a model says
PACKAGE = __name__.split(".")[0]
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def fingerprint(part: Any) -> str:  # noqa: ANN401 - anything a scorer is made of
    """Tells apart parts whose answers may differ; the same for those that only run elsewhere.

    A dataclass is told by its class and the fields it is compared by, save those that say where and how fast a model
    runs (``device``, ``device_map``, ``batch_tokens``; ``concurrency``, ``retries`` … of a server, not its URL).
    Weights in a folder are told by their content, not by their path; read once in a process, at about 1 GB a second.
    Functions are told by their code. A class may say by a method ``identity()`` what stands for it, such as a tuple of
    its name and the arguments that matter.

    Two things it cannot see: that a name on the hub leads to newer weights (give a ``revision``), and that the code of
    a class was changed.

    Raises:
        ConfigurationError: A part does not tell what it is.
    """
    if part is None or (isinstance(part, str | bytes | int | float) and not isinstance(part, Enum)):
        return ascii(part)
    if isinstance(part, Enum | type):
        return _named(part) if isinstance(part, type) else f"{_named(type(part))}.{part.name}"
    if isinstance(part, FunctionType | MethodType | partial):
        return _function(part)
    if callable(own := getattr(part, "identity", None)):
        return fingerprint(own())
    if is_dataclass(part):
        return f"{_named(type(part))}({', '.join(_fields(part))})"
    if isinstance(part, Mapping):
        return f"{{{', '.join(sorted(f'{fingerprint(key)}: {fingerprint(value)}' for key, value in part.items()))}}}"
    if isinstance(part, tuple | list | set | frozenset):
        told = [fingerprint(one) for one in part]
        return f"{_kind(part)}({', '.join(told if isinstance(part, tuple | list) else sorted(told))})"
    if isinstance(part, np.ndarray):
        return f"array({part.dtype}, {part.shape}, {blake2b(part.tobytes(), digest_size=16).hexdigest()})"
    if isinstance(part, PurePath):
        return ascii(str(part))
    return _by_repr(part)


def _named(kind: type) -> str:
    """A class by its name; by its module too, where it is not one of this package, whose files may be rearranged."""
    module = "" if kind.__module__.split(".")[0] == PACKAGE else f"{kind.__module__}."
    return module + kind.__qualname__


def _kind(part: object) -> str:
    """A list is as good as a tuple; a named tuple is what it is called."""
    if isinstance(part, tuple) and type(part) is not tuple:
        return _named(type(part))
    return "set" if isinstance(part, set | frozenset) else ""


def _fields(part: Any) -> list[str]:  # noqa: ANN401 - any dataclass
    """What a dataclass is compared by."""
    compared = [field.name for field in fields(part) if field.compare]
    left_out = frozenset[str]().union(*(WHERE[name] for name in WHERE if name in compared))
    told = []
    for name in compared:
        value = getattr(part, name)
        weights = name == "tokenizer" or (name in ("name", "adapter") and "revision" in compared)
        if weights and isinstance(value, str) and Path(value).is_dir():
            told.append(f"{name}={_folder(Path(value))}")
        elif name not in left_out:
            told.append(f"{name}={fingerprint(value)}")
    return told


def _function(function: Any) -> str:  # noqa: ANN401 - a function, method or partial
    """A function by its name, and by its code where that may change under the name."""
    if isinstance(function, partial):
        return f"partial({fingerprint(function.func)}, {fingerprint(function.args)}, {fingerprint(function.keywords)})"
    if isinstance(function, MethodType):
        return f"{fingerprint(function.__self__)}.{function.__name__}"
    name = f"{function.__module__}.{function.__qualname__}"
    if name.startswith(f"{PACKAGE}.") and "<" not in name:
        return name
    bound = [cell.cell_contents for cell in function.__closure__ or () if cell.cell_contents is not function]
    code = (
        f"{_code(function.__code__)}{fingerprint(bound)}{fingerprint([function.__defaults__, function.__kwdefaults__])}"
    )
    return f"{name}:{blake2b(code.encode(), digest_size=16).hexdigest()}"


def _code(code: CodeType) -> str:
    """Instructions, constants and names of a function, and of those within it."""
    constants = [_code(one) if isinstance(one, CodeType) else fingerprint(one) for one in code.co_consts]
    return f"{code.co_code.hex()} {constants} {code.co_names}"


@lru_cache(maxsize=4096)
def _digest(path: Path, size: int, modified: int) -> str:
    """A digest of a file's content; its size and time only say when to read it again."""
    digest = blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _folder(folder: Path) -> str:
    """What is in a folder of weights, wherever it is."""
    files = sorted(path for path in folder.iterdir() if path.suffix in WEIGHTS and path.is_file())
    stats = [(path, path.stat()) for path in files]
    return f"folder({', '.join(f'{p.name}={_digest(p, s.st_size, s.st_mtime_ns)}' for p, s in stats)})"


def _by_repr(part: object) -> str:
    """Something of another kind, if its repr says what it is."""
    told = repr(part)
    if ADDRESS.search(told):
        raise ConfigurationError(
            f"{told} does not tell what its answers depend on, so they cannot be kept for later; make it a frozen "
            "dataclass, or give it a method identity() that returns what they depend on"
        )
    return f"{_named(type(part))}:{told}"
