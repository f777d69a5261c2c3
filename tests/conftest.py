"""How workers of pytest-xdist share the work: each has its part of the threads, and what takes longest comes first."""

from __future__ import annotations

import os

LONG = ("test_notebooks", "test_demo")  # files that take minutes

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // int(workers)))


def pytest_configure(config):
    """Files are shared out in the order in which they come, not those with many tests first."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    """What takes longest comes first, so that no worker is left alone with it."""
    items.sort(key=lambda item: item.path.stem not in LONG)
