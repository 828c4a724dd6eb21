"""The sweep over tiles: its budget changes nothing, its rules agree with each other, and its selection is exact."""

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import equipoise
from cases import integers, normal
from equipoise.ranking import _rows
from harness import assert_equal
from ranking_cases import RANKED, Call, build, calls, evaluate, samples, truth

TILED = [
    pytest.param(card, sample, id=f"{card.name}-{name}")
    for card in RANKED
    if card.kind == "embeddings"
    for name, sample in samples(card)
]

ROW = 1e-6
"""A budget, in millions of bytes, that no row fits into: then a tile is one row."""


@pytest.mark.parametrize("memory_mb", [ROW, 2e-3, 1.0])
@pytest.mark.parametrize(("card", "sample"), TILED)
def test_the_size_of_a_tile_changes_nothing(card, sample, memory_mb):
    for call in calls(card, sample):
        expected, expected_gradients = evaluate(build(card, sample), call)
        value, gradients = evaluate(build(card, sample, memory_mb=memory_mb), call)
        assert_equal(value, expected, rtol=1e-12, atol=1e-14, what=f"value, {call.name}")
        for name, gradient in gradients.items():
            assert_equal(gradient, expected_gradients[name], rtol=1e-9, atol=1e-12, what=f"{name}, {call.name}")


# ---- many positives take another path than few -------------------------------------------------------------


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("options", [{}, {"distance": "cosine"}, {"mining": "semihard"}], ids=str)
def test_many_positives_equal_the_oracle(classes, options):
    """More positives than `FEW`: the thresholds are bucketed, and semi-hard mining sorts."""
    card = next(card for card in RANKED if card.name == "batch_triplet")
    rows = normal("many", 3 * _rows.FEW // 2 * classes, 2)
    label = torch.arange(len(rows)) % classes
    call = Call(name="many", inputs={"embedding": rows}, target=label)
    expected = truth(card, options, call)
    for reduction in ("sum", "mean_active"):
        value, gradients = evaluate(build(card, options, reduction=reduction), call)
        expected_value, expected_gradients = expected.reduced(reduction)
        assert_equal(value, torch.tensor(expected_value).double(), rtol=1e-10, atol=1e-12, what=reduction)
        wanted = torch.as_tensor(expected_gradients["embedding"])
        assert_equal(gradients["embedding"], wanted, rtol=1e-9, atol=1e-9, what="gradient")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("distance", ["euclidean", "squared_euclidean"])
@pytest.mark.parametrize("mining", ["all", "hard", "semihard"])
def test_whole_coordinates_keep_their_ties(mining, distance, dtype):
    """At equal distances a margin of 0 is met exactly, and the first of equals is the hardest, as by the definition."""
    card = next(card for card in RANKED if card.name == "batch_triplet")
    call = Call(name="grid", inputs={"embedding": integers("grid", 4, 60, 3).to(dtype)}, target=integers("grid", 5, 60))
    options = {"mining": mining, "distance": distance, "margin": 0.0}
    value, gradients = evaluate(build(card, options, reduction="mean"), call)
    expected_value, expected_gradients = truth(card, options, call).reduced("mean")
    assert_equal(value, torch.tensor(expected_value), rtol=1e-6, what="value")
    wanted = torch.as_tensor(expected_gradients["embedding"])
    assert_equal(gradients["embedding"], wanted, rtol=1e-5, atol=1e-6, what="gradient")


distances = st.one_of(st.integers(0, 6).map(float), st.floats(0, 4, width=16))


@given(st.data())
def test_both_ways_to_count_violations_agree(data):
    """A pass for each positive, and buckets: the same sum, counts and weights, with ties and without positives."""
    number, candidates, positives = (data.draw(st.integers(low, 6)) for low in (1, 1, 0))
    negative = torch.tensor(data.draw(lists(distances, number, candidates))).view(number, candidates)
    threshold = torch.tensor(data.draw(lists(distances, number, positives))).view(number, positives)
    valid = torch.tensor(data.draw(lists(st.booleans(), number, positives)), dtype=torch.bool).view(number, positives)
    negative = torch.where(
        torch.tensor(data.draw(lists(st.booleans(), number, candidates))).view(negative.shape),
        negative,
        _rows.far(negative),
    )
    threshold = threshold.masked_fill(~valid, -_rows.far(threshold))
    found = []
    for count in (_rows._passes, _rows._buckets):
        weight, spare = torch.empty_like(negative), torch.empty_like(negative)
        rows = _rows.Rows(negative, threshold, valid, torch.zeros(number), weight, spare, (0, valid), 0.0, 1.0)
        found.append((*count(rows, threshold), weight))
    for first, second in zip(*found, strict=True):
        assert_equal(first, second, rtol=1e-6, atol=1e-6, what="passes and buckets")


def lists(elements, *shape):
    count = math.prod(shape)
    return st.lists(elements, min_size=count, max_size=count)


@given(st.data())
def test_semihard_selection_is_exact(data):
    """Whole numbers of distance and place, or a sort: strictly beyond, the nearest, of equals the lowest place."""
    candidates, positives = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 4))
    numbers = st.one_of(distances, st.floats(0, width=32, allow_infinity=False, max_value=2.0**120))
    negative = torch.tensor(data.draw(lists(numbers, candidates)), dtype=torch.float32)
    positive = torch.tensor(data.draw(lists(numbers, positives)), dtype=torch.float32)
    is_negative = torch.tensor(data.draw(lists(st.booleans(), candidates)))
    assume(is_negative.any())
    expected = []
    for p in positive.tolist():
        places = [n for n in range(candidates) if is_negative[n]]
        beyond = [n for n in places if negative[n] > p]
        expected.append(min(beyond, key=lambda n: negative[n]) if beyond else max(places, key=lambda n: negative[n]))
    row = torch.where(is_negative, negative, _rows.far(negative))[None]
    for given_dtype in (torch.float32, torch.float64):
        tile = torch.where(is_negative, negative.to(given_dtype), _rows.far(row.to(given_dtype)))[None]
        place, chosen = _rows.select_semihard(tile, positive.to(given_dtype)[None])
        assert place[0].tolist() == expected
        assert torch.equal(chosen[0].float(), negative[place[0]])


