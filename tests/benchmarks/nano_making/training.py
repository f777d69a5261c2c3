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


SHORT, SHORTER = (24, 96), (16, 64)  # tokens of a passage
MASS = 0.2  # labels are told apart from all other words, too
QUESTIONS = (
    Lesson(YesNo(), graded, docs=(5, 7), max_doc_tokens=SHORT, share=0.45, mass=MASS),
    Lesson(PairPrompt(), belief, docs=(2, 2), shuffled=1, max_doc_tokens=SHORT, mass=MASS),
    Lesson(SetPrompt(), ordered, docs=(3, 6), shuffled=0.7, max_doc_tokens=SHORT, share=0.45, mass=MASS),
    Lesson(ListPrompt("letters"), ordered, docs=(7, 20), shuffled=0.4, max_doc_tokens=SHORTER, share=0.4, mass=MASS),
    Lesson(ListPrompt(), docs=(7, 20), shuffled=0.4, max_doc_tokens=SHORTER, early=True, share=0.3, weight=0.7),
)
TRAINING = Training(
    batch_size=11,
    schedule="cosine",
    final=0.02,
    warmup=0.04,
    weight_decay=0.0,
    clip=5.0,
    checkpoint_every=20,
    evaluate_every=100,
    verbose=True,
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


def run(options):
    """Trains; the weights that do best on held-out questions are kept."""
    start = options.work / "first"
    words = len(json.loads((options.work / "kept.json").read_text(encoding="utf-8")))
    low, size = len(tokens.SPECIAL), json.loads((start / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    others = [*range(low), *range(low + words, size)]  # words stay as they are
    learner = DecoderLearner(start, QUESTIONS, tokens=others, batch_tokens=2_048)
    lists, held = lists_of(options.work)

    def measure():
        torch.manual_seed(7)
        parts = [held[start : start + 12] for start in range(0, MEASURED, 12)]
        losses = [[float(learner.loss_of(question, part)) for part in parts] for question in QUESTIONS]
        told = [sum(values) / len(values) for values in losses]
        print("held out:", [round(value, 3) for value in told], flush=True)
        return -sum(told)

    settings = replace(TRAINING, steps=options.steps, learning_rate=options.rate)
    train(learner, lists, options.work / "trained", settings, measure=measure)


def pack(options):
    """The weights in float16, with the tokenizer."""
    from transformers import AutoModelForCausalLM

    source, folder = options.work / "trained", options.work / "weights"
    AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).half().save_pretrained(folder)
    for name in SHIPPED:
        if (source / name).exists():
            shutil.copy(source / name, folder / name)
