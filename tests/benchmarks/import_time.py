"""Seconds that ``import pyterrier_llmrank`` takes beyond ``import pyterrier``.

    python tests/benchmarks/import_time.py [--runs 7] [--save NAME]

Each import runs in a process of its own, the two in turns, with modules compiled before, as they are wherever Python
may write bytecode. Target: under 0.3 s.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile

from models import save_results

MODULES = ("pyterrier", "pyterrier_llmrank")  # the second imports the first
CODE = "import time; began = time.perf_counter(); import {module}; print(time.perf_counter() - began)"


def seconds(module, compiled):
    """Of one import, in a fresh process; ``compiled`` is where bytecode goes."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled, "PYTHONDONTWRITEBYTECODE": ""}
    command = [sys.executable, "-c", CODE.format(module=module)]
    return float(subprocess.check_output(command, text=True, env=environment))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--save", metavar="NAME", help="keep the figures under this name")
    options = parser.parse_args()
    runs = {module: [] for module in MODULES}
    with tempfile.TemporaryDirectory() as compiled:
        for module in MODULES:
            seconds(module, compiled)  # warm up: bytecode and the disk's cache
        for _ in range(options.runs):
            for module in MODULES:
                runs[module].append(seconds(module, compiled))
    base, ours = (statistics.median(runs[module]) for module in MODULES)
    print(
        f"pyterrier {base:.3f} s, pyterrier_llmrank {ours:.3f} s: {ours - base:.3f} s beyond, median of {options.runs}"
    )
    if options.save:
        save_results(options.save, [{"pyterrier_s": base, "pyterrier_llmrank_s": ours, "beyond_s": ours - base}])


if __name__ == "__main__":
    main()
