"""Trains the network on the lists, by the package's own learner and loop, and packs what ships."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace

import tokens
import torch

from pyterrier_llmrank.core import Doc
from pyterrier_llmrank.prompts import ListPrompt, PairPrompt, SetPrompt, YesNo
from pyterrier_llmrank.training.data import TrainingList
from pyterrier_llmrank.training.learners import DecoderLearner, Lesson
from pyterrier_llmrank.training.loop import train
from pyterrier_llmrank.training.losses import binary_cross_entropy, by_teacher_ranks, kl_divergence, rank_net
from pyterrier_llmrank.training.settings import Training

HELD, MEASURED = 60, 36
RELEVANT = 6.5  # the teacher's score that is as likely relevant as not
LATER_PART = 0.6  # of the weights after the last stage
SHIPPED = ("generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def graded(scores, targets, mask):
    """The teacher's belief, and how relevant each is by itself."""
    return kl_divergence(scores, targets, mask) + 0.5 * binary_cross_entropy(
        scores, torch.sigmoid(targets - RELEVANT), mask
    )


def belief(scores, targets, mask):
    """The teacher's belief in which is best."""
    return kl_divergence(scores, targets, mask)


def ordered(scores, targets, mask):
    """The teacher's belief, and its order."""
    return kl_divergence(scores, targets, mask) + 6 * rank_net(scores, targets, mask, weight=by_teacher_ranks)


SHORT, SHORTER = (24, 80), (16, 40)  # tokens of a passage
QUESTIONS = (
    Lesson(YesNo(), graded, docs=(5, 7), max_doc_tokens=SHORT, share=0.45),
    Lesson(PairPrompt(), belief, docs=(2, 2), shuffled=1, max_doc_tokens=SHORT),
    Lesson(SetPrompt(), ordered, docs=(3, 6), shuffled=0.7, max_doc_tokens=SHORT, share=0.6),
    Lesson(ListPrompt("letters"), ordered, docs=(7, 20), shuffled=0.5, max_doc_tokens=SHORTER, share=0.3),
    Lesson(ListPrompt(), docs=(7, 20), shuffled=0.5, max_doc_tokens=SHORTER, early=True, share=0.2, weight=0.7),
)

SHARED = {
    "batch_size": 11,
    "schedule": "cosine",
    "final": 0.02,
    "warmup": 0.06,
    "weight_decay": 0.0,
    "clip": 5.0,
    "checkpoint_every": 20,
    "verbose": True,
}
LATER = tuple(  # more of the lists, more often shuffled
    replace(question, share=share, shuffled=shuffled, max_doc_tokens=lengths)
    for question, share, shuffled, lengths in zip(
        QUESTIONS,
        (0.2, 0.5, 0.4, 0.6, 0.2),
        (0.0, 1, 0.7, 0.3, 0.3),
        (SHORT, SHORT, SHORT, (16, 48), (16, 48)),
        strict=True,
    )
)
LAST = tuple(  # labels are told apart from all other words, too
    replace(question, share=share, mass=0.0 if question.writes else 0.3)
    for question, share in zip(LATER, (0.4, 0.5, 0.4, 0.4, 0.25), strict=True)
)


def lists_of(work):
    """Training lists in BM25's order, and those of questions that are held out."""
    told = json.loads((work / "texts.json").read_text(encoding="utf-8"))
    texts, queries = [one[0] for one in told["passages"]], told["queries"]
    found = []
    for qid, (places, teacher, lexical) in enumerate(json.loads((work / "lists.json").read_text(encoding="utf-8"))):
        order = sorted(range(len(places)), key=lambda k: -lexical[k])
        docs = tuple(Doc(str(places[k]), texts[places[k]]) for k in order)
        found.append(TrainingList(str(qid), queries[qid][0], docs, tuple(teacher[k] for k in order)))
    order = list(range(len(found)))
    random.Random(1).shuffle(order)
    held = [place for place in order if queries[place][2] in ("medq", "xqq")][:HELD]
    return [found[place] for place in order if place not in set(held)], [found[place] for place in held]


def taught(options, start, questions, folder, settings):
    """Trains; the weights that do best on held-out questions are kept."""
    words = len(json.loads((options.work / "kept.json").read_text(encoding="utf-8")))
    low, size = len(tokens.SPECIAL), json.loads((start / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    learner = DecoderLearner(
        start, questions, tokens=[*range(low), *range(low + words, size)]
    )  # words stay as they are
    lists, held = lists_of(options.work)

    def measure():
        torch.manual_seed(7)
        parts = [held[start : start + 12] for start in range(0, MEASURED, 12)]
        losses = [[float(learner.loss_of(question, part)) for part in parts] for question in questions]
        told = [sum(values) / len(values) for values in losses]
        print("held out:", [round(value, 3) for value in told], flush=True)
        return -sum(told)

    train(learner, lists, folder, settings, measure=measure)


def run(options):
    """All kinds of questions."""
    settings = Training(options.steps, learning_rate=options.rate, evaluate_every=50, **SHARED)
    taught(options, options.work / "first", QUESTIONS, options.work / "trained", settings)


def refine(options):
    """More of the lists, slower."""
    steps, rate = round(0.32 * options.steps), 0.6 * options.rate
    settings = Training(steps, learning_rate=rate, evaluate_every=45, seed=1, **SHARED)
    taught(options, options.work / "trained", LATER, options.work / "refined", settings)


def settle(options):
    """The labels against all words."""
    steps, rate = round(0.32 * options.steps), 0.8 * options.rate
    settings = Training(steps, learning_rate=rate, evaluate_every=40, seed=2, **SHARED)
    taught(options, options.work / "refined", LAST, options.work / "settled", settings)


def pack(options):
    """The weights in float16, with the tokenizer: between those before and after ``settle``.

    Before it labels have next to no probability, and after it orders by number are no longer written.
    """
    from transformers import AutoModelForCausalLM

    before, source, folder = (options.work / name for name in ("refined", "settled", "weights"))
    network = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    earlier = AutoModelForCausalLM.from_pretrained(before, dtype=torch.float32).state_dict()
    mixed = {name: torch.lerp(earlier[name], weight, LATER_PART) for name, weight in network.state_dict().items()}
    network.load_state_dict(mixed)
    network.half().save_pretrained(folder)
    for name in SHIPPED:
        if (source / name).exists():
            shutil.copy(source / name, folder / name)
