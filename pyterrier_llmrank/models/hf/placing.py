"""Where weights are put, and in how many bits: what ``from_pretrained`` is told of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pyterrier_llmrank.errors import ConfigurationError, MissingExtra

if TYPE_CHECKING:
    import torch

DeviceMap: TypeAlias = "str | Mapping[str, int | str]"
Quantization: TypeAlias = "Literal['8bit', '4bit'] | Mapping[str, Any]"

BITS = ("8bit", "4bit")


def settled(device: object, device_map: object, quantization: object) -> tuple[Any, Any, Any]:
    """The three arguments of ``Local`` as they are kept: a tuple of devices, plain mappings.

    Raises:
        ConfigurationError: They are of no use, alone or together.
    """
    if device_map is not None and device is not None:
        raise ConfigurationError(f"device_map says where weights go, so device={device!r} has no use; give one of them")
    return _devices(device), _map(device_map), _quantized(quantization)


def _devices(asked: object) -> object:
    """One device, or several whose scores do not depend on where they were computed."""
    if asked is None or (isinstance(asked, str) and asked):
        return asked
    if not isinstance(asked, tuple | list) or not asked or not all(isinstance(one, str) and one for one in asked):
        raise ConfigurationError(f"device must be a name such as 'cuda', or a tuple of such names, got {asked!r}")
    if len({one.split(":")[0] for one in asked}) > 1:
        raise ConfigurationError(f"replicas on devices of different kinds would score differently, got {asked!r}")
    return asked[0] if len(asked) == 1 else tuple(asked)


def _map(asked: object) -> object:
    if isinstance(asked, Mapping) and asked:
        return dict(asked)
    if asked is None or (isinstance(asked, str) and asked):
        return asked
    raise ConfigurationError(f"device_map must be a name such as 'auto', or say a device by module, got {asked!r}")


def _quantized(asked: object) -> object:
    told = asked.to_dict() if hasattr(asked, "to_dict") else asked
    if isinstance(told, Mapping) and "quant_method" in told:
        return from_key(as_key(told) or "")  # of a configuration's own types, what they say
    if asked is None or asked in BITS:
        return asked
    raise ConfigurationError(
        "quantization must be '8bit', '4bit', or a configuration of transformers with a quant_method such as "
        f"'bitsandbytes' or 'torchao', got {asked!r}"
    )


def as_key(value: object) -> str | None:
    """A name or a mapping as a text that can be compared; ``from_key`` gives it back."""
    if value is None:
        return None
    try:
        return json.dumps(value, sort_keys=True)
    except TypeError as error:
        raise ConfigurationError(f"{value!r} must be made of texts, numbers, lists and mappings: {error}") from None


def from_key(key: str) -> Any:  # noqa: ANN401 - a name or a mapping
    """What ``as_key`` was given."""
    return json.loads(key)


def manner(device: str, device_map: str | None, quantization: str | None, dtype: torch.dtype) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` that put weights where they are to be; none where they are moved afterwards.

    Args:
        device: Where the whole network goes, unless there is a map.
        device_map: A map, as a key.
        quantization: How weights are quantized, as a key.
        dtype: What is computed in.

    Raises:
        MissingExtra: The library that does it is not installed.
    """
    if device_map is None and quantization is None:
        return {}
    if not find_spec("accelerate"):
        raise MissingExtra("a device_map or quantization", "accelerate", "large")
    told: dict[str, Any] = {"device_map": {"": device} if device_map is None else from_key(device_map)}
    if quantization is not None:
        told["quantization_config"] = _bits(from_key(quantization), dtype)
    return told


def _bits(asked: Any, dtype: torch.dtype) -> dict[str, Any]:  # noqa: ANN401 - a name or a mapping
    """A configuration for transformers."""
    if asked == "8bit":
        asked = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    elif asked == "4bit":
        compute = str(dtype).removeprefix("torch.")
        asked = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
        asked["bnb_4bit_compute_dtype"] = compute
    if asked["quant_method"] == "bitsandbytes" and not find_spec("bitsandbytes"):
        raise MissingExtra("quantization in 8 or 4 bits", "bitsandbytes", "large")
    return dict(asked)
