"""Whether a name leads to a model: in a folder, in the cache, or on the hub; asked before anything is loaded."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from pickle import UnpicklingError

from pyterrier_llmrank.errors import ModelError, ModelNotFound

REMEDY = (
    "give another name (such as 'Qwen/Qwen3-0.6B'), the path of a folder with config.json and *.safetensors, "
    "or set HF_HOME to a cache that holds it"
)
TIMEOUT = 5.0  # seconds to wait for the hub
CONFIGS = ("config.json", "adapter_config.json")  # one of them is in every repository of a model


class Where(Enum):
    """What is known of a name."""

    HERE = "on this machine"
    HUB = "on the hub"
    NOWHERE = "unknown to the hub"
    UNREACHABLE = "not in the cache, and the hub cannot be reached"


def is_path(name: str) -> bool:
    """Whether a name can only be a folder: hub names are ``name`` or ``owner/name``."""
    return name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1 or Path(name).is_dir()


def where(name: str, revision: str | None) -> Where:
    """Looks for a model by name; asks the hub once, without retries, where it is neither a folder nor in the cache."""
    from huggingface_hub import HfApi, constants, try_to_load_from_cache
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if Path(name).is_dir():
        return Where.HERE
    if is_path(name):
        return Where.NOWHERE
    try:
        if any(isinstance(try_to_load_from_cache(name, file, revision=revision), str) for file in CONFIGS):
            return Where.HERE
        if constants.HF_HUB_OFFLINE:
            return Where.UNREACHABLE
        HfApi().model_info(name, revision=revision, timeout=TIMEOUT)
    except GatedRepoError:
        return Where.HUB
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError):
        return Where.NOWHERE
    except (HfHubHTTPError, OSError):
        return Where.UNREACHABLE
    except Exception as error:
        if type(error).__module__.split(".")[0] in {"httpx", "httpx2", "httpcore", "requests"}:
            return Where.UNREACHABLE
        raise
    return Where.HUB


def explained(name: str, revision: str | None, found: Where) -> str:
    """One sentence on a model that is not to be had, and what to do."""
    at = f" at revision {revision!r}" if revision else ""
    return f"the model {name!r}{at} is {found.value}; {REMEDY}"


def failure(name: str, error: Exception) -> ModelError:
    """What went wrong in loading, in one line, and what to do."""
    folder = Path(name)
    if "trust_remote_code" in str(error):
        return ModelError(f"{name} comes with code of its own; if you trust it, load it with trust_remote_code=True")
    if "gated repo" in str(error):
        return ModelNotFound(f"the model {name!r} is gated: accept its terms on the hub, then log in (`hf auth login`)")
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            return ModelNotFound(f"the folder {name} holds no config.json; {REMEDY}")
        if not [*folder.glob("*.safetensors"), *folder.glob("*.bin")]:
            return ModelNotFound(f"the folder {name} holds no weights: no *.safetensors; {REMEDY}")
        if isinstance(error, UnpicklingError):
            return ModelError(f"the folder {name} holds a pickle with more in it than weights, which is not loaded")
        return ModelError(f"the folder {name} could not be loaded: {_first_line(error)}")
    return ModelNotFound(f"the model {name!r} could not be loaded: {_first_line(error)}; {REMEDY}")


def _first_line(error: Exception) -> str:
    """The telling part of a long message."""
    return str(error).strip().split("\n")[0].rstrip(".")
