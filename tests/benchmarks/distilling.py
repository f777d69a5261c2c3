"""Training steps of a retriever, against those of sentence-transformers on the same batches.

    python tests/benchmarks/distilling.py [--steps 4] [--lists 8] [--docs 8] [--save NAME]

MiniLM's weights, float32, AdamW at the same rate, the same texts in the same batches (each a tenth of the corpus's
topics, so that lists of a batch share documents as a teacher's lists do), sentence-transformers through its own
trainer. Both go in turns, each step of one after the same step of the other; a ratio is that of the CPU seconds
(user and system) of all steps of a turn, and above 1 where this package is faster. Peak memory is that of a process
of its own for each.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads would count as CPU time
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from shared_data import rows

from pyterrier_llmrank.core import Doc
from pyterrier_llmrank.demo.minilm import minilm
from pyterrier_llmrank.training.data import TrainingList
from pyterrier_llmrank.training.learners import BiEncoderLearner
from pyterrier_llmrank.training.loop import train
from pyterrier_llmrank.training.settings import Training

RATE, TOKENS = 2e-5, 128
OURS = {
    "kl": {"loss": "kl_divergence", "temperature": 0.05, "teacher_temperature": 0.05},
    "margin_mse": {"loss": "margin_mse"},
    "cached_info_nce": {"loss": "info_nce", "temperature": 0.05, "held_tokens": 0},
}


def lists_of(options):
    """Lists for all steps: documents of one neighbourhood of the collection, targets that fall."""
    docs = [Doc(one["docno"], one["text"]) for one in rows("data", "cranfield", "docs.jsonl.gz")]
    draw = random.Random(0)
    lists = []
    for step in range(options.steps):
        start = draw.randrange(len(docs) - options.pool)
        near = docs[start : start + options.pool]
        for place in range(options.lists):
            chosen = draw.sample(near, options.docs)
            query = " ".join(chosen[0].text.split()[: draw.randint(4, 16)])
            targets = tuple(round(1 - rank / options.docs, 3) for rank in range(options.docs))
            lists.append(TrainingList(f"{step}-{place}", query, tuple(chosen), targets))
    return lists


def ours(loss, lists, options):
    """One turn of this package's loop."""
    learner = BiEncoderLearner(minilm().name, query_tokens=TOKENS, doc_tokens=TOKENS, **OURS[loss])
    training = Training(
        epochs=1, batch_size=options.lists, learning_rate=RATE, schedule="constant", warmup=0.0, device="cpu"
    )

    def go(folder, watch):
        learned = learner.learn
        learner.learn = lambda some, backward: watch(lambda: learned(some, backward))
        train(learner, lists, folder, training)

    return go


def theirs(loss, lists, options):
    """One turn of sentence-transformers' trainer."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer import losses

    model = SentenceTransformer(minilm().name, device="cpu")
    model.max_seq_length = TOKENS
    names = [f"document_{place}" for place in range(options.docs)]
    columns = {"query": [one.query for one in lists]}
    columns |= {name: [one.docs[place].text for one in lists] for place, name in enumerate(names)}
    if loss == "kl":
        kind, label = losses.DistillKLDivLoss(model, temperature=1.0), [list(one.targets) for one in lists]
    elif loss == "margin_mse":
        label = [[one.targets[0] - value for value in one.targets[1:]] for one in lists]
        kind = losses.MarginMSELoss(model)
    else:
        kind, label = losses.CachedMultipleNegativesRankingLoss(model, scale=20.0, mini_batch_size=16), None
    data = Dataset.from_dict(columns | ({} if label is None else {"label": label}))

    def go(folder, watch):
        trainer = SentenceTransformerTrainer(
            model,
            SentenceTransformerTrainingArguments(
                folder,
                num_train_epochs=1,
                per_device_train_batch_size=options.lists,
                learning_rate=RATE,
                lr_scheduler_type="constant",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=True,
                logging_strategy="no",
            ),
            train_dataset=data,
            loss=kind,
        )
        trainer.train()

    return go
