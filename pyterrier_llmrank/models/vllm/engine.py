"""Engines of vLLM: started on first use, shared by all who ask for the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from pyterrier_llmrank.errors import MissingExtra, ModelError, ServerError
from pyterrier_llmrank.models.hf.adapters import Adapter
from pyterrier_llmrank.models.hf.hub import failure
from pyterrier_llmrank.models.hf.loading import Checkpoint, _check_head, _resolved

from .adapters import check_fit

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

CPU_BLOCK = 32  # tokens; vLLM would take 128 on a CPU, and a shared prefix is computed once in whole blocks only


class Engine:
    """A ``vllm.LLM`` that starts on first use, and the adapters that it holds; one call at a time.

    Args:
        arguments: Of ``vllm.LLM``.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self.arguments = arguments
        self._llm: Any = None
        self._lock = RLock()
        self._adapters: dict[str, Any] = {}

    @property
    def llm(self) -> Any:  # noqa: ANN401 - vLLM is imported lazily
        """What runs.

        Raises:
            ModelError: It cannot.
        """
        with self._lock:
            if self._llm is None:
                with explained(self.arguments["model"]):
                    self._llm = _vllm().LLM(**self.arguments)
            return self._llm

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """That of the checkpoint, as vLLM has it."""
        tokenizer: PreTrainedTokenizerBase = self.llm.get_tokenizer()
        return tokenizer

    @property
    def context(self) -> int:
        """Tokens of one input, answer included."""
        return int(self.llm.model_config.max_model_len)

    def close(self) -> None:
        """Stops what runs; every engine that has no process of its own, as those go by the same global state."""
        from vllm.v1.engine.core_client import InprocClient

        with self._lock:
            core = self._llm.llm_engine.engine_core if self._llm else None
            self._llm = None
        if core is not None:
            core.shutdown()
        if isinstance(core, InprocClient):
            for other in _shared.values():
                if other._llm and isinstance(other._llm.llm_engine.engine_core, InprocClient):
                    other.close()

    def add(self, adapter: Adapter) -> Any:  # noqa: ANN401 - vLLM is imported lazily
        """The ``LoRARequest`` that names an adapter, which is loaded unless it is there.

        Raises:
            ModelError: It cannot be.
        """
        from vllm.lora.request import LoRARequest

        name = str(adapter.folder)
        with self._lock:
            if name not in self._adapters:
                request = LoRARequest(name, len(self._adapters) + 1, name)
                with explained(name):
                    self.llm.llm_engine.add_lora(request)
                self._adapters[name] = request
            return self._adapters[name]

    def run(self, sequences: Sequence[list[int]], params: Sequence[dict[str, Any]], adapter: Any) -> list[Any]:  # noqa: ANN401
        """What vLLM answers to each sequence of token ids, all asked for in one call.

        Those that begin alike are handed over next to each other, so that what they share is still in the cache.

        Args:
            sequences: What the network reads.
            params: Arguments of ``vllm.SamplingParams`` for each; greedy unless told.
            adapter: From ``add``; None for the base alone.

        Raises:
            ServerError: A process of vLLM died; the next call starts it anew.
        """
        from vllm import SamplingParams
        from vllm.v1.engine.exceptions import EngineDeadError

        if not sequences:
            return []
        order = sorted(range(len(sequences)), key=sequences.__getitem__)
        prompts = [{"prompt_token_ids": sequences[item]} for item in order]
        sampling = [SamplingParams(**{"temperature": 0.0, **params[item]}) for item in order]
        with self._lock:
            try:
                outputs = self.llm.generate(prompts, sampling, lora_request=adapter, use_tqdm=False)
            except BaseException as error:
                self.close()  # else the next call would be answered with what is left of this one
                if isinstance(error, EngineDeadError):
                    raise ServerError(f"vLLM died while it ran {self.arguments['model']}: {error}") from error
                raise
        answers = dict(zip(order, outputs, strict=True))
        return [answers[item] for item in range(len(sequences))]


