"""``Decoder``: trains a language model to rerank, on the prompts that it is asked with at inference."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from pyterrier_llmrank.core import Prompt, brief
from pyterrier_llmrank.errors import ConfigurationError, MissingExtra
from pyterrier_llmrank.models.hf.loading import Checkpoint
from pyterrier_llmrank.models.hf.prefixes import common_prefix
from pyterrier_llmrank.models.hf.pretrained import network_of, tokenizer_of
from pyterrier_llmrank.models.hf.text import Rendered, TextSide
from pyterrier_llmrank.prompts import ListPrompt
from pyterrier_llmrank.prompts.base import ChoiceTemplate
from pyterrier_llmrank.prompts.truncation import fit
from pyterrier_llmrank.training.data import TrainingList
from pyterrier_llmrank.training.learner import Micro
from pyterrier_llmrank.training.losses import IGNORED, first_joint, importance_weighted, language_modelling

from .questions import Question, yes_no

BETWEEN = " > "
FEW = 4  # positions before an answer that may be read too, where labels merge with the prompt's end


@dataclass(frozen=True, repr=False)
class Lora:
    """Low-rank adapters in place of whole weights.

    Args:
        rank: Of the update of each matrix.
        alpha: The update is multiplied by ``alpha / rank``.
        dropout: Share of its inputs that are dropped in training.
        modules: Which matrices, by the ends of their names; all linear ones but the head by default.
        merged: Whether the weights are saved with the update in them, a checkpoint like any other; the adapter alone
            otherwise, which needs its base.

    Reference:
        Hu et al., 2022 (LoRA).
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    merged: bool = field(default=True, kw_only=True)

    __repr__ = brief


class Shown(NamedTuple):
    """A list as it is shown once.

    Attributes:
        query: The query.
        texts: Documents, as many as are shown, prepared.
        targets: Theirs.
    """

    query: str
    texts: list[str]
    targets: Tensor


class _Ruler(NamedTuple):
    """Cuts documents as inference does."""

    side: TextSide
    context: int | None = None

    def token_ends(self, texts: Sequence[str]) -> list[list[int]]:
        return self.side.ends(texts)

    def lengths(self, prompts: Sequence[Prompt]) -> list[int]:
        return [len(ids) for ids in self.side.prompts([self.side.render(prompt) for prompt in prompts])]


