"""``grpo``: a language model learns by reinforcement to answer a prompt of this package. The loop is trl's."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pyterrier_llmrank.core import Prompt
from pyterrier_llmrank.errors import ConfigurationError, InputError, MissingExtra
from pyterrier_llmrank.models import HFModel
from pyterrier_llmrank.models.hf.weightless import weightless
from pyterrier_llmrank.prompts.base import TextTemplate
from pyterrier_llmrank.prompts.truncation import fit
from pyterrier_llmrank.seeds import derived

from .data.lists import TrainingList
from .rollouts import Reward, Rollout

if TYPE_CHECKING:
    from peft import PeftConfig

History = list[dict[str, float]]

CALL = "call.txt"
SAVING = {"save_steps", "save_total_limit", "logging_steps"}  # options that change nothing of what is learnt


class Row(NamedTuple):
    """What one prompt of the training shows: a list of the data, all of it or the document at a place."""

    prompt: Prompt
    number: int
    place: int | None


def grpo(
    base: str | Path,
    lists: Sequence[TrainingList],
    prompt: TextTemplate,
    reward: Reward,
    folder: str | Path,
    *,
    samples: int = 8,
    max_tokens: int = 512,
    lora: PeftConfig | None = None,
    thinking: bool = False,
    **options: Any,  # noqa: ANN401 - those of GRPOConfig
) -> History:
    """Trains a causal language model on the rewards of its own sampled answers, and saves it.

    Documents are shown as ``Prompted`` shows them, in the order of each list, shortened where they exceed the context.
    Answers to one prompt are compared with one another; where all of them earn the same, nothing is learnt.

    Args:
        base: Folder or hub name of a causal language model.
        lists: Documents as they are to be shown, so not best first (see ``training.data.shuffled_lists``); what
            targets mean is the reward's affair.
        prompt: Asks for a written answer, such as ``ListPrompt(layout=REASONED)``. Of a prompt about one document,
            all documents of a list are asked about in one batch; all lists are then of one length.
        reward: Such as ``Rearank()``; see ``training.rollouts``.
        folder: Where the model goes, or its adapter: ``HFModel(folder)`` loads either.
        samples: Answers to each prompt, at least 2.
        max_tokens: Tokens of an answer at most.
        lora: Such as ``peft.LoraConfig(r=16, lora_alpha=32)``; by default all weights are trained.
        thinking: What a chat template that can switch reasoning on or off is told.
        **options: Of trl's ``GRPOConfig``: learning_rate, max_steps, beta, temperature, use_vllm, save_steps … With
            save_steps, the same call, with any reward, goes on from the last checkpoint after it was stopped.

    Returns:
        What trl logged, also in ``folder/history.jsonl``: rows with step, loss, reward …

    Raises:
        MissingExtra: trl is not installed.
        InputError: There are no lists, or lists of several lengths for a prompt about one document.
        ConfigurationError: The prompt reads probabilities, or has the answer of a chat begin; samples are below 2; or
            the folder holds checkpoints of another call.
        ModelNotFound: There is no such model.

    Reference:
        Shao et al., 2024 (GRPO).
    """
    if samples < 2:
        raise ConfigurationError(f"answers are compared with one another: samples must be at least 2, got {samples}")
    trl, datasets = _libraries()
    import transformers

    folder, model = Path(folder), weightless(HFModel(str(base), thinking=thinking))
    rows = prompted(lists, prompt, model, max_tokens=max_tokens)
    shown, chat = texts(rows, model)
    data = datasets.Dataset.from_list([{"prompt": text, "row": number} for number, text in enumerate(shown)])
    group = len(lists[0].docs) if prompt.max_docs == 1 else 1
    checkpoints = folder / "checkpoint"
    ends = derived(0, len(lists), *(f"{one.qid} {one.targets}" for one in (lists[0], lists[-1])))
    told = {"base": str(base), "prompt": prompt, "lists": ends, "samples": samples, "max_tokens": max_tokens}
    _of_this_call(checkpoints, {**told, "lora": lora is not None, "thinking": thinking, **options})
    more = _settings(options, samples=samples, group=group, chat={"enable_thinking": thinking} if chat else None)
    with _quiet():
        trainer = trl.GRPOTrainer(
            str(base),
            rewarded(reward, lists, rows),
            args=trl.GRPOConfig(str(checkpoints), num_generations=samples, max_completion_length=max_tokens, **more),
            train_dataset=data,
            processing_class=model._loaded.tokenizer,
            peft_config=lora,
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train(resume_from_checkpoint=_last(checkpoints))
        trainer.save_model(str(folder))
    (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle, which nothing here would read
    history = cast(History, trainer.state.log_history)
    (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history), encoding="utf-8")
    shutil.rmtree(checkpoints, ignore_errors=True)
    return history


def prompted(lists: Sequence[TrainingList], prompt: TextTemplate, model: HFModel, *, max_tokens: int) -> list[Row]:
    """What the model is asked about each list, or about each document of it, with room for an answer.

    Raises:
        InputError: There are no lists, or lists of several lengths for a prompt about one document.
        ConfigurationError: The prompt reads probabilities.
        PromptTooLong: Instructions alone do not fit.
    """
    if getattr(prompt, "asks", None) != "generate":
        raise ConfigurationError(f"{prompt!r} asks for no written answer; use one with decode='generate'")
    alone = prompt.max_docs == 1
    sizes = {len(one.docs) for one in lists}
    if not sizes or 0 in sizes:
        raise InputError(f"reinforcement needs lists with documents, got {len(lists)} lists of {sorted(sizes)}")
    if alone and len(sizes) > 1:
        raise InputError(
            f"documents of a list are compared in one batch, so that lists must be of one length, got {sorted(sizes)}; "
            "cut them with training_lists(k=...), and leave shorter ones out"
        )
    places = [
        (number, place) for number, one in enumerate(lists) for place in (range(len(one.docs)) if alone else (None,))
    ]
    items = []
    for number, place in places:
        docs = lists[number].docs if place is None else (lists[number].docs[place],)
        items.append((model.plain(lists[number].query), [model.plain(doc.text) for doc in docs]))
    fitted = fit(prompt, items, model, reserve=[max_tokens] * len(items))
    return [Row(one.prompt, *place) for one, place in zip(fitted, places, strict=True)]


def texts(rows: Sequence[Row], model: HFModel) -> tuple[list[Any], bool]:
    """Prompts as trl takes them, and whether these are chats: it renders them to the tokens that the model reads.

    Raises:
        ConfigurationError: It would not.
    """
    chat, side, tokenizer = model._text.chat and not rows[0].prompt.raw, model._text, cast(Any, model._loaded.tokenizer)
    shown: list[Any]
    if chat:
        shown = [[turn._asdict() for turn in row.prompt.messages] for row in rows]
        template = {"add_generation_prompt": True, "enable_thinking": model.thinking, "return_dict": True}
        read = _unless_refused(lambda: tokenizer.apply_chat_template(shown[0], tokenize=True, **template))
    else:
        shown = [side.render(row.prompt).text for row in rows]
        read = tokenizer(shown[0])
    if list(read["input_ids"]) != side.prompts([side.render(rows[0].prompt)])[0]:
        raise ConfigurationError(
            f"trl would tokenise the prompt otherwise than {model!r} does; use a prompt that does not begin the answer "
            "of a chat, and a tokenizer that does not end texts"
        )
    return shown, chat


def _unless_refused(apply: Callable[[], Any]) -> Any:  # noqa: ANN401 - transformers'
    """What a chat template makes of a prompt.

    Raises:
        ConfigurationError: It refuses its turns.
    """
    from jinja2 import TemplateError

    try:
        return apply()
    except TemplateError as error:
        raise ConfigurationError(
            f"the model's chat template refuses the prompt's turns ({error}); use a prompt without a system message"
        ) from error


def rewarded(reward: Reward, lists: Sequence[TrainingList], rows: Sequence[Row]) -> Callable[..., list[float]]:
    """A reward as trl calls it: with completions, and the row of each."""

    def earned(*, completions: Sequence[Any], row: Sequence[int], **_: Any) -> list[float]:  # noqa: ANN401 - trl's
        answers = [one if isinstance(one, str) else str(one[-1]["content"]) for one in completions]
        rollouts = [
            Rollout(answer, lists[rows[at].number], rows[at].place, rows[at].number)
            for answer, at in zip(answers, row, strict=True)
        ]
        return [float(value) for value in reward(rollouts)]

    return earned


def _settings(options: dict[str, Any], *, samples: int, group: int, chat: dict[str, Any] | None) -> dict[str, Any]:
    """Options for ``GRPOConfig``: a batch holds all that is compared, and nothing is sent anywhere."""
    import torch

    sizes: dict[str, Any] = {"per_device_train_batch_size": samples}
    if group > 1:  # documents of a list, one after the other
        sizes |= {"generation_batch_size": samples * group, "shuffle_dataset": False}
    known = {
        "bf16": torch.cuda.is_available(),
        "save_strategy": "steps" if "save_steps" in options else "no",
        "seed": 0,
    }
    quiet = {"report_to": "none", "logging_steps": 1, "disable_tqdm": True}
    weights = {"model_init_kwargs": {"dtype": "float32"}, "chat_template_kwargs": chat}
    return {**sizes, **known, **quiet, **weights, **options}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences what trl, peft and transformers say of one another, about which a caller can do nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", ".*pin_memory.*")  # torch's, on machines without an accelerator
        yield


def _of_this_call(checkpoints: Path, told: dict[str, Any]) -> None:
    """Keeps what a call is about beside its checkpoints.

    Raises:
        ConfigurationError: There are checkpoints of another call.
    """
    here = "\n".join(f"{name}={told[name]!r}" for name in sorted(told) if name not in SAVING)
    kept = checkpoints / CALL
    if _last(checkpoints) and kept.is_file() and (there := kept.read_text(encoding="utf-8")) != here:
        differ = sorted({*there.splitlines()} ^ {*here.splitlines()})
        raise ConfigurationError(
            f"{checkpoints} is of another training than this one; of one of them alone are {', '.join(differ)}; "
            "train in another folder, or delete this one to start anew"
        )
    checkpoints.mkdir(parents=True, exist_ok=True)
    kept.write_text(here, encoding="utf-8")


def _last(checkpoints: Path) -> str | None:
    """The newest checkpoint, if there is one."""
    found = [path for path in checkpoints.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    return str(max(found, key=lambda path: int(path.name.rpartition("-")[2]))) if found else None


def _libraries() -> tuple[Any, Any]:
    """Trl and datasets.

    Raises:
        MissingExtra: They are not installed.
    """
    try:
        import datasets  # type: ignore[import-untyped,import-not-found,unused-ignore]
        import trl
    except ImportError as error:
        raise MissingExtra("reinforcement learning", "trl", "rl") from error
    return trl, datasets
