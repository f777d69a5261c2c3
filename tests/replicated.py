"""Which copies of a network were run, for the tests of what shares out its work."""

from __future__ import annotations

import threading


def copies_used(scorer):
    """A list of the copies that ran, by number; they wait for one another, so that none can run everything alone."""
    scorer.load()
    barrier = threading.Barrier(len(scorer._replicas), timeout=30)
    found = []
    for place, replica in enumerate(scorer._replicas):

        def note(*_, place=place):
            if place not in found:
                found.append(place)
                barrier.wait()

        replica.loaded.network.base_model.register_forward_pre_hook(note)
    return found
