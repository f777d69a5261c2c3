"""Networks of our own, as torch modules: each file imports torch, and is imported where it is needed."""

from __future__ import annotations
