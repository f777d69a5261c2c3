"""Folders of sentence-transformers are read as that library reads them, and written so that it reads them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import transformers
from tiny import byte_tokenizer, saved

from pyterrier_llmrank.errors import ConfigurationError, ModelError
from pyterrier_llmrank.models.hf.hub import Where
from pyterrier_llmrank.models.hf.sentence import Settings, settings_of, settings_on_hub, write_settings
from pyterrier_llmrank.scorers import BiEncoder

TEXTS = ["the cat", "the mat Yes No the cat the mat, and then some more of it", "No"]
WIDTH = 32


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A random BERT of two layers, without a word on pooling."""
    tokenizer = byte_tokenizer(post="<|bos|> $A <|end|>")
    sizes = {"hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.BertConfig(**sizes, vocab_size=len(tokenizer), initializer_range=0.4, pad_token_id=0)
    return saved(tmp_path_factory.mktemp("bert"), tokenizer, config, transformers.AutoModel)


@pytest.fixture
def folder(plain, tmp_path):
    """A copy of it to write to."""
    import shutil

    return shutil.copytree(plain, tmp_path / "bert")


@pytest.mark.parametrize(
    "settings",
    [
        Settings("mean", True, "query: ", "passage: ", 16),
        Settings("cls", False, "", "", None),
        Settings("last", True, "ask ", "", 12),
    ],
    ids=lambda one: one.pooling,
)
def test_what_is_written_is_read_back_and_gives_sentence_transformers_the_same_vectors(folder, settings):
    from sentence_transformers import SentenceTransformer

    write_settings(folder, settings, width=WIDTH)
    assert settings_of(folder) == settings
    theirs = SentenceTransformer(str(folder), device="cpu")
    ours = BiEncoder(
        str(folder),
        pooling=settings.pooling,
        normalize=settings.normalize,
        query_prefix=settings.query_prefix,
        doc_prefix=settings.doc_prefix,
        max_length=settings.max_length,
        device="cpu",
    )
    np.testing.assert_allclose(ours.encode(TEXTS, ours.query_prefix)[0], theirs.encode_query(TEXTS), atol=2e-6)
    np.testing.assert_allclose(ours.encode(TEXTS, ours.doc_prefix)[0], theirs.encode_document(TEXTS), atol=2e-6)


def test_what_sentence_transformers_saves_today_is_read(folder, tmp_path):
    from sentence_transformers import SentenceTransformer

    write_settings(folder, Settings("last", True, "q ", "d ", None), width=WIDTH)
    SentenceTransformer(str(folder), device="cpu").save(str(tmp_path / "again"))
    assert settings_of(tmp_path / "again") == Settings("last", True, "q ", "d ", None)


def test_a_folder_that_says_nothing_has_no_settings(plain, tmp_path):
    assert settings_of(plain) is None
    assert settings_of(tmp_path / "none") is None


def test_a_prompt_for_everything_goes_before_both(folder):
    write_settings(folder, Settings(), width=WIDTH)
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"sts": "compare: ", "passage": "p: "}, "default_prompt_name": "sts"})
    )
    assert settings_of(folder) == Settings(query_prefix="compare: ", doc_prefix="p: ")


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        (
            "modules.json",
            [{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}],
            "a module Dense .* which BiEncoder does not have",
        ),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "pools tokens by max_tokens"),
        ("1_Pooling/config.json", {"pooling_mode": ["cls", "mean"]}, r"pools tokens by cls \+ mean"),
        ("1_Pooling/config.json", {"pooling_mode": "mean", "include_prompt": False}, "mean, prompts left out"),
        ("sentence_bert_config.json", {"do_lower_case": True}, "lower-cases texts"),
    ],
)
def test_what_a_bi_encoder_does_not_do_is_refused(folder, file, content, told):
    write_settings(folder, Settings(), width=WIDTH)
    (folder / file).write_text(json.dumps(content))
    with pytest.raises(ConfigurationError, match=told):
        settings_of(folder)


def test_a_name_on_the_hub_is_asked_for_the_same_files(folder, monkeypatch):
    asked = []

    def fetched(name, *, allow_patterns, local_files_only):
        asked.append((name, allow_patterns, local_files_only))
        return str(folder)

    write_settings(folder, Settings("cls", False, "q: ", "", 12), width=WIDTH)
    monkeypatch.setattr("huggingface_hub.snapshot_download", fetched)
    for found, settings in ((Where.HUB, Settings("cls", False, "q: ", "", 12)), (Where.UNREACHABLE, None)):
        monkeypatch.setattr("pyterrier_llmrank.models.hf.sentence.where", lambda *_, found=found: found)
        assert settings_on_hub("owner/name") == settings
    [(name, patterns, _)] = asked
    assert name == "owner/name" and "modules.json" in patterns and not any("safetensors" in one for one in patterns)


def test_a_file_that_is_no_json_is_named(folder):
    (folder / "modules.json").write_text("[{")
    with pytest.raises(ModelError, match=r"modules\.json cannot be read"):
        settings_of(folder)
