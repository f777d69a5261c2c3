"""Whether a LoRA adapter fits its base, which vLLM does not ask: of a matrix that is too large it takes a part."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from pyterrier_llmrank.errors import ModelError
from pyterrier_llmrank.models.hf.adapters import Adapter
from pyterrier_llmrank.models.hf.loading import Checkpoint

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def check_fit(adapter: Adapter, base: Checkpoint, config: PretrainedConfig) -> None:
    """Compares the shapes of an adapter's weights with those that it would have on a base; nothing is loaded for it.

    Args:
        adapter: Its files.
        base: What it goes on.
        config: Of the base.

    Raises:
        ModelError: It does not fit.
    """
    import peft
    import torch
    import transformers

    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what peft says of an adapter without weights
        network = transformers.AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, trust_remote_code=base.trust_remote_code
        )
        whole = peft.get_peft_model(network, peft.PeftConfig.from_pretrained(str(adapter.folder)))
        wanted = peft.get_peft_model_state_dict(whole, save_embedding_layers=False)
    shapes = [{(name, tuple(weight.shape)) for name, weight in own.items()} for own in (wanted, adapter.weights())]
    if strays := sorted(shapes[0] ^ shapes[1]):
        raise ModelError(
            f"the adapter {adapter.folder} (of {adapter.base}) does not fit {base.name}: {len(strays)} weights match "
            f"nothing, such as {strays[0][0]} {strays[0][1]}; VLLMModel takes adapters of language models"
        )
