"""What every design promises, and what each promises by itself."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import fields, replace
from itertools import combinations
from math import ceil

import pytest

from pyterrier_llmrank import designs
from pyterrier_llmrank.designs import (
    all_ordered_pairs,
    all_pairs,
    cycles,
    equi_replicate,
    grouped_pairs,
    latin,
    random_blocks,
    random_pairs,
    shuffled_groups,
    triangular,
    window_pairs,
)
from pyterrier_llmrank.designs.drawing import connected
from pyterrier_llmrank.errors import ConfigurationError

SIZES = [*range(0, 31), 41, 55, 60, 100, 101]

LINKED = [  # designs that promise a chain of groups between every two documents
    all_pairs,
    all_ordered_pairs,
    random_pairs(),
    random_pairs(1),
    window_pairs(1),
    window_pairs(14),
    grouped_pairs(1),
    grouped_pairs(5),
    grouped_pairs(5, wrap=True),
    grouped_pairs(4, shuffled=True),
    cycles(),
    cycles(1),
    *(latin(size) for size in (2, 3, 5, 10)),
    *(triangular(size) for size in (2, 3, 5, 10)),
    *(
        design(size, copies)
        for design in (equi_replicate, random_blocks)
        for size in (2, 3, 5, 20)
        for copies in (2, 4)
    ),
]
EVERY = [
    *LINKED,
    window_pairs(3, dilation=2),
    window_pairs(200, 7),
    shuffled_groups(),
    *map(shuffled_groups, (2, 3, 7)),
]
DRAWN = [design for design in EVERY if hasattr(design, "seed")]


def named(design):
    return getattr(design, "__name__", None) or repr(design)


each_design = pytest.mark.parametrize("design", EVERY, ids=named)
each_drawn = pytest.mark.parametrize("design", DRAWN, ids=named)
each_size = pytest.mark.parametrize("n", SIZES)


def occurrences(groups):
    return Counter(i for group in groups for i in group)


# -- every design -----------------------------------------------------------------------------------------------------


def test_every_design_is_tried_here():
    assert {named(design).split("(")[0] for design in EVERY} == set(designs.__all__)


@each_design
def test_groups_hold_distinct_valid_documents_and_are_small_enough(design):
    largest = getattr(design, "group_size", 2)
    for n in SIZES:
        for group in design(n):
            assert type(group) is tuple and all(type(i) is int for i in group)
            assert 2 <= len(set(group)) == len(group) <= largest
            assert 0 <= min(group) and max(group) < n


@each_design
def test_no_document_is_left_out_of_two_or_more(design):
    assert design(0) == design(1) == []
    for n in SIZES[2:]:
        assert set(occurrences(design(n))) == set(range(n))


@pytest.mark.parametrize("design", LINKED, ids=named)
def test_every_two_documents_are_linked(design):
    assert all(connected(n, design(n)) for n in SIZES)


@each_drawn
def test_the_seed_decides_which_groups_but_never_how_many(design):
    for n in SIZES:
        other = replace(design, seed=1)
        assert design(n) == replace(design)(n)
        assert len(design(n)) == len(other(n))
    draws = [replace(design, seed=seed)(30) for seed in range(5)]
    changing = not isinstance(design, grouped_pairs) or design.shuffled
    assert any(draw != draws[0] for draw in draws) == changing


@each_design
def test_a_design_is_a_value(design):
    assert pickle.loads(pickle.dumps(design)) == design
    assert hash(pickle.loads(pickle.dumps(design))) == hash(design)
    if design not in (all_pairs, all_ordered_pairs):
        assert eval(repr(design)) == design
        assert replace(design, **{fields(design)[0].name: 99}) != design


def test_repr_is_the_call_that_rebuilds_it():
    assert repr(random_pairs(8, seed=0)) == "random_pairs()"
    assert repr(equi_replicate(20, copies=2)) == "equi_replicate(20, copies=2)"
    assert repr(window_pairs(14)) == "window_pairs(14)"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: random_pairs(0), "random_pairs needs per_doc of at least 1, got per_doc=0; 8 is usual"),
        (lambda: window_pairs(0), "window_pairs needs width of at least 1, got width=0"),
        (lambda: window_pairs(1, 0), "window_pairs needs dilation of at least 1, got dilation=0"),
        (lambda: grouped_pairs(0), "grouped_pairs needs size of at least 1, got size=0"),
        (lambda: cycles(0), "cycles needs count of at least 1, got count=0; 4 is usual"),
        (lambda: latin(1), "latin needs size of at least 2, got size=1"),
        (lambda: triangular(1), "triangular needs size of at least 2, got size=1"),
        (lambda: equi_replicate(1), "equi_replicate needs size of at least 2, got size=1"),
        (lambda: equi_replicate(10, 1), "needs copies of at least 2, got copies=1.*use shuffled_groups"),
        (lambda: random_blocks(1), "random_blocks needs size of at least 2, got size=1"),
        (lambda: random_blocks(10, 1), "needs copies of at least 2, got copies=1.*use shuffled_groups"),
        (lambda: shuffled_groups(1), "needs size of at least 2, got size=1.*use Pointwise"),
        (lambda: shuffled_groups(epochs=0), "needs epochs of at least 1, got epochs=0; 2 is usual"),
    ],
)
def test_impossible_arguments_are_refused_with_a_remedy(build, message):
    with pytest.raises(ConfigurationError, match=message):
        build()


# -- pairs ------------------------------------------------------------------------------------------------------------


@each_size
def test_all_ordered_pairs_are_all_pairs_in_both_orders(n):
    pairs = all_ordered_pairs(n)
    assert len(pairs) == len(set(pairs)) == n * (n - 1)
    assert {(min(pair), max(pair)) for pair in pairs} == set(all_pairs(n))


@each_size
@pytest.mark.parametrize("per_doc", [1, 2, 8, 50])
def test_random_pairs_show_each_document_first_equally_often_and_repeat_no_pair(n, per_doc):
    pairs = random_pairs(per_doc)(n)
    assert len(pairs) == len(set(pairs)) == n * min(per_doc, max(0, n - 1))
    assert set(Counter(first for first, _ in pairs).values()) <= {min(per_doc, n - 1)}


def test_random_pairs_choose_every_opponent_equally_often():
    drawn = Counter(pair for seed in range(400) for pair in random_pairs(2, seed)(6))
    assert drawn.keys() == set(all_ordered_pairs(6))  # each with probability 2 / 5
    assert all(120 <= count <= 200 for count in drawn.values())


@each_size
@pytest.mark.parametrize(("width", "dilation"), [(1, 1), (2, 1), (3, 2), (4, 3), (14, 1), (200, 7)])
def test_a_window_shows_each_document_first_as_often_as_second(n, width, dilation):
    pairs = window_pairs(width, dilation)(n)
    assert len(set(pairs)) == len(pairs)
    assert Counter(first for first, _ in pairs) == Counter(second for _, second in pairs)
    assert all((second - first) % n % dilation == 0 for first, second in pairs if n > width * dilation)


def test_a_window_goes_round_the_end():
    assert window_pairs(2)(5) == [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (2, 4), (3, 4), (3, 0), (4, 0), (4, 1)]
    assert sorted(window_pairs(4)(5)) == all_ordered_pairs(5)


def test_a_window_that_would_meet_nobody_meets_its_neighbours():
    assert window_pairs(1, dilation=3)(3) == window_pairs(1)(3) == [(0, 1), (1, 2), (2, 0)]


def test_groups_of_neighbours_meet_inside_and_the_next_group():
    assert grouped_pairs(2)(5) == [
        *[(0, 1), (0, 2), (1, 2), (1, 3), (1, 4)],
        *[(2, 1), (2, 3), (2, 4), (3, 4), (4, 3)],
    ]
    assert set(grouped_pairs(2, wrap=True)(5)) - set(grouped_pairs(2)(5)) == {(3, 0), (4, 0)}
    assert grouped_pairs(5)(5) == grouped_pairs(5, wrap=True)(5) == all_ordered_pairs(5)


def test_shuffled_groups_of_pairs_ask_as_many_pairs_as_groups_of_neighbours():
    for n in SIZES:
        assert len(grouped_pairs(4, shuffled=True)(n)) == len(grouped_pairs(4)(n))


@each_size
@pytest.mark.parametrize("count", [1, 4])
def test_each_cycle_visits_every_document_once(n, count):
    pairs = cycles(count)(n)
    assert len(pairs) == (count * n if n > 1 else 0)  # 4 n judgments for zELO
    for start in range(0, len(pairs), max(n, 1)):
        order = [second for _, second in pairs[start : start + n]]
        assert sorted(order) == list(range(n))
        assert pairs[start : start + n] == [(order[i - 1], order[i]) for i in range(n)]


# -- blocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3, 5, 10])
def test_a_list_that_fits_one_block_is_one_block(size):
    for n in range(2, size + 1):
        assert latin(size)(n) == triangular(size)(n) == [tuple(range(n))]


@pytest.mark.parametrize("design", [all_pairs, latin(4), triangular(4)], ids=named)
def test_designs_that_do_not_draw_show_documents_in_input_order(design):
    assert all(list(group) == sorted(group) for n in SIZES for group in design(n))


def test_latin_leaves_the_holes_of_the_smallest_square_out():
    assert latin(4)(7) == [(0, 1, 2), (3, 4, 5), (0, 3, 6), (1, 4), (2, 5)]
    for n in range(11, 101):
        width = next(w for w in range(n) if w * w >= n)
        assert max(map(len, latin(10)(n))) == width
        assert width + n // width <= len(latin(10)(n)) <= width + ceil(n / width)


def test_latin_takes_further_dimensions_when_a_square_is_too_small():
    blocks = latin(3)(27)
    assert len(blocks) == 27 and set(map(len, blocks)) == {3}
    assert set(occurrences(blocks).values()) == {3}
    assert (0, 9, 18) in blocks and (0, 3, 6) in blocks and (0, 1, 2) in blocks


@pytest.mark.parametrize("size", [2, 3, 4, 7, 10])
def test_triangular_puts_each_document_in_two_blocks_and_two_blocks_share_one_document_at_most(size):
    for n in [n for n in SIZES if n > size]:
        blocks = triangular(size)(n)
        assert set(occurrences(blocks).values()) == {2}
        assert all(len(set(one) & set(other)) <= 1 for one, other in combinations(blocks, 2))
        assert max(map(len, blocks)) - min(map(len, blocks)) <= 2
        fewest = max(ceil(((1 + 8 * n) ** 0.5 + 1) / 2), ceil(2 * n / size))
        assert fewest <= len(blocks) <= fewest + 1


@pytest.mark.parametrize("copies", [2, 3, 4])
@pytest.mark.parametrize("size", [2, 3, 5, 20])
def test_equi_replicate_puts_each_document_in_equally_many_equal_blocks(size, copies):
    for n in SIZES[2:]:
        blocks, places = equi_replicate(size, copies, seed=n)(n), copies * n
        assert len(blocks) == ceil(places / min(size, n))
        assert max(map(len, blocks)) - min(map(len, blocks)) <= 1
        spare = places % 2 if size == 2 else 0  # an odd number of places cannot be cut in pairs
        assert sorted(occurrences(blocks).values()) == [copies] * (n - spare) + [copies + 1] * spare


@pytest.mark.parametrize("design", [equi_replicate, random_blocks])
def test_drawn_blocks_show_documents_in_random_order(design):
    assert any(list(block) != sorted(block) for block in design(5)(30))
    short = design(20, copies=3)(12)
    assert [sorted(block) for block in short] == [list(range(12))] * 3
    assert len(set(short)) == 3


@pytest.mark.parametrize("copies", [2, 4])
@pytest.mark.parametrize("size", [2, 3, 5, 20])
def test_random_blocks_are_full_and_begin_with_a_chain(size, copies):
    for n in SIZES[2:]:
        blocks, full = random_blocks(size, copies, seed=n)(n), min(size, n)
        assert len(blocks) == ceil(copies * n / full)
        assert {len(block) for block in blocks} == {full}
        chain = blocks[: ceil((n - 1) / (full - 1))]
        assert connected(n, chain)


# -- groups -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epochs", [1, 2, 3])
@pytest.mark.parametrize("size", [2, 3, 10])
def test_each_epoch_cuts_the_whole_list_in_equal_groups(size, epochs):
    for n in SIZES[2:]:
        groups, parts = shuffled_groups(size, epochs, seed=n)(n), ceil(n / size)
        assert len(groups) == epochs * parts
        for start in range(0, len(groups), parts):
            epoch = groups[start : start + parts]
            assert max(map(len, epoch)) - min(map(len, epoch)) <= 1
            spare = n % 2 if size == 2 else 0
            assert sorted(occurrences(epoch).values()) == [1] * (n - spare) + [2] * spare


# -- links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "groups", "linked"),
    [
        (0, [], True),
        (1, [], True),
        (2, [], False),
        (4, [(0, 1), (2, 3)], False),
        (4, [(0, 1), (2, 3), (3, 0)], True),
        (5, [(4, 3, 2), (0, 1), (1, 4)], True),
        (6, [(4, 3, 2), (0, 1), (1, 4)], False),
    ],
)
def test_documents_are_linked_by_chains_of_groups(n, groups, linked):
    assert connected(n, groups) is linked