class Loaded(NamedTuple):
    """An engine, and the adapter that it is asked with (None for the base alone)."""

    engine: Engine
    adapter: Any

    def run(self, sequences: Sequence[list[int]], params: Sequence[dict[str, Any]]) -> list[Any]:
        """What vLLM answers to each sequence; see ``Engine.run``."""
        return self.engine.run(sequences, params, self.adapter)


_shared: dict[str, Engine] = {}  # kept, as what vLLM starts is never freed by itself


def load(checkpoint: Checkpoint, max_length: int | None, options: Mapping[str, Any]) -> Loaded:
    """The engine that runs a checkpoint; one that runs already is shared.

    Args:
        checkpoint: Which weights, in what precision, with which adapter.
        max_length: Tokens of one input; None for all that the model and the memory allow.
        options: Further arguments of ``vllm.LLM``.

    Raises:
        MissingExtra: vLLM is not installed.
        ModelNotFound: No usable weights under this name.
        ModelError: vLLM cannot run them, or the adapter does not fit.
    """
    _vllm()
    base, adapter = _resolved(checkpoint)
    with explained(base.name):
        config = _config(base)
        arguments = {**_arguments(base, adapter, max_length), **options}
        if adapter is not None:
            check_fit(adapter, base, config)
    engine = _shared.setdefault(repr(sorted(arguments.items())), Engine(arguments))
    return Loaded(engine, engine.add(adapter) if adapter else None)


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turns what vLLM and transformers raise into an error that names the model.

    Raises:
        ModelError: Something was raised.
    """
    from pydantic import ValidationError

    try:
        yield
    except ModelError:
        raise
    except ValidationError as error:
        raise failure(name, ValueError(error.errors()[0]["msg"].removeprefix("Value error, "))) from error
    except (OSError, ValueError, TypeError, RuntimeError, NotImplementedError) as error:
        raise failure(name, error) from error


def _config(base: Checkpoint) -> PretrainedConfig:
    """The configuration of weights that vLLM can run.

    Raises:
        ModelError: They are of another kind.
    """
    import transformers

    source = {"revision": base.revision, "trust_remote_code": base.trust_remote_code}
    config: PretrainedConfig = transformers.AutoConfig.from_pretrained(base.name, **source)
    if config.is_encoder_decoder:
        raise ModelError(f"{base.name} is an encoder-decoder, which VLLMModel does not run; use HFModel")
    _check_head("language", base, config)
    return config


def _arguments(base: Checkpoint, adapter: Adapter | None, max_length: int | None) -> dict[str, Any]:
    """What ``vllm.LLM`` is given."""
    from vllm.platforms import current_platform

    cpu = current_platform.is_cpu()
    arguments: dict[str, Any] = {
        "model": base.name,
        "revision": base.revision,
        "trust_remote_code": base.trust_remote_code,
        "runner": "generate",
        "tokenizer_mode": "hf",
        "dtype": base.dtype or ("float32" if cpu else "auto"),
        "max_model_len": max_length or -1,  # -1: as much as fits in memory
        "enable_prefix_caching": True,
    }
    if cpu:  # where vLLM fails when it draws by a seed after a prompt that it read in chunks
        arguments |= {"block_size": CPU_BLOCK, "enable_chunked_prefill": False}
    if adapter is not None:
        arguments |= {"enable_lora": True, "max_lora_rank": _room(adapter)}
        if adapter.has_tokenizer:
            arguments["tokenizer"] = str(adapter.folder)
    return arguments


def _room(adapter: Adapter) -> int:
    """The least rank that vLLM makes room for and that holds the adapter's."""
    from vllm.config.lora import MaxLoRARanks

    config = json.loads((adapter.folder / "adapter_config.json").read_text(encoding="utf-8"))
    rank: int = max([config.get("r") or 1, *(config.get("rank_pattern") or {}).values()])
    return min((room for room in get_args(MaxLoRARanks) if room >= rank), default=rank)


def _vllm() -> Any:  # noqa: ANN401 - vLLM is imported lazily
    try:
        import vllm
    except ImportError as error:
        raise MissingExtra("VLLMModel", "vllm", "vllm") from error
    return vllm
