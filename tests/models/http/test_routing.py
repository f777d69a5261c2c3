"""Which server is sent what: what begins alike stays together, none has much more than its share."""

from __future__ import annotations

import math
import random

import pytest

from pyterrier_llmrank.models.http.routing import ALONE, BLOCK, SPARE, beginnings, homes

SERVERS = [f"http://gpu-{i}:8000/v1" for i in range(4)]
NONE = [0, 0, 0, 0]


def text(n, rng):
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz ") for _ in range(n))


def pointwise(queries, docs, seed=0):
    """Prompts of an instruction, a query and a passage, query by query."""
    rng = random.Random(seed)
    instruction = text(300, rng)
    return [
        [f"{instruction} {query} {text(400, rng)}" for _ in range(docs)]
        for query in (text(90, rng) for _ in range(queries))
    ]


@pytest.mark.parametrize("n", [0, 1, 2, 7, 1000])
def test_no_server_has_much_more_than_its_share(n):
    rng = random.Random(n)
    for texts in ([text(600, rng) for _ in range(n)], ["the same " * 90] * n):
        found = homes(texts, SERVERS, NONE)
        assert len(found) == n and max(map(found.count, range(4)), default=0) <= math.ceil(SPARE * n / 4)


def test_documents_of_a_query_go_to_one_server():
    queries = pointwise(40, 20)
    found = iter(homes([one for own in queries for one in own], SERVERS, NONE))
    used = [len({next(found) for _ in own}) for own in queries]
    assert sum(n == 1 for n in used) >= 30  # the others were over a share's bound


def test_what_a_server_has_to_do_already_counts():
    rng = random.Random(0)
    found = homes([text(600, rng) for _ in range(40)], SERVERS, [0, 0, 0, 100])
    assert found.count(3) == 0 or found.count(3) < 10
    assert homes(["x" * 600] * 4, SERVERS, [50, 50, 50, 0]).count(3) == 4


def test_a_query_finds_its_server_again_in_another_call():
    """Also in another process: nothing is remembered."""
    [own] = pointwise(1, 30)
    loads = [100] * 4  # so that a share's bound is far
    [one] = {*homes(own[:10], SERVERS, loads)}
    assert {*homes(own[10:], SERVERS, loads)} == {one}
    assert {*homes(own[::-1], SERVERS, loads)} == {one}


def test_few_move_when_a_server_goes():
    rng, loads = random.Random(0), [1000] * 4
    texts = [text(600, rng) for _ in range(200)]
    before = homes(texts, SERVERS, loads)
    after = homes(texts, SERVERS[:3], loads[:3])
    assert all(one == other for one, other in zip(before, after, strict=True) if one != 3)
    assert {0, 1, 2} == {other for one, other in zip(before, after, strict=True) if one == 3}


def test_a_text_is_known_by_what_it_shares_in_whole_blocks():
    shared = "s" * (2 * BLOCK + 5)
    assert beginnings([f"{shared}a{'x' * 99}", f"{shared}b{'y' * 99}", "alone" * 99, ""]) == [
        2 * BLOCK,
        2 * BLOCK,
        ALONE,
        ALONE,
    ]
    assert beginnings(["\ud800" * 100] * 2) == [BLOCK, BLOCK]  # half a character, as broken files have
