"""What prompts have in common, found on token ids."""

from __future__ import annotations

import random

import pytest

from pyterrier_llmrank.models.hf.prefixes import DEPTH, WORTH, common_prefix, prefix_tree


def tree(sequences, limits=None):
    return prefix_tree(sequences, limits or [len(row) - 1 for row in sequences])


def spelled(nodes, sequences, place):
    """The ids that a node ends with, from those of its ancestors on."""
    node = nodes[place]
    before = spelled(nodes, sequences, node.parent) if node.parent >= 0 else []
    return before + sequences[node.item][node.start : node.stop]


def random_sequences(seed):
    """Prompts with a start in common, some with more; ids are few, so that still more is by chance."""
    rng = random.Random(seed)
    start = [rng.randrange(3) for _ in range(rng.randrange(0, 30))]
    middles = [[rng.randrange(3) for _ in range(rng.randrange(0, 30))] for _ in range(3)]
    ends = [[rng.randrange(3) for _ in range(rng.randrange(1, 12))] for _ in range(rng.randrange(1, 20))]
    return [start + rng.choice(middles) + end for end in ends]


@pytest.mark.parametrize("seed", range(60))
def test_every_sequence_ends_in_one_leaf_that_spells_it(seed):
    sequences = random_sequences(seed)
    nodes = tree(sequences)
    leaves = [place for place, node in enumerate(nodes) if node.leaf]
    assert sorted(nodes[place].item for place in leaves) == list(range(len(sequences)))
    for place in leaves:
        assert spelled(nodes, sequences, place) == sequences[nodes[place].item]
        assert nodes[place].stop > nodes[place].start


@pytest.mark.parametrize("seed", range(60))
def test_parents_come_first_and_descendants_are_in_one_piece(seed):
    nodes = tree(random_sequences(seed))
    for place, node in enumerate(nodes):
        assert node.parent < place < node.end <= len(nodes)
        within = [other for other in range(len(nodes)) if place in ancestors(nodes, other)]
        assert within == list(range(place + 1, node.end))


def ancestors(nodes, place):
    while (place := nodes[place].parent) >= 0:
        yield place


@pytest.mark.parametrize("seed", range(60))
def test_nearly_all_that_can_be_shared_is(seed):
    """What is left are prefixes that save less than they are worth, once for every place where sequences part."""
    sequences = random_sequences(seed)
    nodes = tree(sequences)
    tokens = sum(node.stop - node.start for node in nodes)
    distinct = {tuple(row[: end + 1]) for row in sequences for end in range(len(row))}
    repeated = len(sequences) - len(set(map(tuple, sequences)))
    assert len(distinct) <= tokens <= len(distinct) + repeated + WORTH * len(sequences)


def test_what_is_read_is_never_shared():
    sequences = [[1] * 40, [1] * 40, [1] * 40 + [2]]
    nodes = tree(sequences, [20, 30, 40])
    leaves = {node.item: node for node in nodes if node.leaf}
    assert [leaves[item].start <= limit for item, limit in enumerate([20, 30, 40])] == [True] * 3


def test_rows_of_pairs_share_instruction_query_and_first_document():
    instruction, queries = [9] * 10, [[8, q] * 5 for q in range(2)]
    docs = [[7, d] * 6 for d in range(3)]
    sequences = [
        instruction + query + one + other for query in queries for one in docs for other in docs if one != other
    ]
    nodes = tree(sequences)
    inner = [(node.start, node.stop) for node in nodes if not node.leaf]
    assert inner == [(0, 11), *([(11, 20)] + [(20, 33)] * 3) * 2] or len(inner) == 1 + 2 + 6
    assert max(len(list(ancestors(nodes, place))) for place in range(len(nodes))) == 3


def test_nothing_to_share_is_no_inner_node():
    assert prefix_tree([], []) == []
    assert [(node.start, node.stop, node.parent, node.leaf) for node in tree([[1, 2], [3, 4]])] == [
        (0, 2, -1, True),
        (0, 2, -1, True),
    ]


def test_deeply_nested_prefixes_end():
    sequences = [list(range(length)) for length in range(1, 600)]
    nodes = tree(sequences)
    assert sum(node.leaf for node in nodes) == 599
    assert max(len(list(ancestors(nodes, place))) for place in range(len(nodes))) <= DEPTH


@pytest.mark.parametrize("seed", range(30))
def test_common_prefixes_are_counted(seed):
    rng = random.Random(seed)
    one, other = ([rng.randrange(2) for _ in range(rng.randrange(0, 12))] for _ in range(2))
    limit = rng.choice([None, rng.randrange(0, 12)])
    alike = 0
    while alike < min(len(one), len(other)) and one[alike] == other[alike]:
        alike += 1
    assert common_prefix(one, other, limit) == (alike if limit is None else min(alike, limit))
