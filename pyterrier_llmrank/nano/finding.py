"""Where the weights of ``llmrank-nano`` are."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

from pyterrier_llmrank.errors import ModelNotFound

NAME = "llmrank-nano"
WEIGHTS = "model.safetensors"


@cache
def weights() -> Path:
    """The folder of the weights, with tokenizer and model card; ``HFModel("llmrank-nano")`` reads it.

    Raises:
        ModelNotFound: The package was installed without them.
    """
    folder = Path(str(files(__package__))) / "weights"
    if not (folder / WEIGHTS).is_file():
        raise ModelNotFound(
            f"{NAME} is not in {folder}: this installation left the package's data out; install pyterrier-llmrank from "
            "its wheel or a clone, unzipped"
        )
    return folder


def located(name: str) -> str:
    """The folder of ``llmrank-nano`` for that name, any other name as it is.

    Raises:
        ModelNotFound: It is that name, and the package was installed without the weights.
    """
    return str(weights()) if name == NAME else name
