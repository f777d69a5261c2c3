"""How near each scoring task comes to what its multiplications need: CPU seconds over the least that could do.

    python tests/benchmarks/yardstick.py [--tasks pointwise,prp,…] [--threads 2] [--minutes 5.5] [--save NAME]
    python tests/benchmarks/yardstick.py --device cuda --dtype bfloat16 --tasks pointwise,windows --shape 4b --times 20

Tasks: decoder yes/no (pointwise), PRP on a decoder (prp), first tokens of windows (windows), cross-encoders of BERT's
and of MiniLM's shape (cross, small), a bi-encoder (bi), monoT5 (monot5). All in float32 are kept as "yardstick".

The least: operations that the prompts need with no padding, label rows only and each shared prefix once, at the speed
of a square matrix product in the same seconds: before every batch of the task a few such products are run and timed
apart, since the speed of one processor may differ by a third from one second to the next. The ratio is the median over
``--repeat`` repetitions (fewer where ``--minutes`` would not do). Kept too is "of_bests": the least seconds of all
repetitions over the least at the highest speed that any of the products reached, which machines that others use never
hold for long. Random networks of real shapes, several queries, passages of 3 to 200 words. On a GPU seconds are those
of the clock, and one over the ratio is the share of the peak that was reached; ``--shape`` has decoders of other sizes,
and ``--times`` more queries. What can be left out, and is (keys across an encoder-decoder that one step asks for,
tokens of the last layer that nobody reads), counts as needed, as it did where peers were measured.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads would count as CPU time
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import logging
import random
import statistics
import tempfile
import time
from typing import NamedTuple

import torch
from models import SHAPES, clock, save_decoder, save_encoder, save_encoder_decoder, save_results, words

from pyterrier_llmrank import Doc, HFModel, Question
from pyterrier_llmrank.core import Message, Prompt
from pyterrier_llmrank.scorers import BiEncoder, CrossEncoder

LETTERS = [f" w{i}" for i in range(100, 120)]  # labels that are one token each


class Setting(NamedTuple):
    """Where and in what precision networks run, decoders of what shape, and how often there are a task's queries."""

    device: str = "cpu"
    dtype: str = "float32"
    decoder: str | None = None
    times: int = 1


class Task(NamedTuple):
    """What is timed, the network that it runs, the operations that it needs at least, and its prompts or texts."""

    run: object
    network: object
    flops: float
    items: int


# What is needed


class Pace:
    """What a square matrix product takes, while it is looked at: its operations and seconds, and its best speed."""

    def __init__(self, setting, size=1024, times=3):
        if setting.device != "cpu":
            size, times = 8192, 20
        where = {"dtype": getattr(torch, setting.dtype), "device": setting.device}
        self.one, self.other = torch.randn(2, size, size, **where)
        self.size, self.times, self.device = size, times, setting.device
        self.flops = self.seconds = self.best = 0.0
        self.one @ self.other

    def look(self, *_):
        """Runs some products; as a hook before a network's forward passes, too."""
        for _ in range(self.times):
            seconds, flops = timed(lambda: self.one @ self.other, self.device), 2 * self.size**3
            self.flops, self.seconds = self.flops + flops, self.seconds + seconds
            self.best = max(self.best, flops / seconds)


def timed(run, device):
    """CPU seconds of a call, or on another device those that it is busy."""
    taken = {}
    with clock(taken):
        run()
        if device != "cpu":
            torch.accelerator.synchronize()
    return taken["cpu_s" if device == "cpu" else "wall_s"]


def weights_of(*modules):
    """Weights that every token is multiplied with."""
    return sum(part.weight.numel() for module in modules for part in module.modules() if type(part) is torch.nn.Linear)


def distinct(sequences):
    """Tokens that differ in what comes before them, and the number of tokens that each of them sees, summed up."""
    known, tokens, seen = {}, 0, 0
    for sequence in sequences:
        node = -1
        for depth, token in enumerate(sequence, start=1):
            step = (node, token)
            if step not in known:
                known[step] = len(known)
                tokens, seen = tokens + 1, seen + depth
            node = known[step]
    return tokens, seen


