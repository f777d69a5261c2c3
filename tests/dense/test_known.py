"""Published checkpoints are used as they were trained, unless the caller or their folder says otherwise."""

from __future__ import annotations

import pytest

from pyterrier_llmrank import BiEncoder
from pyterrier_llmrank.dense import DenseEncoder, DistilledRetriever, checkpoints, find
from pyterrier_llmrank.dense.known import KNOWN
from pyterrier_llmrank.models.hf.sentence import Settings, write_settings

SEARCHING = "Represent this sentence for searching relevant passages: "


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("manveertamber/cadet-embed-base-v1", Settings("mean", True, "query: ", "passage: ", 512)),
        ("intfloat/e5-base-v2", Settings("mean", True, "query: ", "passage: ", 512)),
        ("BAAI/bge-base-en-v1.5", Settings("cls", True, SEARCHING, "", 512)),
        ("Snowflake/snowflake-arctic-embed-m", Settings("cls", True, SEARCHING, "", 512)),
        ("facebook/contriever", Settings("mean", False, "", "", 512)),
        (
            "Qwen/Qwen3-Embedding-0.6B",
            Settings(
                "last",
                True,
                "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:",
                "",
                8192,
            ),
        ),
        ("sentence-transformers/all-MiniLM-L6-v2", Settings("mean", True, "", "", 256)),
    ],
)
def test_a_published_checkpoint_is_encoded_as_its_card_says(name, settings):
    assert DenseEncoder(name).bi_encoder == BiEncoder(name, **vars(settings))
    assert find(name.upper()).settings == settings


def test_no_checkpoint_is_listed_twice_and_all_are_in_the_table():
    table = checkpoints()
    assert table["checkpoint"].is_unique and len(table) == sum(len(known.names) for known in KNOWN)
    assert table.columns.tolist()[:4] == ["checkpoint", "pooling", "normalize", "query_prefix"]
    assert table["paper"].str.len().min() > 10 and find("nobody/knows") is None


def test_every_source_is_a_place_that_can_be_looked_up():
    assert all("/" in known.source and known.source != "model card" for known in KNOWN)


def test_what_is_told_counts_more_than_the_folder_and_the_folder_more_than_the_table(tmp_path):
    folder = tmp_path / "e5-base-v2"
    folder.mkdir()
    assert DenseEncoder(folder).bi_encoder.query_prefix == "query: "
    write_settings(folder, Settings("cls", False, "", "", 99), width=8)  # says no prompts, as E5's own folder
    found = DenseEncoder(folder).bi_encoder
    assert (found.pooling, found.normalize, found.max_length) == ("cls", False, 99)
    assert (found.query_prefix, found.doc_prefix) == ("query: ", "passage: ")
    write_settings(folder, Settings("cls", False, "ask: ", "", 99), width=8)
    found = DistilledRetriever(folder, pooling="last", doc_prefix="p: ").encoder.bi_encoder
    assert (found.pooling, found.query_prefix, found.doc_prefix) == ("last", "ask: ", "p: ")


def test_an_encoder_is_taken_as_it_is_but_for_what_is_told(tmp_path):
    own = BiEncoder(str(tmp_path), pooling="cls", query_prefix="a")
    assert DenseEncoder(own).bi_encoder == own
    assert DenseEncoder(own, query_prefix="", normalize=False).bi_encoder == BiEncoder(
        str(tmp_path), pooling="cls", normalize=False
    )


def test_a_folder_that_says_nothing_is_taken_for_a_normalised_mean(tmp_path):
    assert DenseEncoder(tmp_path).bi_encoder == BiEncoder(str(tmp_path))
