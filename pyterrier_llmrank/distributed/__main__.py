"""``python -m pyterrier_llmrank.distributed module:factory in.parquet out``: a worker, such as a task of an array."""

from __future__ import annotations

from .command import main

if __name__ == "__main__":
    main()
