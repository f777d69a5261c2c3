"""``DecoderLearner``: trains a language model to rerank, on the prompts that it is asked with at inference."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.models import HFModel
from pyterrier_llmrank.models.hf.fresh import Live
from pyterrier_llmrank.models.hf.prefixes import common_prefix
from pyterrier_llmrank.models.hf.text import Rendered, TextSide
from pyterrier_llmrank.prompts.base import ChoiceTemplate
from pyterrier_llmrank.prompts.listwise import BETWEEN
from pyterrier_llmrank.scorers import Prompted
from pyterrier_llmrank.training.data import TrainingList
from pyterrier_llmrank.training.learner import Micro
from pyterrier_llmrank.training.losses import IGNORED, first_joint, importance_weighted, language_modelling

from .lessons import Lesson, written
from .lora import Lora
from .scoring import by_length
from .showing import Shown, mask_of, prompts, show, targets_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BEFORE = 4  # positions before an answer that are read too: labels may merge with the end of the prompt


class DecoderLearner(Micro):
    """A decoder that learns to answer ranking prompts.

    ``DecoderLearner("Qwen/Qwen3-0.6B", Lesson(YesNo(), binary_cross_entropy))`` is supervised learning of yes and no;
    ``Lesson(YesNo())`` on the order of a pairwise teacher is Instruction Distillation, on any order permutation
    distillation; ``Lesson(ListPrompt("letters"), learns="both")`` is FIRST; ``Lesson(ListPrompt())`` teaches to
    write an order out, with ``early=True`` weighted as full ranking does. Of several lessons each list is asked all,
    and their losses add up by weight.

    Args:
        name: The checkpoint to start from: a folder, or a name on the hub.
        lessons: One or several.
        lora: Low-rank adapters that are trained; all weights by default.
        tokens: Whose vectors are trained: ids, without weight decay, or "all" or "none". A head that is tied to them
            learns as they do.
        chat: Whether the tokenizer's chat template is used; by default where there is one.
        micro: Lists that are read at once; all by default.
        batch_tokens: Tokens of one forward pass at most, padding included. Prompts are sorted by length.
        seed: Of the adapters' first weights.

    Raises:
        ConfigurationError: No lesson, a token that there is not, or an encoder-decoder.
        MissingExtra: ``lora`` without peft.

    Reference:
        Zhang et al., 2025 (Qwen3-Reranker), for yes and no; Sun et al., 2023 (permutation distillation; Instruction
        Distillation); Reddy et al., 2024 (FIRST); Liu et al., 2025 (full ranking).
    """

    def __init__(
        self,
        name: str | Path,
        lessons: Lesson | Sequence[Lesson],
        *,
        lora: Lora | None = None,
        tokens: Collection[int] | Literal["all", "none"] = "all",
        chat: bool | None = None,
        micro: int | None = None,
        batch_tokens: int = 4_096,
        seed: int = 0,
    ) -> None:
        super().__init__(micro)
        if batch_tokens < 1:
            raise ConfigurationError(f"batch_tokens must be at least 1 token, got {batch_tokens}")
        self.lessons = (lessons,) if isinstance(lessons, Lesson) else tuple(lessons)
        if not self.lessons:
            raise ConfigurationError("a DecoderLearner needs at least one Lesson to be asked")
        self.name, self.lora, self.tokens, self.batch_tokens = str(name), lora, tokens, batch_tokens
        self.live = Live.start(HFModel(self.name, chat=chat), seed=seed)
        self.tokenizer, network = self.live.tokenizer, self.live.network
        if network.config.is_encoder_decoder:
            raise ConfigurationError(f"{name} is an encoder-decoder; a DecoderLearner trains decoders alone")
        self.side = TextSide(self.tokenizer, encoder_decoder=False, chat=chat, thinking=False)
        _train_tokens(network, tokens)
        self.network: nn.Module = network if lora is None else lora.on(network, seed)

    @property
    def scorer(self) -> Prompted:
        """Asks the first lesson with the weights as they are."""
        first = self.lessons[0]
        return Prompted(first.prompt, self.live.reader, first.lengths and first.lengths[1])

    def __repr__(self) -> str:
        told = [repr(self.name), *map(repr, self.lessons)]
        told += [f"lora={self.lora!r}"] if self.lora else []
        if self.tokens != "all":
            told.append(f"tokens={self.tokens!r}" if self.tokens == "none" else f"tokens=<{len(self.tokens)} of them>")
        return f"DecoderLearner({', '.join(told)})"

    def loss(self, lists: Sequence[TrainingList]) -> Tensor:
        """The lessons' losses, each a mean over lists, added up by weight."""
        return torch.stack([lesson.weight * self.loss_of(lesson, lists) for lesson in self.lessons]).sum()

    def loss_of(self, lesson: Lesson, lists: Sequence[TrainingList]) -> Tensor:
        """One lesson's loss, a scalar; documents are drawn by torch's random state."""
        shown = show(lesson, lists, self.side)
        if lesson.writes:
            return self._written(lesson, shown)
        scores, silent = self._scored(lesson, shown)
        loss = lesson.loss(scores, *self._beside(shown))
        return loss + lesson.mass * silent if lesson.mass else loss

    def scores(self, lesson: Lesson, shown: Sequence[Shown]) -> Tensor:
        """Scores by labels of the documents shown, (lists, docs), 0 behind a shorter list."""
        return self._scored(lesson, shown)[0]

    def _scored(self, lesson: Lesson, shown: Sequence[Shown]) -> tuple[Tensor, Tensor]:
        """Scores, and the mean of -log of what the labels have of the whole probability."""
        template = cast(ChoiceTemplate, lesson.prompt)
        alone = template.max_docs == 1
        items = [(one.query, texts) for one in shown for texts in ([[t] for t in one.texts] if alone else [one.texts])]
        rendered = [self.side.render(one) for one in prompts(lesson, items, self.live.reader)]
        rows, labels = [], []
        for one, ids, (_, texts) in zip(rendered, self.side.prompts(rendered), items, strict=True):
            told = self.side.labels(one, template.options(len(texts)))
            rows.append(ids[: len(ids) - told.dropped] + told.shared)
            labels.append(told.ids)
        logits = self._logits(rows, 1)[:, 0]
        found = [lesson.read(row[ids]) for row, ids in zip(logits, labels, strict=True)]
        if alone:
            found = list(torch.split(torch.cat(found), [len(one.texts) for one in shown]))
        pairs = zip(logits, labels, strict=True)
        silent = torch.stack([row.logsumexp(0) - row[ids].logsumexp(0) for row, ids in pairs]).mean()
        return pad_sequence(found, batch_first=True), silent

    def save(self, folder: Path) -> None:
        """The weights, or the adapter alone, with the tokenizer: what ``HFModel`` loads."""
        network: Any = self.network if self.lora is None else self.lora.whole(self.network)
        network.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def _written(self, lesson: Lesson, shown: Sequence[Shown]) -> Tensor:
        """The loss of an order that is written out; with FIRST also of the labels where it begins."""
        whole = [written(lesson, one.order) for one in shown]
        asked = prompts(lesson, [(one.query, one.texts) for one in shown], self.live.reader, whole)
        rendered = [self.side.render(one) for one in asked]
        answers = [text.removeprefix(it.answer) for text, it in zip(whole, asked, strict=True)]
        bases = self.side.prompts(rendered)
        rows = self.side.prompts(rendered, [one.glue + text for one, text in zip(rendered, answers, strict=True)])
        end = self.tokenizer.eos_token_id
        rows = rows if end is None else [[*row, end] for row in rows]
        told = [row[common_prefix(base, row) :] for base, row in zip(bases, rows, strict=True)]
        logits = self._logits(rows, max(map(len, told)) + BEFORE)
        width = logits.shape[1]
        wanted = [[IGNORED] * (width - len(answer)) + answer for answer in told]
        labels = torch.tensor(wanted, device=logits.device)
        if lesson.scores:
            ends = [width - len(row) + len(base) for base, row in zip(bases, rows, strict=True)]
            return self._jointly(lesson, rendered, shown, ends, logits, labels)
        if not lesson.early:
            return language_modelling(logits, labels)
        return importance_weighted(logits, labels, self._ranks(told, labels))

    def _jointly(
        self,
        lesson: Lesson,
        rendered: Sequence[Rendered],
        shown: Sequence[Shown],
        ends: Sequence[int],
        logits: Tensor,
        labels: Tensor,
    ) -> Tensor:
        """FIRST's loss; labels are read where inference reads them, by the ends of prompts within ``logits``."""
        template = cast(ChoiceTemplate, lesson.prompt)
        told = [self.side.labels(one, template.options(len(it.texts))) for one, it in zip(rendered, shown, strict=True)]
        places = [end - one.dropped + len(one.shared) - 1 for end, one in zip(ends, told, strict=True)]
        tokens = pad_sequence([torch.tensor(one.ids) for one in told], batch_first=True).to(logits.device)
        positions = torch.tensor(places, device=logits.device)
        return first_joint(logits, labels, tokens, *self._beside(shown), positions=positions)

    def _ranks(self, told: Sequence[Sequence[int]], labels: Tensor) -> Tensor:
        """The rank that each label is about, from 1; 0 for separators and where nothing is to be predicted."""
        ranks = torch.zeros_like(labels)
        for place, answer in enumerate(told):
            between = torch.tensor([BETWEEN.strip() in self.tokenizer.decode([token]) for token in answer])
            found = torch.where(between, 0, 1 + between.cumsum(dim=0))
            ranks[place, labels.shape[1] - len(answer) :] = found.to(labels.device)
        return ranks

    def _logits(self, rows: Sequence[Sequence[int]], keep: int) -> Tensor:
        """Logits of the last positions of each row, (rows, at most ``keep``, vocabulary); 0 before a row begins."""
        lengths = [len(row) for row in rows]
        kept = min(keep, max(lengths))
        return by_length(lengths, self.batch_tokens, lambda batch: self._read([rows[at] for at in batch], kept))

    def _read(self, rows: Sequence[Sequence[int]], kept: int) -> Tensor:
        """Logits of one forward pass, (rows, kept, vocabulary); rows are padded in front."""
        device, longest = next(self.network.parameters()).device, max(map(len, rows))
        filler = self.tokenizer.pad_token_id or 0
        ids = torch.tensor([[filler] * (longest - len(row)) + list(row) for row in rows], device=device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
        places = (mask.cumsum(dim=1) - 1).clamp(min=0)
        own = min(kept, longest)
        found: Tensor = self.network(
            input_ids=ids, attention_mask=mask, position_ids=places, use_cache=False, logits_to_keep=own
        ).logits
        return pad(found, (0, 0, kept - own, 0))

    def _beside(self, shown: Sequence[Shown]) -> tuple[Tensor, Tensor]:
        """Targets and mask, where the network is."""
        device = next(self.network.parameters()).device
        return targets_of(shown).to(device), mask_of(shown).to(device)


def _train_tokens(network: PreTrainedModel, tokens: Collection[int] | Literal["all", "none"]) -> None:
    """Lets the vectors of some tokens alone be trained.

    Raises:
        ConfigurationError: There is no such token.
    """
    weight: Tensor = network.get_input_embeddings().weight  # type: ignore[assignment]
    if isinstance(tokens, str):
        weight.requires_grad_(tokens == "all")
        return
    if outside := [token for token in tokens if not 0 <= token < len(weight)]:
        raise ConfigurationError(f"tokens are 0 to {len(weight) - 1} here, got {outside[0]}")
    kept = torch.zeros(len(weight), 1)
    kept[list(tokens)] = 1.0
    weight.undecayed = True  # type: ignore[attr-defined]  # decay would move the others, too
    weight.register_hook(lambda gradient: gradient * kept.to(gradient.device))  # type: ignore[no-untyped-call]
