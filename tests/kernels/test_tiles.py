"""Losses over tiles of distances: native equals eager, and the kernels' own edges."""

import itertools

import pytest
import torch
from both import Draw
from hypothesis import given, settings
from hypothesis import strategies as st

import equipoise
from equipoise import kernels
from equipoise.kernels import tiles
from equipoise.ranking import _call, _forms, _mine, _sweep

FEW = 32
"""Of csrc/pairs.cpp: more positives take another path."""

RULES = ("all", "all_soft", "semihard", "semihard_soft", "contrastive", "softmax")
DISTANCES = ("euclidean", "squared_euclidean", "cosine")
TRIPLES = [
    *((rule, distance) for rule in RULES[:-1] for distance in DISTANCES),
    ("softmax", "similarity"),
]
BUDGET = 60_000
"""Of bytes: some rows, so that there are several tiles."""


def tensors_of(draw, kind, rows, classes):
    """Anchors, pool, reference, and what else a call needs, of the three ways to say who belongs together."""
    anchors = draw.scores(rows, 5) / 4
    label = draw.classes(classes, rows)
    if kind == "labels":
        return (anchors, anchors, None), (None, label, label, None, None, 0)
    bank, known = draw.scores(9, 5) / 4, torch.cat([label, draw.classes(classes, 9)])
    scale = draw.weights(9).to(anchors.dtype) + 0.1
    if kind == "reference":
        return (anchors, anchors, bank), (scale, label, known, None, None, 0)
    alike = label[:, None] == known
    return (anchors, anchors, bank), (
        scale,
        None,
        None,
        alike & draw.mask(*alike.shape),
        ~alike & draw.mask(*alike.shape),
        0,
    )


def swept(embeddings, partners, rule, distance, power=2.0):
    """Sum and numbers, and the three gradients."""
    first, second, third = embeddings
    call = _call.Call(*partners, rule, distance, 0.3, power, BUDGET)
    return _sweep.OPERATOR(first, second, third, *call, True, True, third is not None)


def widened(each):
    return each.double() if isinstance(each, torch.Tensor) and each.is_floating_point() else each


