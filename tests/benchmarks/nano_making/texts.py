"""Passages and queries from the training collections, and how often each wordpiece is in them."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections import Counter, defaultdict

import numpy as np

SIZES = [25, 40, 50, 65]  # words of a passage, about
STRIPPED = ".,;:!?\"'()"


def rows(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def sentences(text):
    return [part.strip() for part in re.split(r"(?<=[.!?])\s+|\s-\s|\n", text) if part.strip()]


def passages(text, size):
    """Runs of whole sentences of about ``size`` words; those below 8 words are left out."""
    found, current = [], []
    for sentence in sentences(text):
        words = sentence.split()
        if current and len(current) + len(words) > size:
            found.append(current)
            current = []
        current = current + words
    found.append(current)
    return [" ".join(words[: size + 10]) for words in found if len(words) >= 8]


class Texts:
    """What is collected: passages as (text, document, kind), queries as (text, own passages, kind)."""

    def __init__(self):
        self.rng, self.passages, self.queries = random.Random(0), [], []

    def add(self, text, document, kind):
        self.passages.append((text, document, kind))
        return len(self.passages) - 1

    def medquad(self, pairs):
        """A few answers of each topic, with their questions, topics in keywords, and sentences."""
        rng, topics = self.rng, defaultdict(list)
        for row in pairs:
            topics[row["focus"]].append(row)
        names = sorted(topics)
        rng.shuffle(names)
        for name in names[:3000]:
            some = topics[name]
            rng.shuffle(some)
            for row in some[:3]:
                parts = passages(row["answer"], rng.choice(SIZES))
                if not parts:
                    continue
                own = [self.add(parts[0], f"m{row['qid']}", "med")]
                if len(parts) > 1 and rng.random() < 0.3:
                    own.append(self.add(rng.choice(parts[1:]), f"m{row['qid']}", "med"))
                if rng.random() < 0.6:
                    question = row["question"].replace("? ?", "?").replace(" ?", "?").replace(" (are)", "")
                    self.queries.append((question, own, "medq"))
                if rng.random() < 0.12:
                    self.queries.append((f"{row['focus']} {row['qtype']}".lower(), own, "medk"))
                if len(parts) > 1 and rng.random() < 0.12:
                    said = [one for one in sentences(row["answer"]) if 5 <= len(one.split()) <= 30]
                    if said:
                        self.queries.append((rng.choice(said), own, "meds"))

    def xquad(self, docs, folder):
        """Every paragraph, with its questions."""
        asked = defaultdict(list)
        topics = dict(line.split("\t") for line in (folder / "topics.tsv").read_text(encoding="utf-8").splitlines())
        for line in (folder / "qrels.txt").read_text(encoding="utf-8").splitlines():
            qid, _, docno, label = line.split()
            if int(label) > 0:
                asked[docno].append(topics[qid])
        for row in docs:
            parts = passages(row["text"], self.rng.choice([40, 60]))
            own = [self.add(part, f"x{row['docno']}", "xq") for part in parts]
            self.queries += [(query, own, "xqq") for query in asked[row["docno"]]]

    def arguana(self, docs):
        """One or two passages of an argument, with a sentence that is not in them, or keywords."""
        rng = self.rng
        rng.shuffle(docs)
        for row in docs[:4400]:
            _, _, body = row["text"].partition("\n")
            body = body if len(body.split()) > 8 else row["text"].replace("\n", ". ")
            parts = passages(body, rng.choice(SIZES))
            if not parts:
                continue
            shown = rng.sample(parts, min(len(parts), 1 if rng.random() < 0.5 else 2))
            own = [self.add(part, f"a{row['docno']}", "arg") for part in shown]
            fits = [one for one in sentences(body) if 5 <= len(one.split()) <= 26]
            said = [one for one in fits if not any(one in part for part in shown)]
            if said and rng.random() < 0.7:
                self.queries.append((rng.choice(said), own, "args"))
            elif rng.random() < 0.8:
                words = rng.choice(sentences(body)).split()
                words = [word.strip(STRIPPED).lower() for word in words if len(word) > 4][:6]
                if len(words) > 2:
                    self.queries.append((" ".join(words), own, "argk"))


def write(options):
    """Writes ``texts.json`` and ``counts.npy``."""
    from candidates import minilm

    data = options.shared / "data"
    pairs, docs = rows(data / "medquad_pairs/pairs.jsonl.gz"), rows(data / "xquad_en/docs.jsonl.gz")
    arguments = rows(data / "arguana_text/docs.jsonl.gz")
    found = Texts()
    found.medquad(pairs)
    found.xquad(docs, data / "xquad_en")
    found.arguana(arguments)
    whole = [row["answer"][:4000] for row in pairs] + [row["question"] for row in pairs] + [row["text"] for row in docs]
    whole += [row["text"][:1500] for row in arguments] + [text for text, _, kind in found.queries if kind == "xqq"]
    tokenizer, _ = minilm(weights=False)
    counts = Counter()
    for start in range(0, len(whole), 512):
        for ids in tokenizer(whole[start : start + 512], add_special_tokens=False, verbose=False)["input_ids"]:
            counts.update(ids)
    np.save(options.work / "counts.npy", np.array([counts[token] for token in range(len(tokenizer))]))
    written = {"passages": found.passages, "queries": found.queries}
    (options.work / "texts.json").write_text(json.dumps(written), encoding="utf-8")
    print(len(found.passages), "passages,", len(found.queries), "queries")