def decoder_flops(network, sequences, labels):
    """A causal network's, with ``labels`` rows of its head a prompt."""
    config = network.config
    tokens, seen = distinct(sequences)
    attention = 4 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * seen
    return 2 * weights_of(network.model) * tokens + attention + 2 * config.hidden_size * labels * len(sequences)


def encoder_flops(body, heads, width, layers, sequences):
    """A bidirectional network's."""
    tokens, seen = sum(map(len, sequences)), sum(len(one) ** 2 for one in sequences)
    return 2 * weights_of(body) * tokens + 4 * layers * heads * width * seen


# Tasks


def length(rng):
    """Words of a passage: most have 30 to 100."""
    return int(min(200, max(3, rng.lognormvariate(4.0, 0.6))))


def queries(n, docs, rng, setting):
    """(query, passages) of ``n`` queries, or as many times more."""
    return [(words(8, rng), [words(length(rng), rng) for _ in range(docs)]) for _ in range(n * setting.times)]


def raw(text):
    return Prompt((Message("user", text),), raw=True)


def choices(folder, prompts, labels, setting):
    """Label scores of a decoder."""
    model = HFModel(folder, device=setting.device, dtype=setting.dtype)
    ids = model._ready(prompts)[1]
    flops = decoder_flops(model._loaded.network, ids, len(labels))
    return Task(lambda: model.choices(prompts, [labels] * len(prompts)), model._loaded.network, flops, len(prompts))


def pointwise(folder, rng, setting):
    """Is this passage relevant, yes or no."""
    save_decoder(folder, **{"layers": 6, "dtype": setting.dtype, **SHAPES.get(setting.decoder, {})})
    head, tail = words(40, rng), words(20, rng)
    prompts = [raw(f"{head} {query} {text} {tail}") for query, texts in queries(6, 24, rng, setting) for text in texts]
    return choices(folder, prompts, [" yes", " no"], setting)


def prp(folder, rng, setting):
    """Which of two passages, all pairs in both orders."""
    save_decoder(folder, **{"layers": 6, "dtype": setting.dtype, **SHAPES.get(setting.decoder, {})})
    head, tail = words(40, rng), words(20, rng)
    prompts = [
        raw(f"{head} {query} {one} {head[:8]} {other} {tail}")
        for query, texts in queries(3, 7, rng, setting)
        for one in texts
        for other in texts
        if one is not other
    ]
    return choices(folder, prompts, LETTERS[:2], setting)


def windows(folder, rng, setting):
    """The first token of an order of 20 passages."""
    save_decoder(folder, **{"layers": 6, "dtype": setting.dtype, **SHAPES.get(setting.decoder, {})})
    head, tail = words(60, rng), words(30, rng)
    prompts = [
        raw(f"{head} {' '.join(f'{a}  {text}' for a, text in zip(LETTERS, texts, strict=True))} {query} {tail}")
        for query, texts in queries(6, 20, rng, setting)
    ]
    return choices(folder, prompts, LETTERS, setting)