def assert_same(embeddings, partners, rule, distance, power=2.0):
    assert _forms.is_native(embeddings[0])
    found = swept(embeddings, partners, rule, distance, power)
    is_double = embeddings[0].dtype == torch.float64
    with kernels.eager():
        expected = swept(*(tuple(map(widened, each)) for each in (embeddings, partners)), rule, distance, power)
    assert torch.equal(found[1], expected[1])
    for name, mine, wanted in zip(
        ("value", "anchors", "pool", "reference"), (found[0], *found[2:]), (expected[0], *expected[2:]), strict=True
    ):
        scale = float(wanted.abs().max()) if wanted.numel() else 0.0
        tolerance = 1e-12 if is_double else 2e-5
        torch.testing.assert_close(
            mine.double(), wanted, rtol=tolerance, atol=tolerance * scale, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("kind", ["labels", "reference", "masks"])
@pytest.mark.parametrize(
    ("rule", "distance", "dtype"),
    [
        *((*each, torch.float64) for each in TRIPLES),
        # with float32 a rounding would decide which negative is the nearest: see the selections below
        *((*each, torch.float32) for each in TRIPLES if not each[0].startswith("semihard")),
    ],
)
def test_native_equals_eager(rule, distance, dtype, kind, level):
    """A class has one member, few, or more than the kernels take in passes."""
    for rows, classes in ((1, 1), (12, 12), (45, 9), (3 * FEW, 2), (2 * FEW, 1)):
        draw = Draw(rows, dtype)
        assert_same(*tensors_of(draw, kind, rows, classes), rule, distance)
    assert_same(*tensors_of(Draw(1, dtype), kind, 30, 4), rule, distance, power=1.0)


@pytest.mark.parametrize(("rule", "distance"), TRIPLES)
def test_any_number_of_candidates(rule, distance, level):
    """Vectors, segments, and what is left of both."""
    for columns in (1, 2, 3, 7, 8, 15, 16, 17, 63, 64, 65, 511, 512, 513, 1100):
        draw = Draw(columns)
        anchors, pool = draw.scores(3, 4) / 4, draw.scores(columns, 4) / 4
        partners = (None, torch.arange(3), draw.classes(3, columns), None, None, -1)
        assert_same((anchors, pool, None), partners, rule, distance)


def test_an_exponent_that_the_kernels_do_not_know_goes_through_torch():
    embeddings, partners = tensors_of(Draw(0), "labels", 20, 4)
    for power, form in ((1.0, _forms._natively), (1.5, _forms._in_torch), (2.0, _forms._natively)):
        call = _call.Call(*partners, "contrastive", "euclidean", 0.3, power, BUDGET)
        assert _forms.form_of(call, embeddings[0], 1).evaluate is form


# ---- selection -----------------------------------------------------------------------------------------------


def row_of(rule, negative, positive, **options):
    """One row of a tile: its negatives, then its positives."""
    tile = torch.cat([negative, positive])[None].clone()
    column = len(negative) + torch.arange(len(positive))[None]
    value, count = tiles.pairs(
        tile,
        column,
        torch.ones_like(column, dtype=torch.bool),
        torch.tensor([len(negative)]),
        None,
        rule=rule,
        own=-1,
        **options,
    )
    return value, count, tile[0]


whole = st.integers(0, 12).map(float)


@settings(max_examples=200)
@given(st.data(), st.sampled_from([torch.float32, torch.float64]))
def test_semihard_selection_is_exact(data, dtype):
    """By passes for few positives, by a search for many: the nearest beyond, else the farthest; of equals the first."""
    many = data.draw(st.booleans())
    positives = data.draw(st.integers(FEW + 1, 3 * FEW) if many else st.integers(1, 5))
    positive = torch.tensor(data.draw(st.lists(whole, min_size=positives, max_size=positives)), dtype=dtype)
    negative = torch.tensor(data.draw(st.lists(whole, min_size=1, max_size=80)), dtype=dtype)
    _, count, tile = row_of("semihard", negative, positive, margin=100.0)
    expected = torch.zeros_like(tile)
    expected[len(negative) :] = 1
    for p in positive.tolist():
        beyond = [(d, n) for n, d in enumerate(negative.tolist()) if d > p]
        farthest = max(negative.tolist())
        _, place = min(beyond) if beyond else (farthest, negative.tolist().index(farthest))
        expected[place] -= 1
    assert torch.equal(tile, expected)
    assert count == positives


@settings(max_examples=200)
@given(st.data())
def test_counts_of_violations_are_exact(data):
    """By passes for few positives, by a search for many, thresholds and distances in ties."""
    positives = data.draw(st.one_of(st.integers(1, 5), st.integers(FEW + 1, 3 * FEW)))
    positive = torch.tensor(data.draw(st.lists(whole, min_size=positives, max_size=positives)))
    negative = torch.tensor(data.draw(st.lists(whole, min_size=1, max_size=80)))
    value, count, tile = row_of("all", negative, positive, margin=1.0)
    over = (positive[:, None] + 1 - negative).clamp(min=0)
    assert value == over.sum()
    assert count == (over > 0).sum()
    assert torch.equal(tile, torch.cat([-(over > 0).sum(0), (over > 0).sum(1)]).float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("columns", [1, 5, 64, 200])
def test_hard_mining_takes_the_first_of_equals(columns, dtype, level):
    """Every place of the nearest and farthest, and two of them."""
    far, near = torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    for first, second in itertools.product({0, columns // 2, columns - 1}, repeat=2):
        tile = torch.full((1, 2 * columns), 3.0, dtype=dtype)
        tile[0, [first, second]] = 1.0
        tile[0, [columns + first, columns + second]] = 5.0
        column = torch.arange(columns, 2 * columns)[None]
        valid = torch.ones_like(column, dtype=torch.bool)
        tiles.pairs(tile, column, valid, torch.tensor([columns]), None, rule="hard", own=-1, chosen=(far, near))
        assert (far.item(), near.item()) == (columns + min(first, second), min(first, second))


@pytest.mark.parametrize("kind", ["labels", "reference", "masks"])
@pytest.mark.parametrize("distance", DISTANCES)
def test_hard_mining_equals_eager(distance, kind, level):
    for rows, classes in ((1, 1), (12, 12), (45, 9), (2 * FEW, 1)):
        embeddings, partners = tensors_of(Draw(rows), kind, rows, classes)
        found = _mine.OPERATOR(*embeddings, *partners, distance, BUDGET)
        with kernels.eager():
            expected = _mine.OPERATOR(*embeddings, *partners, distance, BUDGET)
        assert torch.equal(found[2], expected[2])
        for mine, wanted in zip(found[:2], expected[:2], strict=True):
            assert torch.equal(mine[found[2]], wanted[found[2]])


# ---- NaN, threads --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mining", ["all", "semihard", "hard"])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("each", [3, 2 * FEW])
def test_a_nan_comes_out(mining, soft, each, level):
    rows = Draw(0, torch.float32).scores(3 * each, 4)
    rows[5, 2] = torch.nan
    rows.requires_grad_()
    loss = equipoise.batch_triplet_loss(rows, torch.arange(3 * each) % 3, mining=mining, soft=soft)
    (gradient,) = torch.autograd.grad(loss, rows)
    assert loss.isnan()
    assert gradient[5].isnan().all()


@pytest.mark.parametrize(("rule", "distance"), TRIPLES)
@pytest.mark.parametrize("classes", [3, 200])
def test_the_same_bits_for_any_number_of_threads(rule, distance, classes, threads):
    """The kernels' part of it: a matrix product may add in another order."""
    draw = Draw(0, torch.float32)
    label = draw.classes(classes, 700)
    partners = tuple(torch.where(label == each)[0] for each in range(classes))
    most = max(map(len, partners))
    column = torch.stack([partners[each].repeat(most)[:most] for each in label.tolist()])
    valid = torch.stack([torch.arange(most) < len(partners[each]) for each in label.tolist()])
    negatives = 700 - valid.sum(1)
    distances = draw.weights(700, 700)
    found = []
    for number in (1, 2, 3, 7):
        threads(number)
        tile = distances.clone()
        name, _, soft = rule.partition("_")
        rooted = distance == "euclidean"
        options = {"rule": name, "soft": bool(soft), "rooted": rooted, "own": 0, "margin": 0.3, "power": 2.0}
        found.append((*tiles.pairs(tile, column, valid, negatives, None, **options), tile))
    for value, count, tile in found[1:]:
        assert (value, count) == found[0][:2]
        assert torch.equal(tile, found[0][2])


@pytest.mark.parametrize("positives", [1, 2 * FEW])
@pytest.mark.parametrize("rule", ["all", "semihard", "contrastive"])
def test_no_direction_at_distance_zero(rule, positives, level):
    """Over the distance, a derivative there would be infinite."""
    negative, positive = torch.tensor([0.0, 4.0, 0.0]), torch.full((positives,), 4.0)
    positive[0] = 0.0
    _, _, tile = row_of(rule, negative, positive, rooted=True, margin=3.0, power=1.0)
    assert tile.isfinite().all()
    assert (tile[torch.cat([negative, positive]) == 0] == 0).all()
    assert tile[1] < 0
