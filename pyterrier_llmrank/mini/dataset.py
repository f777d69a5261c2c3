"""``pt.get_dataset("llmrank:mini")``: short passages, queries and judgments that come with the package.

The passages were written for this project, query by query: some answer it, some come near it, and some share its
words but not its meaning. Judgments were made by reading, with the first ten documents of a lexical and of a dense
retriever read as well: 2 answers the query, 1 is related and partly useful, 0 was judged and is not relevant.

Most answers in other words than the query's still share one word with it, by design: a lexical first stage then finds
nearly all of them, and it is left to a reranker to put them first. It is a collection to learn and test with; a
difference between two good rerankers on 24 queries says little.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from types import MappingProxyType
from typing import Any

import pandas as pd
import pyterrier as pt

from pyterrier_llmrank.errors import ConfigurationError, InputError


def _lines(name: str) -> list[str]:
    """Lines of a data file of this package, without their ends."""
    return (resources.files(__package__) / name).read_text(encoding="utf-8").splitlines()


@functools.cache
def _passages() -> Mapping[str, str]:
    """Text by docno, in the order of the collection; read once."""
    rows = (json.loads(line) for line in _lines("passages.jsonl"))
    return MappingProxyType({row["docno"]: row["text"] for row in rows})


def _no_variant(variant: str | None) -> None:
    """Refuses a variant.

    Raises:
        ConfigurationError: There is one.
    """
    if variant is not None:
        raise ConfigurationError(f"the mini collection has no variants, but was asked for {variant!r}; leave it out")


class MiniCollection(pt.datasets.Dataset):
    """200 passages, 24 queries and graded judgments (0 to 2), all in English; read from the package, no download."""

    def get_corpus_iter(self, *, verbose: bool = False) -> Iterator[dict[str, Any]]:
        """Yields ``{"docno": ..., "text": ...}`` for every passage."""
        passages = pt.tqdm(_passages().items(), desc="mini", unit="d", disable=not verbose)
        return ({"docno": docno, "text": text} for docno, text in passages)

    def get_corpus_lang(self) -> str:
        """Language of the passages."""
        return "en"

    def get_topics(self, variant: str | None = None) -> pd.DataFrame:
        """A frame of qid and query.

        Raises:
            ConfigurationError: A variant was asked for; there are none.
        """
        _no_variant(variant)
        return pd.DataFrame([line.split("\t") for line in _lines("topics.tsv")], columns=["qid", "query"])

    def get_topics_lang(self) -> str:
        """Language of the queries."""
        return "en"

    def get_qrels(self, variant: str | None = None) -> pd.DataFrame:
        """A frame of qid, docno and label (int64, 0 to 2).

        Raises:
            ConfigurationError: A variant was asked for; there are none.
        """
        _no_variant(variant)
        rows = [line.split() for line in _lines("qrels.txt")]
        qrels = pd.DataFrame(rows, columns=["qid", "iteration", "docno", "label"])
        return qrels.drop(columns="iteration").astype({"label": "int64"})

    def text_loader(self, fields: Sequence[str] | str = "*", *, verbose: bool = False) -> pt.Transformer:
        """A transformer that adds the column ``text`` by docno; what ``pt.text.get_text`` asks for.

        Args:
            fields: ``"text"``, ``["text"]`` or ``"*"``: there is no other field.
            verbose: Ignored, since the texts are in memory.

        Raises:
            ConfigurationError: Another field was asked for.
        """
        unknown = sorted(set([fields] if isinstance(fields, str) else fields) - {"text", "*"})
        if unknown:
            raise ConfigurationError(f"the mini collection has no field {', '.join(map(repr, unknown))}, only 'text'")
        return MiniText()  # type: ignore[no-untyped-call]

    def _describe_component(self, component: str) -> bool | None:
        """What PyTerrier's list of datasets says of a part."""
        return True if component in ("topics", "qrels", "corpus_iter") else None

    def __repr__(self) -> str:
        return "MiniCollection()"

    def __eq__(self, other: object) -> bool:
        return True if isinstance(other, MiniCollection) else NotImplemented

    def __hash__(self) -> int:
        return hash(repr(self))


class MiniText(pt.Transformer):
    """Adds the column ``text`` to any frame with docnos of the mini collection; rows keep their order."""

    schematic = {"label": "TextLoader", "help_url": None}  # noqa: RUF012 - PyTerrier's protocol, never changed

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The frame with its texts, in a new frame.

        Raises:
            InputValidationError: There is no column ``docno``.
            InputError: A docno is not in the collection.
        """
        pt.validate.columns(inp, includes=["docno"], context=self)
        docnos, texts = inp["docno"].tolist(), _passages()
        unknown = [docno for docno in dict.fromkeys(docnos) if docno not in texts]
        if unknown:
            more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
            raise InputError(
                f"the mini collection has no document {', '.join(map(repr, unknown[:3]))}{more}; "
                "load texts from the collection the documents were retrieved from"
            )
        out = inp.drop(columns="text", errors="ignore").reset_index(drop=True)
        return out.assign(text=pd.Series([texts[docno] for docno in docnos], dtype=str))

    def transform_inputs(self) -> list[list[str]]:
        """Columns it reads."""
        return [["docno"]]

    def fuse_rank_cutoff(self, k: int) -> pt.Transformer:
        """Cuts before loading texts rather than after."""
        return pt.RankCutoff(k) >> self

    def __repr__(self) -> str:
        return "MiniText()"

    def __eq__(self, other: object) -> bool:
        return True if isinstance(other, MiniText) else NotImplemented

    def __hash__(self) -> int:
        return hash(repr(self))


class MiniProvider(pt.datasets.DatasetProvider):
    """Makes ``pt.get_dataset("llmrank:mini")`` work; registered as an entry point."""

    def get_dataset(self, name: str) -> pt.datasets.Dataset:
        """The collection of this name.

        Raises:
            KeyError: There is none.
        """
        if name != "mini":
            raise KeyError(f"no dataset {name!r}; pyterrier-llmrank has {', '.join(self.list_dataset_names())}")
        return MiniCollection()

    def list_dataset_names(self) -> Iterable[str]:
        """Names that ``get_dataset`` knows."""
        return ["mini"]
