"""The local engine: Hugging Face transformers on this machine's CPU or GPU.

Where things are:

* *from a name to a network*: ``hub``, ``loading``, ``pretrained``, ``own``, ``heads`` (which head it needs),
  ``devices``, ``placing`` (several devices, fewer bits), ``adapters`` and ``apart`` (LoRA), ``loaded``, ``weightless``;
* *what users of weights share*: ``local``, ``replicas``, ``batching``, and for texts ``text`` and ``places``;
* *reading*: ``reading`` (padded batches), ``sharing`` (which way), ``packing``, ``prefixes``, ``layout``, ``trimming``,
  ``promises``, ``attention``, ``varlen`` and ``exactness`` (packed rows), ``encoders`` and ``unpadding``, ``states``;
* *writing*: ``writing``, ``stopping``, ``sampling``, ``growing`` (a cache and rows that grow), ``constraints`` and
  ``holding`` (permutations), ``emitting`` (vectors);
* *attention as a score*: ``attending``, ``asked``, ``rows``, ``wholly``;
* *fusion in the decoder*: ``fused``, ``fusing``, ``crossing``.
"""

from __future__ import annotations

from .fused import FusedModel
from .model import HFModel

__all__ = ["FusedModel", "HFModel"]
