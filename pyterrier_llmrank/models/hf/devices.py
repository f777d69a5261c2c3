"""Where networks run, and in what precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyterrier_llmrank.errors import ConfigurationError

if TYPE_CHECKING:
    import torch


def pick_device(device: str | None) -> str:
    """The device asked for, or the best there is.

    Raises:
        ConfigurationError: There is no such device.
    """
    import torch

    if device is not None:
        _check(device)
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _check(device: str) -> None:
    """Refuses a device that this machine does not have, before weights are read."""
    import torch

    try:
        found = torch.device(device)
    except RuntimeError:
        raise ConfigurationError(f"there is no device {device!r}; use 'cuda', 'cuda:1', 'mps' or 'cpu'") from None
    if found.type == "cuda" and (found.index or 0) >= (count := torch.cuda.device_count()):
        raise ConfigurationError(f"there is no device {device!r} here: torch sees {count} CUDA devices")


def pick_dtype(dtype: str | None, device: str) -> torch.dtype:
    """The precision asked for; by default half precision where the device computes in it, else float32.

    Raises:
        ConfigurationError: Not a float type, or float16 on a CPU (several times slower than float32 there).
    """
    import torch

    if dtype is None:
        if device.startswith("cuda"):
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
        return torch.float16 if device.startswith("mps") else torch.float32
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in known:
        raise ConfigurationError(f"dtype must be one of {', '.join(known)}, got {dtype!r}")
    if dtype == "float16" and device.startswith("cpu"):
        raise ConfigurationError("float16 is several times slower than float32 on a CPU; use 'float32' or 'bfloat16'")
    return known[dtype]
