"""``python -m pyterrier_llmrank``: rerankers against BM25 on the embedded collection."""

from __future__ import annotations

from pyterrier_llmrank.demo import main

if __name__ == "__main__":
    main()
