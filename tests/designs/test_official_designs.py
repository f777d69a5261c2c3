"""Designs against recorded runs of official code. Where they differ, the test says why."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

from shared_data import parity

from pyterrier_llmrank.designs import (
    all_ordered_pairs,
    all_pairs,
    equi_replicate,
    grouped_pairs,
    latin,
    random_pairs,
    triangular,
    window_pairs,
)


def turned(pairs):
    """Pairs with the other document first: the official samplers go through the list from its end."""
    return sorted((second, first) for first, second in pairs)


def occurrences(groups):
    return Counter(i for group in groups for i in group)


def check_full(case, pairs):
    if case["method"] == "product":
        assert sorted(all_ordered_pairs(case["n"])) == pairs
    else:
        assert turned(all_pairs(case["n"])) == pairs


def check_windowed(case, pairs):
    """Each pair once: theirs repeats pairs where a long window comes round to them again."""
    ours = window_pairs(case["window_size"], case["dilation"])(case["n"])
    assert turned(ours) == sorted(set(pairs))


def check_grouped_prior(case, pairs):
    """Each pair once: theirs repeats a pair where one group wraps round to itself."""
    ours = grouped_pairs(case["n"] // min(case["k"], case["n"]), wrap=case["cyclical"])(case["n"])
    assert ours == sorted(set(pairs))


def check_random_per_item(case, pairs):
    """As many opponents, all different, for each; others, as theirs come from another random generator."""
    per_doc = round(case["frac"] * (case["n"] - 1))
    ours = random_pairs(per_doc, case["np_seed"])(case["n"]) if per_doc else []
    assert Counter(first for first, _ in ours) == Counter(first for first, _ in pairs)
    assert len(set(ours)) == len(ours) == len(pairs)


def test_pairs_are_those_of_the_official_samplers():
    checks = {
        "full": check_full,
        "windowed": check_windowed,
        "grouped_prior": check_grouped_prior,
        "random_per_item": check_random_per_item,
    }
    compared = Counter()
    for case in parity("ictir22_sampling")["cases"]:
        checks[case["sampler"]](case, sorted(map(tuple, case["pairs"])))
        compared[case["sampler"]] += 1
    assert compared.keys() == checks.keys()


def test_window_widths_of_the_published_rates():
    recorded = parity("ictir22_sampling")["structured_window_for_rate_k50"]
    for rate, width in recorded.items():
        assert int(float(rate) * 49) == width
        assert len(window_pairs(width)(50)) == 50 * width


def test_regular_block_designs_are_the_official_ones():
    compared = Counter()
    for case in parity("jointrank")["designs"]:
        n, size = case["total_items"], case["block_size"]
        design = {"latin": latin, "triangular": triangular}.get(case["design"])
        if design:
            assert design(size)(n) == list(map(tuple, case["blocks"]))
            compared[case["design"]] += 1
    assert compared.keys() == {"latin", "triangular"}


def test_random_block_designs_have_the_official_size_and_never_less_coverage():
    """The blocks themselves come from another random generator. Theirs drops what is left over; some lose a block."""
    compared = Counter()
    for case in parity("jointrank")["designs"]:
        if case["design"] not in ("equi_replicate", "replicate"):
            continue
        n, size, copies = case["total_items"], case["block_size"], case["replicas"]
        ours = equi_replicate(size, copies, case["seed"])(n)
        assert min(occurrences(ours).values()) == copies
        if copies * n % min(size, n) == 0:
            assert sorted(map(len, ours)) == sorted(map(len, case["blocks"]))
            assert occurrences(ours) == occurrences(case["blocks"])
            compared["the same"] += 1
        else:
            assert len(ours) == len(case["blocks"]) + 1
            assert min(occurrences(case["blocks"])[i] for i in range(n)) < copies
            compared["one block more"] += 1
    assert compared.keys() == {"the same", "one block more"}


def test_designs_are_regular_where_the_official_ones_apply_and_fill_up_otherwise():
    for case in parity("jointrank")["applicability"]:
        n, size = case["v"], case["k"]
        rows, corners = latin(size)(n), triangular(size)(n)
        assert ([len(block) for block in rows] == [size] * 2 * size) == case["latin"]
        assert ([len(block) for block in corners] == [size] * (size + 1)) == case["triangular"]
        if case["triangular"]:
            assert all(len(set(one) & set(other)) == 1 for one, other in combinations(corners, 2))
        for copies in (2, 3, 4):
            blocks = equi_replicate(size, copies)(n)
            assert all(len(block) == min(size, n) for block in blocks) == case[f"equi{copies}"]


def test_no_document_gets_fewer_blocks_than_asked_for():
    """Official code gives some documents one block of two here."""
    assert parity("jointrank")["replicate_v23_k5_r2_coverage"]["min_over_200_seeds"] == 1
    for seed in range(200):
        assert set(occurrences(equi_replicate(5, 2, seed)(23)).values()) == {2}
