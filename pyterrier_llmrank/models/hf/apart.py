"""Adapters that stay apart from the weights that they go on: many share one base in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

from .adapters import Adapter, applied

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Host:
    """A network and the adapters on it, of which it wears one at a time.

    Attributes:
        network: The base; adapters are parts of its modules.
        gone: Adapters that nobody uses any more, taken off when the next one is put on. Collected here because a
            garbage collector may run at any moment, also in the middle of a forward pass.
    """

    def __init__(self, network: PreTrainedModel) -> None:
        self.network = network
        self.gone: list[str] = []
        self._names = (f"adapter_{place}" for place in count())
        self._lock = threading.RLock()
        self._whole: Any = None  # peft's view of the network
        self._worn: str | None = None

    def add(self, adapter: Adapter) -> str:
        """Puts an adapter beside the others; the name that it goes by here.

        Raises:
            ModelError: It does not fit.
        """
        with self._lock:
            name = next(self._names)
            self._worn = None  # peft may switch, also where it fails
            self._whole = applied(self.network, adapter, name, beside=self._whole)
            self.network.requires_grad_(False)
            self.network.train(False)
            return name

    @contextmanager
    def wearing(self, name: str) -> Iterator[None]:
        """Keeps other threads off the network, which computes with this adapter meanwhile."""
        with self._lock:
            if self._worn != name:
                self._whole.set_adapter(name)
                while self.gone:
                    self._whole.delete_adapter(self.gone.pop())
                self.network.requires_grad_(False)
                self._worn = name
            yield
