"""What the README shows runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pyterrier as pt
import pytest

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def block(word):
    """The one block that holds a word."""
    (found,) = (block for block in BLOCKS if word in block)
    return found


def frame(n=25):
    rows = [("q1", "which is short", f"d{i}", "word " * (i + 1), n - i, i) for i in range(n)]
    return pd.DataFrame(rows, columns=["qid", "query", "docno", "text", "score", "rank"])


def run(code):
    """Executes a block and returns its names, with the value of its last line as ``_``."""
    *lines, last = code.rstrip().split("\n")
    names = {}
    exec("\n".join([*lines, f"_ = {last.split('#')[0]}"]), names)
    return names


@pytest.mark.filterwarnings("ignore::pyterrier_llmrank.LLMRankWarning")  # random weights write no order
def test_five_lines_rank_and_count(tmp_path):
    pytest.importorskip("bm25s")
    tiny = pytest.importorskip("tiny")
    tokenizer = tiny.byte_tokenizer(chat=tiny.CHATML)
    folder = tiny.decoder(tmp_path, tokenizer, max_position_embeddings=2048, hidden_size=16)
    code = block("first_stage").replace("Qwen/Qwen3-1.7B", folder)
    if not _entry_point():
        code = code.replace(
            'pt.get_dataset("llmrank:mini")', "__import__('pyterrier_llmrank.mini').mini.MiniCollection()"
        )
    ledger = run(code)["_"]
    assert len(ledger) == 24 and (ledger["calls"] >= 1).all() and ledger["prompt_tokens"].gt(0).all()


def _entry_point():
    from importlib.metadata import entry_points

    return bool(entry_points(group="pyterrier.dataset_provider", name="llmrank"))


def test_own_strategy_and_scorer_rank_the_first_ten_by_length():
    out = run(block("best_of_ten"))["_"](frame()[::-1].reset_index(drop=True).assign(rank=range(25)))
    assert out["text"].str.len().tolist() == sorted(5 * i for i in range(16, 26)) + [5 * i for i in range(15, 0, -1)]


def test_a_pipeline_on_a_server_is_built_before_the_server_is_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    windows, cutoff, pairs = run(block("served = OpenAIModel"))["_"]
    assert windows.scorer.model is pairs.scorer.scorer.model and cutoff.k == 20
    assert not list(tmp_path.iterdir()), "nothing was asked, so nothing is kept"


def test_published_rerankers_are_built_by_name_and_counted():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    names = run(block("presets.rank_zephyr"))
    assert len(names["_"]) == int(re.search(r"^(\d+) presets are there", text, re.MULTILINE)[1])
    from pyterrier_llmrank import ListwiseLLM

    assert ListwiseLLM("castorini/rank_zephyr_7b_v1_full").scorer == names["presets"].rank_zephyr().scorer


def test_every_method_of_the_table_can_be_built(tmp_path):
    import pyterrier_llmrank as library

    rows = re.findall(r"^\| [^|]+ \| `([^`]+)` \|$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    (tmp_path / "log.jsonl").write_text('{"qid": "1", "docnos": ["a"], "ranking": ["a"]}\n', encoding="utf-8")
    scorer = library.BiEncoder(str(tmp_path))
    given = {"model": str(tmp_path), "name": str(tmp_path), "scorer": scorer}
    for part in ("decoder", "compressor"):  # of RRK
        (tmp_path / part).mkdir()
    given |= {"graph": {}, "loader": pt.Transformer.identity()}
    for code in rows:
        for file in ("log.jsonl", "vectors.sqlite", "folder"):
            code = code.replace(f'"{file}"', repr((tmp_path / file).as_posix()))
        assert isinstance(eval(code, vars(library) | given), pt.Transformer), code
    assert len(rows) >= 35
