"""The Python of a model card: what ranks with the weights beside it, with all that it imports."""

from __future__ import annotations

import ast
from importlib import import_module

ROOMS = ("", ".prompts", ".strategies", ".scorers", ".models", ".designs", ".aggregates")  # where names are looked for


def usage(call: str, name: str = "reranker") -> str:
    """A script that runs as it is, from the folder of the card.

    Args:
        call: What it builds, of ``folder`` and of names of this package; those that are none are not imported.
        name: What it calls that.
    """
    named = {node.id for node in ast.walk(ast.parse(call, mode="eval")) if isinstance(node, ast.Name)}
    found: dict[str, list[str]] = {}
    for one in sorted(named):
        for room in (f"pyterrier_llmrank{room}" for room in ROOMS):
            if one in getattr(import_module(room), "__all__", ()):
                found.setdefault(room, []).append(one)
                break
    imports = [f"from {room} import {', '.join(found[room])}" for room in sorted(found)]
    return "\n".join([*imports, "", 'folder = "."  # the one that this card is in', f"{name} = {call}"])
