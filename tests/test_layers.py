"""Who may import whom (DESIGN: rooms and doors), read from the imports themselves."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "pyterrier_llmrank"

# what a method is made of
PARTS = {"aggregates", "core", "designs", "errors", "models", "prompts", "scorers", "strategies", "vectors"}

# room -> rooms it may import; a room is a file or folder right under the package
DOORS = {
    "_version": set(),
    "errors": set(),
    "fields": set(),
    "core": {"fields"},
    "seeds": set(),
    "flow": {"core"},
    "designs": {"core", "errors", "seeds"},
    "aggregates": {"core", "errors", "seeds"},
    "strategies": {"core", "flow", "errors", "seeds"},
    "prompts": {"core", "errors"},
    "nano": {"errors"},
    "models": {"core", "errors", "nano"},
    "networks": {"core", "errors", "models"},
    "training": {
        "_version",
        "core",
        "errors",
        "frames",
        "models",
        "networks",
        "prompts",
        "scorers",
        "seeds",
    },  # learners read as scorers do
    "students": {"core", "errors", "models", "prompts", "rerank", "scorers", "strategies", "training"},
    "vectors": {"core", "errors", "middleware", "models", "networks"},
    "scorers": {"core", "errors", "fields", "models", "networks", "prompts", "seeds", "vectors"},
    "middleware": {"_version", "core", "errors", "fields", "models", "parts"},
    "artifacts": {"core", "errors", "middleware", "vectors"},
    "pairing": {"core", "errors"},
    "parts": set(),
    "frames": {"core", "errors", "fields"},
    "columns": {"core", "errors", "frames", "parts"},
    "ledger": {"core"},
    "asking": {"core", "errors", "ledger"},
    "described": {"core"},
    "cutoff": {"described", "frames"},
    "rerank": {
        "asking",
        "columns",
        "core",
        "cutoff",
        "described",
        "errors",
        "flow",
        "frames",
        "ledger",
        "pairing",
        "parts",
        "seeds",
    },
    "adaptive": {
        "asking",
        "columns",
        "core",
        "errors",
        "flow",
        "frames",
        "ledger",
        "pairing",
        "parts",
        "strategies",
    },
    "feedback": {"columns", "core", "errors", "frames", "networks", "parts", "scorers", "training"},
    "synthesis": {"core", "errors", "training"},
    "costs": {"errors", "ledger"},
    "planning": {"core", "costs", "errors", "ledger", "middleware", "models", "parts", "rerank", "scorers", "seeds"},
    "coprompt": {"core", "errors", "models", "prompts", "scorers"},
    "distributed": {"core", "costs", "errors", "ledger", "middleware"},
    "presets": PARTS | {"rerank"},
    "methods": PARTS | {"columns", "frames", "networks", "presets", "rerank", "seeds", "training"},
    "dense": {"core", "described", "errors", "frames", "middleware", "models", "scorers", "students", "training"},
    "mini": {"errors"},
    "demo": {"costs", "errors", "methods", "mini", "models", "nano", "rerank", "scorers", "strategies"},
    "__main__": {"demo"},
}
FACES = {
    "adaptive",
    "artifacts",
    "feedback",
    "synthesis",
    "columns",
    "cutoff",
    "described",
    "rerank",
    "costs",
    "planning",
    "distributed",
    "methods",
    "presets",
    "dense",
    "mini",
    "demo",
    "students",
}  # rooms that know PyTerrier
OF_TORCH = {"networks", "training"}  # rooms whose classes are torch modules; imported inside functions themselves
HEAVY = {
    "torch",
    "transformers",
    "vllm",
    "openai",
    "aiohttp",
    "httpx2",
    "ray",
    "bm25s",
    "Stemmer",
    "pyterrier_pisa",
    "sentence_transformers",
    "pyterrier_dr",
    "peft",
    "trl",
    "datasets",
    "scipy",
    "networkx",
}

FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path, *, top_level=False):
    """Absolute names of the modules a file imports; those under ``if TYPE_CHECKING`` too, unless ``top_level``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = ".".join(["pyterrier_llmrank", *path.relative_to(PACKAGE).parent.parts])
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            yield ".".join(filter(None, [base, node.module]))


@each_file
def test_a_room_imports_only_through_its_doors(path):
    room = room_of(path)
    assert room in DOORS, f"{room} is a new room: write down what it may import"
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] == "pyterrier_llmrank" and len(parts) > 1:
            assert parts[1] in DOORS[room] | {room}, f"{room} must not import {name}"


@each_file
def test_only_faces_know_pyterrier(path):
    if room_of(path) not in FACES:
        assert not [name for name in imports_of(path) if name.split(".")[0] == "pyterrier"]


@each_file
def test_heavy_libraries_are_imported_inside_functions(path):
    if room_of(path) in OF_TORCH:
        return
    heavy = [name for name in imports_of(path, top_level=True) if name.split(".")[0] in HEAVY]
    assert not heavy, f"{path.name} imports {heavy} when the package is imported"


def test_importing_the_package_loads_nothing_heavy():
    script = f"import sys, pyterrier_llmrank; print(sorted({HEAVY!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