# ---- distances that a matrix product cannot give -----------------------------------------------------------


@pytest.mark.parametrize("offset", [0.0, 1e2, 1e4])
def test_near_duplicates_get_the_right_direction_in_float32(offset):
    """From the Gram matrix, float32 distances of near-duplicates are noise, and so is the direction of the pull."""
    pairs = normal("pairs", 8, 6) + offset
    close = pairs + 1e-3 * normal("close", 8, 6)
    rows = torch.stack([pairs, close], 1).flatten(0, 1).float().requires_grad_()
    label = torch.arange(16) // 2
    gram = rows.detach() @ rows.detach().t()
    square = gram.diagonal()[:, None] + gram.diagonal() - 2 * gram
    true = (rows.detach().double()[0::2] - rows.detach().double()[1::2]).norm(dim=1)
    defective = square[torch.arange(0, 16, 2), torch.arange(1, 16, 2)].clamp(min=0).sqrt()
    if offset:
        assert ((defective - true).abs() / true).max() > 0.05, "the defect is there to be seen"
    equipoise.batch_contrastive_loss(rows, label, margin=0.0, power=1.0, reduction="sum").backward()
    expected = (rows.detach().double()[0::2] - rows.detach().double()[1::2]) / true[:, None]
    assert_equal(rows.grad[0::2], expected, rtol=1e-4, atol=1e-5, what="direction")


def test_identical_rows_are_at_distance_zero_in_float32():
    rows = (100 * torch.randn(1, 64, generator=torch.Generator().manual_seed(0))).repeat(4, 1).requires_grad_()
    loss = equipoise.batch_contrastive_loss(rows, torch.zeros(4).long(), reduction="sum")
    loss.backward()
    assert loss == 0
    assert (rows.grad == 0).all()


# ---- nothing of the size of all pairs ----------------------------------------------------------------------


class Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """Notes the most elements of any tensor that an operation makes; views are none."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        given = {each.untyped_storage().data_ptr() for each in args if isinstance(each, torch.Tensor)}
        for each in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(each, torch.Tensor) and each.untyped_storage().data_ptr() not in given:
                self.elements = max(self.elements, each.numel())
        return result


@pytest.mark.parametrize("classes", [2, 100])
@pytest.mark.parametrize(("card", "sample"), TILED)
def test_no_tensor_of_the_size_of_all_pairs_is_made(card, sample, classes):
    """400 embeddings: all pairs are 160,000 numbers, all triplets up to 32 million; the budget holds 20,000 float32."""
    rows = normal("rows", 400, 8).float()
    names = ("query", "key") if card.name == "info_nce" else ("embedding",)
    inputs = dict.fromkeys(names, rows)
    call = Call(name="large", inputs=inputs, target=None if len(names) == 2 else torch.arange(400) % classes)
    from equipoise.ranking import _mine, _sweep

    largest = Largest()
    with pytest.MonkeyPatch.context() as patch:
        for module in (_sweep, _mine):  # below the operator, which the mode sees as one step
            function = module._sweep if module is _sweep else module._mine
            patch.setattr(module, "OPERATOR", function)
        with largest:
            evaluate(build(card, sample, memory_mb=0.08), call)
    assert largest.elements <= 20_000