class Decoder(Micro):
    """A decoder that learns to answer ranking prompts.

    ``Decoder("Qwen/Qwen3-0.6B", Question(YesNo(), binary_cross_entropy))`` is supervised learning of yes and no;
    ``Question(YesNo())`` on a pairwise teacher's order is Instruction Distillation; ``Question(ListPrompt("letters"),
    learns="both")`` is FIRST; ``Question(ListPrompt())`` teaches to write the order out (RankVicuna), with ``early``
    weighted as full ranking does. Several questions are asked of every list, and their losses add up by weight.

    Args:
        name: The checkpoint to start from: a folder, or a name on the hub.
        questions: One or several.
        lora: Trains low-rank adapters (needs peft); all weights by default.
        tokens: Whose vectors are trained: ids, or "all" or "none". Where the head is tied to them it learns as they do.
        chat: Whether the tokenizer's chat template is used; by default where there is one.
        micro: Lists that are read at once.

    Raises:
        ConfigurationError: No question, a token that there is not, or an encoder-decoder.
        MissingExtra: ``lora`` without peft.

    Reference:
        Zhang et al., 2025 (Qwen3-Reranker), for yes and no; Sun et al., 2023 (permutation distillation, Instruction
        Distillation); Reddy et al., 2024 (FIRST); Liu et al., 2025 (full ranking).
    """

    def __init__(
        self,
        name: str | Path,
        questions: Question | Sequence[Question],
        *,
        lora: Lora | None = None,
        tokens: Collection[int] | Literal["all", "none"] = "all",
        chat: bool | None = None,
        micro: int | None = None,
    ) -> None:
        super().__init__(micro)
        self.questions = (questions,) if isinstance(questions, Question) else tuple(questions)
        if not self.questions:
            raise ConfigurationError("a Decoder needs at least one Question to be asked")
        self.name, self.lora, self.tokens = str(name), lora, tokens
        base = Checkpoint(self.name)
        self.tokenizer = tokenizer_of(base, None, local_files_only=False)
        network = network_of("language", base, None, {"dtype": torch.float32}, local_files_only=False)
        if network.config.is_encoder_decoder:
            raise ConfigurationError(f"{name} is an encoder-decoder; a Decoder trains decoders alone")
        self.side = TextSide(self.tokenizer, encoder_decoder=False, chat=chat, thinking=False)
        _train_tokens(network, tokens)
        self.network: nn.Module = network if lora is None else _adapted(network, lora)

    def __repr__(self) -> str:
        told = [repr(self.name), *map(repr, self.questions)] + ([f"lora={self.lora!r}"] if self.lora else [])
        return f"Decoder({', '.join(told)})"

    def loss(self, lists: Sequence[TrainingList]) -> Tensor:
        """The questions' losses, each a mean over lists, added up by weight."""
        losses = [question.weight * self._asked(question, lists) for question in self.questions]
        return torch.stack(losses).sum()

    def scores(self, question: Question, lists: Sequence[TrainingList]) -> list[Tensor]:
        """What the network says now of each list's documents, in the order of the list, all of them shown."""
        whole = Question(question.prompt, learns="labels", max_doc_tokens=question.lengths and question.lengths[1])
        return [
            scores[: len(one.docs)]
            for scores, one in zip(self._scored(whole, self._shown(whole, lists))[0], lists, strict=True)
        ]

    def save(self, folder: Path) -> None:
        """The weights, or the adapter alone, with the tokenizer: what ``HFModel`` loads."""
        network: Any = self.network
        if self.lora is not None and self.lora.merged:
            network = copy.deepcopy(network).merge_and_unload()
        network.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def _asked(self, question: Question, lists: Sequence[TrainingList]) -> Tensor:
        """The loss of one question."""
        shown = self._shown(question, _part(lists, question.share))
        if question.writes:
            return self._written(question, shown)
        scores, targets, mask = self._scored(question, shown)
        return question.loss(scores, targets, mask)

    def _shown(self, question: Question, lists: Sequence[TrainingList]) -> list[Shown]:
        """The documents that are shown of each list: some, in their order or in another; cut."""
        shown = []
        for one in lists:
            places = _drawn(len(one.docs), question)
            texts = [self.side.plain(one.docs[place].text or "") for place in places]
            shown.append(
                Shown(self.side.plain(one.query), texts, torch.tensor([one.targets[place] for place in places]))
            )
        return shown

    def _prompts(self, question: Question, items: Sequence[tuple[str, Sequence[str]]]) -> list[Prompt]:
        """Prompts with documents cut as at inference."""
        cap = None if question.lengths is None else _between(*question.lengths)
        fitted = fit(question.prompt, items, _Ruler(self.side), reserve=[0] * len(items), max_doc_tokens=cap)
        return [one.prompt for one in fitted]

    def _scored(self, question: Question, shown: Sequence[Shown]) -> tuple[Tensor, Tensor, Tensor]:
        """Scores of labels, targets and mask, (lists, docs)."""
        prompt = cast(ChoiceTemplate, question.prompt)
        alone = prompt.max_docs == 1
        items = [(one.query, texts) for one in shown for texts in ([[t] for t in one.texts] if alone else [one.texts])]
        rendered = [self.side.render(one) for one in self._prompts(question, items)]
        rows, tokens = [], []
        for one, ids, (_, texts) in zip(rendered, self.side.prompts(rendered), items, strict=True):
            labels = self.side.labels(one, prompt.options(len(texts)))
            rows.append(ids[: len(ids) - labels.dropped] + labels.shared)
            tokens.append(labels.ids)
        logits = self._logits(rows, 1)[:, 0]
        found = [_read(question, row[ids], len(item[1])) for row, ids, item in zip(logits, tokens, items, strict=True)]
        if alone:
            found = list(torch.cat(found).split([len(one.texts) for one in shown]))
        scores = pad_sequence(found, batch_first=True)
        return scores, _targets(shown).to(scores.device), _mask(shown).to(scores.device)

    def _written(self, question: Question, shown: Sequence[Shown]) -> Tensor:
        """The loss of an order that is written out, and with FIRST of the labels where it begins."""
        prompt = cast(ListPrompt, question.prompt)
        prompts = self._prompts(question, [(one.query, one.texts) for one in shown])
        rendered = [self.side.render(one) for one in prompts]
        orders = [torch.sort(one.targets, descending=True, stable=True).indices.tolist() for one in shown]
        texts = [prompt.written(order) for order in orders]
        tails = [
            shown.glue + text.removeprefix(one.answer)
            for one, shown, text in zip(prompts, rendered, texts, strict=True)
        ]
        bases, rows = self.side.prompts(rendered), self.side.prompts(rendered, tails)
        end = self.tokenizer.eos_token_id
        rows = [row if end is None else [*row, end] for row in rows]
        starts = [common_prefix(base, row) for base, row in zip(bases, rows, strict=True)]
        keep = max(len(row) - start for row, start in zip(rows, starts, strict=True)) + FEW
        logits = self._logits(rows, keep)
        wanted = [
            [IGNORED] * (logits.shape[1] - len(row) + start) + row[start:]
            for row, start in zip(rows, starts, strict=True)
        ]
        labels = torch.tensor(wanted, device=logits.device)
        if question.scores:
            return self._jointly(question, rendered, rows, bases, shown, logits, labels)
        if not question.early:
            return language_modelling(logits, labels)
        return importance_weighted(logits, labels, self._ranks(rows, starts, labels))

    def _logits(self, rows: Sequence[Sequence[int]], keep: int) -> Tensor:
        """Logits of the last ``keep`` positions of each row, (rows, keep, vocabulary)."""
        device, longest = next(self.network.parameters()).device, max(map(len, rows))
        pad = self.tokenizer.pad_token_id or 0
        ids = torch.tensor([[pad] * (longest - len(row)) + list(row) for row in rows], device=device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
        places = (mask.cumsum(dim=1) - 1).clamp(min=0)
        found: Tensor = self.network(
            input_ids=ids, attention_mask=mask, position_ids=places, use_cache=False, logits_to_keep=min(keep, longest)
        ).logits
        return found

    def _ranks(self, rows: Sequence[Sequence[int]], starts: Sequence[int], labels: Tensor) -> Tensor:
        """The rank that each label is about, from 1; 0 where nothing is to be predicted or only a separator."""
        ranks = torch.zeros_like(labels)
        for place, (row, start) in enumerate(zip(rows, starts, strict=True)):
            pieces = [str(self.tokenizer.decode([token])) for token in row[start:]]
            rank, found = 1, []
            for piece in pieces:
                separates = BETWEEN.strip() in piece
                rank += separates
                found.append(0 if separates else rank)
            ranks[place, labels.shape[1] - len(found) :] = torch.tensor(found, device=labels.device)
        return ranks

    def _jointly(
        self,
        question: Question,
        rendered: Sequence[Rendered],
        rows: Sequence[Sequence[int]],
        bases: Sequence[Sequence[int]],
        shown: Sequence[Shown],
        logits: Tensor,
        labels: Tensor,
    ) -> Tensor:
        """FIRST: the labels are read where inference reads them, at the end of the prompt."""
        prompt = cast(ChoiceTemplate, question.prompt)
        told = [self.side.labels(one, prompt.options(len(it.texts))) for one, it in zip(rendered, shown, strict=True)]
        ends = [len(base) - one.dropped + len(one.shared) - 1 for base, one in zip(bases, told, strict=True)]
        places = [logits.shape[1] - len(row) + end for row, end in zip(rows, ends, strict=True)]
        tokens = pad_sequence([torch.tensor(one.ids) for one in told], batch_first=True).to(logits.device)
        targets, mask = (one.to(logits.device) for one in (_targets(shown), _mask(shown)))
        positions = torch.tensor(places, device=logits.device)
        return first_joint(logits, labels, tokens, targets, mask, positions=positions)


def _drawn(docs: int, question: Question) -> list[int]:
    """Places of the documents that are shown: drawn, and shuffled or not, by torch's random state."""
    places = torch.randperm(docs) if question.docs or question.shuffled else torch.arange(docs)
    if question.docs is not None:
        places = places[: _between(*question.docs)]
    if question.shuffled == 0 or (question.shuffled < 1 and torch.rand(()) >= question.shuffled):
        places = places.sort().values
    found: list[int] = places.tolist()
    return found


def _part(lists: Sequence[TrainingList], share: float) -> Sequence[TrainingList]:
    """Some of the lists."""
    if share == 1:
        return lists
    places = torch.randperm(len(lists))[: max(1, round(share * len(lists)))]
    return [lists[place] for place in places]


def _between(low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``."""
    return low if low == high else int(torch.randint(low, high + 1, ()))


def _targets(shown: Sequence[Shown]) -> Tensor:
    return pad_sequence([one.targets for one in shown], batch_first=True)


def _mask(shown: Sequence[Shown]) -> Tensor:
    return pad_sequence([torch.ones(len(one.texts), dtype=torch.bool) for one in shown], batch_first=True)


def _read(question: Question, logits: Tensor, docs: int) -> Tensor:
    """Scores of documents from the logits of their labels."""
    yes = yes_no(question.prompt)
    if yes is not None:
        return (logits[:yes].logsumexp(0) - logits[yes:].logsumexp(0)).reshape(1)
    return logits[:docs]


def _train_tokens(network: Any, tokens: Collection[int] | Literal["all", "none"]) -> None:  # noqa: ANN401 - a PreTrainedModel
    """Lets the vectors of some tokens alone be trained.

    Raises:
        ConfigurationError: There is no such token.
    """
    weight = network.get_input_embeddings().weight
    if tokens == "none":
        weight.requires_grad_(False)
    elif tokens != "all":
        if outside := [token for token in tokens if not 0 <= token < len(weight)]:
            raise ConfigurationError(f"tokens are 0 to {len(weight) - 1} here, got {outside[0]}")
        kept = torch.zeros(len(weight), 1)
        kept[list(tokens)] = 1.0
        weight.register_hook(lambda gradient: gradient * kept.to(gradient.device))


def _adapted(network: Any, lora: Lora) -> nn.Module:  # noqa: ANN401 - a PreTrainedModel
    """The network with adapters, the only weights of it that are trained."""
    try:
        import peft
    except ImportError as error:
        raise MissingExtra("LoRA", "peft", "train") from error
    modules = lora.modules if isinstance(lora.modules, str) else list(lora.modules)
    config = peft.LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=modules, task_type="CAUSAL_LM"
    )
    adapted: nn.Module = peft.get_peft_model(network, config)
    return adapted
