"""``Cached``: no question is asked twice, by whatever process, run or strategy."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Any

from pyterrier_llmrank._version import __version__
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.models.hearing import tells

from .fingerprint import fingerprint
from .keeping import Writing, timed
from .keys import Spelling
from .results import Result, complete, packed, unpacked
from .store import FORMAT, Store, store
from .wrapping import Request, Wrapping, bare, carry, finished


@dataclass(frozen=True, repr=False)
class Cached(Wrapping):
    """Keeps every answer of a model or scorer in a file, and answers from there what was asked before.

    Around a model, an answer is kept by the prompt, its labels, text or sampling and seed; another strategy or version
    of this package still finds it. To build prompts, the model's tokenizer is still needed. Around a scorer, an answer
    is kept by the query, its qid, and the docnos, texts and fields in their order; then nothing of the model is loaded
    until something new is asked, so that a run can be repeated where there is no model. What else would change an
    answer is part of the key (see ``fingerprint``): model, revision, dtype, adapter, prompt, sampling, seed; for a
    scorer also the version of this package, which holds the wording of prompts. The device is not: with ``dtype=None``
    answers in the half precision of a GPU serve a CPU too.

    The same question twice in a call is asked once. A kept answer costs nothing: its usage has no calls and no tokens.
    Answers that failed, in whole or in part, are not kept. Neither are sampled ones without seeds.

    Several processes may share the file; one that is killed loses what it was asking, and nothing else: around a model
    behind a server, each answer is kept as it comes, within half a second; around others what was asked in chunks,
    which are sized so that they take about ten seconds. Where a call fails in the middle, all chunks before are kept,
    and of the last one what the exception carries (see ``finished``).

    Args:
        inner: A model or scorer, e.g. ``HFModel(name)`` or ``Prompted(YesNo(), model)``.
        path: A file; made if there is none.
        chunk: Items asked at once; the answers of a chunk are kept before the next is asked. By default all of a call
            around a model behind a server; else 64, and then what takes about ten seconds.

    Raises:
        ConfigurationError: ``inner`` is neither a model nor a scorer, or does not tell what its answers depend on;
            ``chunk`` is below 1.
        StorageError: On first use: the file cannot be read or written, or is no cache of this version.
    """

    path: str | os.PathLike[str]
    chunk: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "path", os.path.expanduser(os.fspath(self.path)))
        if self.chunk is not None and self.chunk < 1:
            raise ConfigurationError(f"chunk must be at least 1 item or None (all of a call), got {self.chunk}")

    def load(self) -> None:
        """Opens the file; the inner one is loaded when there is something new to ask."""
        self._store  # noqa: B018 - opens it
        self._told  # noqa: B018 - refuses what cannot be kept

    @cached_property
    def _file(self) -> str:
        return os.path.abspath(self.path)

    @cached_property
    def _begins(self) -> dict[str, blake2b]:
        return {}

    @cached_property
    def _spelling(self) -> Spelling:
        return Spelling()

    @property
    def _store(self) -> Store[str]:
        return store(self._file)

    @cached_property
    def _told(self) -> str:
        return fingerprint(self.inner)

    def _answers(self, request: Request) -> list[Any]:
        """Known answers from the file, the others from the inner one."""
        if request.shared.get("sampling") is not None and "seeds" not in request.named:
            return request.ask(self.inner)
        keys = self._keys(request)
        known = self._store.get(keys)
        new: dict[bytes, int] = {}
        for place, key in enumerate(keys):
            if key not in known:
                new.setdefault(key, place)
        fresh = self._ask(request, keys, list(new.values())) if new else {}
        return [
            fresh[place] if place in fresh else unpacked(request.primitive, known.get(key) or packed(fresh[new[key]]))
            for place, key in enumerate(keys)
        ]

    def _ask(self, request: Request, keys: Sequence[bytes], places: Sequence[int]) -> dict[int, Result]:
        """What the inner one answers, by place; kept chunk by chunk, and where it fails in between."""
        super().load()
        fresh: dict[int, Result] = {}
        for chunk in self._chunks(len(places)):
            some = places[chunk]
            part = request.part(some)
            try:
                answers = dict(enumerate(self._told_soon(part, keys, some)))
            except Exception as error:
                fresh |= self._keep(part, keys, some, finished(error, part))
                carry(error, request, fresh)
                raise
            fresh |= self._keep(part, keys, some, answers)
        return fresh

    def _chunks(self, n: int) -> Iterable[slice]:
        """How much of ``n`` items is asked at once."""
        if self.chunk is None:
            return [slice(n)] if self._tells else timed(n, self.inner)
        return [slice(start, start + self.chunk) for start in range(0, n, self.chunk)]

    def _told_soon(self, part: Request, keys: Sequence[bytes], places: Sequence[int]) -> list[Result]:
        """What the inner one answers; what it tells of before it is through is kept at once."""
        if not self._tells:
            return part.ask(self.inner)
        with Writing(lambda answers: self._keep(part, keys, places, answers)):
            return part.ask(self.inner)

    @cached_property
    def _tells(self) -> bool:
        return tells(bare(self.inner))

    def _keep(
        self, part: Request, keys: Sequence[bytes], places: Sequence[int], answers: Mapping[int, Result]
    ) -> dict[int, Result]:
        """Writes those answers of a part that are complete; all of them, by their place in the whole."""
        kept = {keys[places[at]]: packed(answer) for at, answer in answers.items() if complete(answer, part.item(at))}
        self._store.put(kept)
        return {places[at]: answer for at, answer in answers.items()}

    def _keys(self, request: Request) -> list[bytes]:
        """A key per item: a digest of all that its answer depends on."""
        shared = {name: value for name, value in request.shared.items() if value is not None}
        begin = self._begins.get(request.primitive) if not shared else None
        if begin is None:
            begin = self._begin(request.primitive, shared)
        keys, spell = [], self._spelling
        for item in request.items():
            digest = begin.copy()
            digest.update(spell(item))
            keys.append(digest.digest())
        return keys

    def _begin(self, primitive: str, shared: Mapping[str, Any]) -> blake2b:
        """What the keys of a call begin with; kept where nothing is asked with all items."""
        told = [str(FORMAT), primitive, self._told, fingerprint(shared)]
        if primitive == "__call__":
            told.append(__version__)  # a scorer's wording is part of it; a model is shown whole prompts
        begin = blake2b("".join(f"{one}\n" for one in told).encode(), digest_size=16)
        if not shared:
            self._begins[primitive] = begin
        return begin
