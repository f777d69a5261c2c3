"""An index that is killed while it is built, again and again."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from pyterrier_llmrank.dense.indexed import flex_index, metadata
from pyterrier_llmrank.errors import ConfigurationError

PROGRAM = Path(__file__).with_name("indexing_slowly.py")


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_and_ends_whole(tmp_path):
    pytest.importorskip("pyterrier_dr")
    index, rng, begun = tmp_path / "index", random.Random(0), []
    for kill in range(20):
        program = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(index)], stdout=subprocess.PIPE, text=True, bufsize=1
        )
        with program.stdout as told:
            for chunk in range(rng.randrange(1, 4)):
                if not (line := told.readline()):
                    break
                begun.append(int(line))
                if chunk == 0 and kill:
                    assert begun[-1] >= begun[-2]
            program.kill()
        program.wait()
        if index.exists():
            break
        with pytest.raises(ConfigurationError, match="there is no index"):
            metadata(index)
    assert kill > 2 and metadata(index)["doc_count"] == 40
    found = [(one["docno"], float(one["doc_vec"][0])) for one in flex_index(index).get_corpus_iter()]
    assert found == [(f"d{i}", float(i)) for i in range(40)]
