"""MiniLM's vectors, BM25, and the lists that they make together: the teacher."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

BATCH = 64
COSINE, LEXICAL, OWN = 11.0, 2.5, 1.0  # what the teacher's score adds up from, in nats


def minilm(*, weights=True):
    """The tokenizer and the encoder of all-MiniLM-L6-v2."""
    from transformers import AutoModel, AutoTokenizer

    from pyterrier_llmrank.demo.minilm import minilm as found

    name = found().name
    return AutoTokenizer.from_pretrained(name), AutoModel.from_pretrained(name).eval() if weights else None


def vectors(texts, most, path: Path):
    """Unit vectors of texts, in order of length; kept every few batches, so that a stopped run goes on."""
    import torch

    if path.exists():
        return np.load(path)
    part = path.with_suffix(".part.npz")
    tokenizer, network = minilm()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network.to(device)
    order = np.argsort([len(text) for text in texts], kind="stable")
    found, done = np.zeros((len(texts), 384), np.float32), 0
    if part.exists():
        kept = np.load(part)
        found, done = kept["found"], int(kept["done"])
    with torch.inference_mode():
        for start in range(done, len(order), BATCH):
            places = order[start : start + BATCH]
            inputs = tokenizer(
                [texts[place] for place in places], truncation=True, max_length=most, padding=True, return_tensors="pt"
            ).to(device)
            states, mask = network(**inputs).last_hidden_state, inputs["attention_mask"][..., None]
            means = (states * mask).sum(1) / mask.sum(1)
            found[places] = torch.nn.functional.normalize(means, dim=-1).cpu().numpy()
            if start // BATCH % 20 == 19:
                np.savez(part, found=found, done=start + BATCH)
    np.save(path, found)
    part.unlink(missing_ok=True)
    return found


def wordpieces():
    """What MiniLM makes of each wordpiece alone, (vocabulary, 384)."""
    import torch

    tokenizer, network = minilm()
    ids, found = torch.arange(len(tokenizer)), []
    with torch.inference_mode():
        for start in range(0, len(ids), 1024):
            some = ids[start : start + 1024]
            rows = torch.stack([torch.full_like(some, 101), some, torch.full_like(some, 102)], dim=1)
            states = network(input_ids=rows, attention_mask=torch.ones_like(rows)).last_hidden_state
            found.append(states.mean(1).numpy())
    return np.concatenate(found)


def encode(options):
    """Writes ``queries.npy``, ``passages.npy`` and ``wordpieces.npy``."""
    told = json.loads((options.work / "texts.json").read_text(encoding="utf-8"))
    np.save(options.work / "wordpieces.npy", wordpieces())
    vectors([one[0] for one in told["queries"]], 48, options.work / "queries.npy")
    vectors([one[0] for one in told["passages"]], 80, options.work / "passages.npy")


def write(options):
    """Writes ``lists.json``: for each query passages, the teacher's scores, and BM25's."""
    import bm25s

    told = json.loads((options.work / "texts.json").read_text(encoding="utf-8"))
    texts, queries = [one[0] for one in told["passages"]], told["queries"]
    passages, asked = np.load(options.work / "passages.npy"), np.load(options.work / "queries.npy")
    index, rng = bm25s.BM25(k1=0.9, b=0.4), np.random.default_rng(0)
    index.index(bm25s.tokenize(texts, stopwords="en", show_progress=False), show_progress=False)
    found = []
    for (query, own, kind), vector in zip(queries, asked, strict=True):
        words = bm25s.tokenize([query], stopwords="en", show_progress=False, return_ids=False)[0]
        lexical = np.asarray(index.get_scores(words) if words else np.zeros(len(texts)), np.float32)
        cosine = passages @ vector
        by_words, by_sense = np.argsort(-lexical)[:60], np.argsort(-cosine)[:40]
        places = [*own[:2], *by_words[:14].tolist(), *by_sense[:14].tolist()]
        places += rng.choice(by_words[14:], 6, replace=False).tolist()
        places += rng.choice(by_sense[14:], 4, replace=False).tolist() + rng.integers(0, len(texts), 3).tolist()
        shown = np.array(list(dict.fromkeys(places)))
        answers = np.isin(shown, own) * (OWN if kind in ("medq", "xqq") else 0)
        teacher = COSINE * cosine[shown] + LEXICAL * lexical[shown] / max(lexical.max(), 1e-6) + answers
        scores = ([round(float(one), 3) for one in values] for values in (teacher, lexical[shown]))
        found.append((shown.tolist(), *scores))
    (options.work / "lists.json").write_text(json.dumps(found), encoding="utf-8")
