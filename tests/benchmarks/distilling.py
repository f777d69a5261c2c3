"""Training steps of a retriever, against those of sentence-transformers on the same batches.

    python tests/benchmarks/distilling.py [--losses kl,margin_mse] [--steps 4] [--lists 8] [--docs 8] [--pool 1400]

MiniLM's weights, float32, its dropout, AdamW at the same rate and clipped alike, the same lists of Cranfield's
abstracts (128 tokens) in the same batches; sentence-transformers through its own trainer. Both go in turns; what
counts is CPU seconds (user and system) from the beginning of a turn's second step to that of its last. Ratios above 1
say that this package is faster. Lists draw from ``--pool`` neighbouring documents: the fewer, the more lists of a
batch share documents, as those of a teacher do, which this package encodes once. Peak memory is that of a process for
each.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads would count as CPU time
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from models import save_results

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
        start = draw.randrange(len(docs) - options.pool + 1)
        near = docs[start : start + options.pool]
        for place in range(options.lists):
            chosen = draw.sample(near, options.docs)
            query = " ".join(chosen[0].text.split()[: draw.randint(4, 16)])
            targets = tuple(round(1 - rank / options.docs, 3) for rank in range(options.docs))
            lists.append(TrainingList(f"{step}-{place}", query, tuple(chosen), targets))
    return lists


def ours(loss, lists, options, folder, begin):
    """This package's loop; ``begin`` is called as each step begins."""
    learner = BiEncoderLearner(minilm().name, query_tokens=TOKENS, doc_tokens=TOKENS, dropout=True, **OURS[loss])
    learned = learner.learn

    def learn(some, backward):
        begin()
        return learned(some, backward)

    learner.learn = learn
    train(
        learner,
        lists,
        folder,
        Training(batch_size=options.lists, learning_rate=RATE, schedule="constant", warmup=0.0, device="cpu"),
    )


def theirs(loss, lists, options, folder, begin):
    """The same by sentence-transformers' trainer."""
    import sentence_transformers as st
    from datasets import Dataset
    from sentence_transformers.sentence_transformer import losses
    from transformers import TrainerCallback

    class Begins(TrainerCallback):
        def on_step_begin(self, *_, **__):
            begin()

    model = st.SentenceTransformer(minilm().name, device="cpu")
    model.max_seq_length = TOKENS
    columns = {"query": [one.query for one in lists]}
    columns |= {f"d{place}": [one.docs[place].text for one in lists] for place in range(options.docs)}
    if loss == "kl":
        kind, columns["label"] = losses.DistillKLDivLoss(model), [list(one.targets) for one in lists]
    elif loss == "margin_mse":
        kind = losses.MarginMSELoss(model)
        columns["label"] = [[one.targets[0] - value for value in one.targets[1:]] for one in lists]
    else:
        kind = losses.CachedMultipleNegativesRankingLoss(model, scale=20.0, mini_batch_size=16)
    arguments = st.SentenceTransformerTrainingArguments(
        folder,
        num_train_epochs=1,
        per_device_train_batch_size=options.lists,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    data = Dataset.from_dict(columns)
    st.SentenceTransformerTrainer(model, arguments, train_dataset=data, loss=kind, callbacks=[Begins()]).train()


def turn(who, loss, lists, options):
    """CPU seconds of a step."""
    begun = []

    def begin():
        used = resource.getrusage(resource.RUSAGE_SELF)
        begun.append(used.ru_utime + used.ru_stime)

    with tempfile.TemporaryDirectory() as folder:
        who(loss, lists, options, folder, begin)
    return (begun[-1] - begun[1]) / (len(begun) - 2)


def alone(name, loss):
    """Peak memory of a process that does nothing else, in MB."""
    told = [sys.executable, __file__, *sys.argv[1:], "--alone", name, "--losses", loss]
    done = subprocess.run(told, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])["peak_mb"]


def measure(loss, options):
    """A row of results."""
    lists = lists_of(options)
    seconds = {"ours": [], "theirs": []}
    for _ in range(options.repeat):
        for name, who in (("ours", ours), ("theirs", theirs)):
            seconds[name].append(turn(who, loss, lists, options))
    ratios = [other / own for own, other in zip(seconds["ours"], seconds["theirs"], strict=True)]
    batches = [lists[start : start + options.lists] for start in range(0, len(lists), options.lists)]
    distinct = [len({doc.docno for one in batch for doc in one.docs}) for batch in batches]
    row = {"loss": loss, "lists": options.lists, "docs": options.docs, "distinct": statistics.mean(distinct)}
    row |= {f"{name}_steps_per_s": round(1 / statistics.median(of), 4) for name, of in seconds.items()}
    row |= {"speedup": round(statistics.median(ratios), 3), "of_turns": [round(one, 3) for one in ratios]}
    if options.memory:
        row |= {f"{name}_peak_mb": alone(name, loss) for name in seconds}
    print(json.dumps(row), flush=True)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--losses", default=",".join(OURS))
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--lists", type=int, default=8)
    parser.add_argument("--docs", type=int, default=8)
    parser.add_argument("--pool", type=int, default=1400)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="measure peak memory, too")
    parser.add_argument("--alone", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    parser.add_argument("--save", metavar="NAME", help="keep the figures under this name")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.alone:
        turn({"ours": ours, "theirs": theirs}[options.alone], options.losses, lists_of(options), options)
        print(json.dumps({"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))
        return
    found = [measure(loss, options) for loss in options.losses.split(",")]
    if options.save:
        save_results(options.save, found)


if __name__ == "__main__":
    main()
