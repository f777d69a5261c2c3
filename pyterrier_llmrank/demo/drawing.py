"""Draws a pipeline as a web page, also where there is no network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyterrier as pt

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>A pipeline</title>
<body>
{body}
</body>
</html>
"""


def schematic(pipeline: pt.Transformer) -> str:
    """A page of HTML that draws a pipeline; what a part is set to shows when the mouse is over it.

    PyTerrier links a part that names no page of its own to its documentation, and downloads the list of those pages
    for it. Where that fails, such parts are drawn without a link.
    """
    try:
        body = pt.schematic.draw(pipeline)
    except OSError:  # urllib's URLError is one
        with _no_documentation():
            body = pt.schematic.draw(pipeline)
    return PAGE.format(body=body)


@contextmanager
def _no_documentation() -> Iterator[None]:
    """Lets PyTerrier find its list of documentation pages empty."""
    kept = pt.documentation.objects_inv
    pt.documentation.objects_inv = _nothing
    try:
        yield
    finally:
        pt.documentation.objects_inv = kept


def _nothing() -> dict[Any, Any]:
    return {}
