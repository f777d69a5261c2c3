"""What a killed training needs to go on: one file, which is there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pyterrier_llmrank.errors import ConfigurationError

NAME = "checkpoint.pt"

Weights = dict[str, Tensor]


class Checkpoint(NamedTuple):
    """The state of a training after some step.

    Attributes:
        call: What was trained, how and on what, as a text; another call does not go on with it.
        step: Steps that are done.
        weights: What is trained.
        optimizer: Its state.
        random: The states of every worker's random generators.
        history: A row of numbers for each step.
        best: The best measurement, its step and the weights that it was of; None where nothing is measured.
        waited: Measurements since then.
    """

    call: str
    step: int
    weights: Weights
    optimizer: dict[str, Any]
    random: list[list[Tensor]]
    history: list[dict[str, float]]
    best: tuple[float, int, Weights] | None
    waited: int


def trained(network: nn.Module) -> Weights:
    """The weights that training changes, as they stand, and buffers; not copied."""
    frozen = {name for name, value in network.named_parameters(remove_duplicate=False) if not value.requires_grad}
    return {name: value for name, value in network.state_dict().items() if name not in frozen}


def kept(network: nn.Module) -> Weights:
    """A copy of these on the CPU."""
    return {name: value.detach().to("cpu", copy=True) for name, value in trained(network).items()}


def put(weights: Weights, network: nn.Module) -> None:
    """Gives a network these weights."""
    network.load_state_dict(weights, strict=False)


def random_states(device: torch.device) -> list[Tensor]:
    """Of the CPU's generator, and of the device's if it has one."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def set_random_states(states: list[Tensor], device: torch.device) -> None:
    """Puts generators back to what they were."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """Replaces the folder's checkpoint."""
    half = folder / f"{NAME}.{os.getpid()}.part"
    with half.open("wb") as file:
        torch.save(checkpoint._asdict(), file)
        file.flush()
        os.fsync(file.fileno())
    half.replace(folder / NAME)


def read(folder: Path, call: str) -> Checkpoint | None:
    """The folder's checkpoint; None where there is none.

    Raises:
        ConfigurationError: It is of another training.
    """
    path = folder / NAME
    if not path.exists():
        return None
    found = Checkpoint(**torch.load(path, map_location="cpu", weights_only=True))
    if found.call != call:
        raise ConfigurationError(
            f"{path} is of another training than this one:\n  there: {found.call}\n  here:  {call}\n"
            "train in another folder, or delete the file to start anew"
        )
    return found