def cross(folder, rng, setting, hidden=768, layers=6):
    """A cross-encoder of BERT's shape."""
    save_encoder(folder, hidden=hidden, layers=layers)
    scorer = CrossEncoder(folder, device=setting.device, dtype=setting.dtype)
    asked = [
        Question(query, tuple(Doc(str(i), text) for i, text in enumerate(texts)))
        for query, texts in queries(8, 24, rng, setting)
    ]
    ids = [[0] * (len(one.query.split()) + len(doc.text.split()) + 3) for one in asked for doc in one.docs]
    network = scorer._loaded.network
    flops = encoder_flops(network.bert.encoder, hidden // 64, 64, layers, ids)
    return Task(lambda: scorer(asked), network, flops, len(ids))


def small(folder, rng, setting):
    """A cross-encoder of MiniLM's shape."""
    return cross(folder, rng, setting, hidden=384)


def bi(folder, rng, setting, hidden=768, layers=6):
    """A bi-encoder of BERT's shape: documents alone."""
    save_encoder(folder, hidden=hidden, layers=layers)
    encoder = BiEncoder(folder, device=setting.device, dtype=setting.dtype)
    texts = [text for _, texts in queries(8, 24, rng, setting) for text in texts]
    ids = [[0] * (len(text.split()) + 2) for text in texts]
    network = encoder._loaded.network
    flops = encoder_flops(network.encoder, hidden // 64, 64, layers, ids)
    return Task(lambda: encoder.encode(texts), network, flops, len(ids))


def monot5(folder, rng, setting, layers=4):
    """An encoder-decoder of monoT5's shape, one decoder step."""
    save_encoder_decoder(folder, layers=layers)
    model = HFModel(folder, device=setting.device, dtype=setting.dtype)
    prompts = [raw(f"w1 {query} w2 {text} w3") for query, texts in queries(6, 24, rng, setting) for text in texts]
    ids = model._ready(prompts)[1]
    network, n, tokens = model._loaded.network, len(ids), sum(map(len, ids))
    config = network.config
    across = [
        part
        for block in network.decoder.block
        for part in (block.layer[1].EncDecAttention.k, block.layer[1].EncDecAttention.v)
    ]
    flops = encoder_flops(network.encoder, config.num_heads, config.d_kv, layers, ids)
    flops += 2 * weights_of(*across) * tokens + 2 * (weights_of(network.decoder) - weights_of(*across)) * n
    flops += 4 * layers * config.num_heads * config.d_kv * (tokens + n) + 2 * config.d_model * 2 * n
    return Task(lambda: model.choices(prompts, [["yes", "no"]] * n), network.encoder, flops, n)


TASKS = {one.__name__: one for one in (pointwise, prp, windows, cross, small, bi, monot5)}


def measure(name, setting, repeat, until):
    """A row of results; no repetition but the first begins that would not end before ``until``."""
    with tempfile.TemporaryDirectory() as folder:
        task = TASKS[name](folder, random.Random(0), setting)
        task.run()  # loads, and checks that packed rows are exact
        seconds, paces = [], []
        began = time.monotonic()
        while len(seconds) < repeat:
            pace = Pace(setting)
            if setting.device == "cpu":  # whose speed changes from one second to the next
                handle = task.network.register_forward_pre_hook(pace.look)
                whole = timed(task.run, setting.device)
                handle.remove()
                seconds.append(whole - pace.seconds)
            else:
                pace.look()
                seconds.append(timed(task.run, setting.device))
            paces.append(pace)
            now = time.monotonic()
            if now + (now - began) / len(seconds) > until:
                break
    own = [second * pace.flops / pace.seconds / task.flops for second, pace in zip(seconds, paces, strict=True)]
    best = max(pace.best for pace in paces)
    row = {"task": name, "device": setting.device, "dtype": setting.dtype, "decoder": setting.decoder}
    row |= {"ratio": statistics.median(own), "of_bests": min(seconds) * best / task.flops, "repetitions": len(own)}
    row |= {"seconds": min(seconds), "items_per_s": task.items / min(seconds), "gflop": task.flops / 1e9}
    row["peak_gflop_per_s"] = best / 1e9
    shown = {key: f"{value:.2f}" if isinstance(value, float) else value for key, value in row.items()}
    print(*(f"{key}={value}" for key, value in shown.items()), flush=True)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=5.5, help="for all of them, about")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shape", choices=SHAPES, help="of decoders")
    parser.add_argument("--times", type=int, default=1, help="as many queries")
    parser.add_argument("--save", metavar="NAME", help="keep the figures under this name")
    options = parser.parse_args()
    logging.basicConfig()
    torch.set_num_threads(options.threads)
    setting = Setting(options.device, options.dtype, options.shape, options.times)
    names, rows = options.tasks.split(","), []
    end = time.monotonic() + 60 * options.minutes
    for place, name in enumerate(names):
        share = (end - time.monotonic()) / (len(names) - place)
        rows.append(measure(name, setting, options.repeat, time.monotonic() + share))
    whole = names == [*TASKS] and setting == Setting()
    if save := options.save or ("yardstick" if whole else None):
        save_results(save, rows)


if __name__ == "__main__":
    main()
