"""Losses over tiles of distances: the kernels equal plain torch in float64, and torch evaluates the other rules."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from both import Draw
from device import DEVICE, ON_GPU, placed

import equipoise
from equipoise import kernels
from equipoise.ranking import _call, _rows, _sweep

# numpy says where infinities and NaN are multiplied
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

DISTANCES = pytest.mark.parametrize("distance", ["euclidean", "squared_euclidean", "cosine"])
MARGINS = pytest.mark.parametrize("soft", [False, True], ids=["hinge", "soft"])
KINDS = ("labels", "reference", "normalized", "masks")


@pytest.fixture(autouse=True)
def calls(monkeypatch):
    """How often the kernels were called; without it plain torch might be compared with itself."""
    from equipoise.kernels.triton import pairs

    counts = {"pairs": 0, "distances": 0}

    def counted(name, function):
        def call(*tensors, **options):
            counts[name] += 1
            return function(*tensors, **options)

        return call

    for name in counts:
        monkeypatch.setattr(pairs, name, counted(name, getattr(pairs, name)))
    return counts


def embeddings_of(kind, rows, classes, further=9):
    """Embeddings and a reference set, and the other arguments of a batch loss."""
    draw = Draw(rows, torch.float32)
    label, known = draw.classes(classes, rows), draw.classes(classes, further)
    inputs = {"embedding": draw.scores(rows, 5) / 4}
    if kind == "labels":
        return inputs, {"label": label}
    inputs["reference"] = draw.scores(further, 5) / 4
    if kind == "masks":
        alike = label[:, None] == torch.cat([label, known])
        # every second column of a wider mask: neither lies in one piece
        thin = [draw.mask(rows, 2 * (rows + further))[:, ::2] for _ in range(2)]
        return inputs, {"positive": alike & thin[0], "negative": (~alike & thin[1]).t().contiguous().t()}
    return inputs, {"label": label, "reference_label": known, "normalize": kind == "normalized"}


def evaluated(loss, inputs, batch, dtype=None):
    """Value and gradients; a reference set that is normalized asks for none, lest it be normalized before."""
    leaves = {name: placed(each).detach().to(dtype) if dtype else placed(each) for name, each in inputs.items()}
    wanted = [name for name in leaves if name == "embedding" or not batch.get("normalize")]
    leaves = {name: each.detach().requires_grad_(name in wanted) for name, each in leaves.items()}
    value = loss(**leaves, **placed(batch))
    gradients = torch.autograd.grad(value, [leaves[name] for name in wanted])
    return value.detach().cpu(), dict(zip(wanted, (each.cpu() for each in gradients), strict=True))


def truth(loss, inputs, batch):
    with kernels.eager():
        return evaluated(loss, inputs, batch, torch.float64)


def assert_same(loss, inputs, batch, tolerance=2e-5):
    found, gradients = evaluated(loss, inputs, batch)
    expected, slopes = truth(loss, inputs, batch)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-7, msg=lambda text: f"value: {text}")
    for name, slope in slopes.items():
        scale = float(slope.abs().max()) if slope.numel() else 0.0
        torch.testing.assert_close(
            gradients[name].double(),
            slope,
            rtol=tolerance,
            atol=tolerance * scale,
            msg=lambda text, name=name: f"{name}: {text}",
        )


# ---- all triplets --------------------------------------------------------------------------------------------


@MARGINS
@DISTANCES
@pytest.mark.parametrize("kind", KINDS)
def test_triplets(kind, distance, soft, calls):
    """Classes have one member, few, or all; tiles have some rows, and the last one fewer."""
    loss = partial(equipoise.batch_triplet_loss, distance=distance, soft=soft, margin=0.3, reduction="sum")
    for rows, classes in ((1, 1), (7, 7), (14, 4), (7, 1)):
        assert_same(partial(loss, memory_mb=1e-3), *embeddings_of(kind, rows, classes))
    assert calls["pairs"] > 4
    assert calls["distances"] >= calls["pairs"]


@MARGINS
@pytest.mark.parametrize("reduction", ["sum", "mean", "mean_active"])
def test_every_reduction(reduction, soft):
    loss = partial(equipoise.batch_triplet_loss, soft=soft, margin=0.1, reduction=reduction)
    assert_same(loss, *embeddings_of("masks", 15, 4))


@MARGINS
def test_what_counts_is_counted_exactly(soft):
    embedding = placed(Draw(0, torch.float32).scores(30, 3))
    label = placed(torch.arange(30) % 7)
    call = _call.Call(None, label, label, None, None, 0, "all_soft" if soft else "all", "euclidean", 0.2, 1.0, 10_000)
    _, numbers = _sweep.total(embedding, embedding, None, call)
    with kernels.eager():
        _, expected = _sweep.total(embedding.double(), embedding.double(), None, call)
    assert numbers.tolist() == expected.tolist()
    assert (numbers[0] < numbers[1]) == (not soft)


@MARGINS
@pytest.mark.parametrize("columns", [1, 2, 15, 16, 17, 511, 512, 513, 1024, 4095, 4096, 4097, 9000])
def test_any_number_of_candidates(columns, soft):
    """Beside the sizes of blocks, and of what a thread reads at a time; said by labels, and by a mask."""
    draw = Draw(columns, torch.float32)
    inputs = {"embedding": draw.scores(2, 4), "reference": draw.scores(columns, 4)}
    inputs["reference"][columns // 3 :] *= 1.01  # the last block is not like the first
    label, known = torch.tensor([0, 1]), torch.full((columns,), 2)
    known[columns // 2], known[-1] = 1, 0
    alike = label[:, None] == torch.cat([label, known])
    loss = partial(equipoise.batch_triplet_loss, soft=soft, reduction="sum")
    for batch in ({"label": label, "reference_label": known}, {"positive": alike}):
        assert_same(loss, inputs, batch)


@pytest.mark.parametrize("positives", [_rows.FEW, _rows.FEW + 1])
@MARGINS
def test_more_positives_than_a_pass_for_each_is_worth_go_through_torch(soft, positives, calls):
    inputs, batch = embeddings_of("reference", 2, 1, further=positives + 2)
    batch["reference_label"][-3:] = 1
    assert_same(partial(equipoise.batch_triplet_loss, soft=soft, reduction="sum"), inputs, batch)
    assert (calls["pairs"] > 0) == (positives == _rows.FEW)
    assert calls["distances"] > 0


@MARGINS
@DISTANCES
def test_nobody_alike_is_a_differentiable_zero(distance, soft):
    for rows in (0, 1, 5):
        inputs, _ = embeddings_of("labels", rows, 1)
        loss = partial(equipoise.batch_triplet_loss, distance=distance, soft=soft)
        value, gradients = evaluated(loss, inputs, {"label": torch.arange(rows)})
        assert value == 0
        assert (gradients["embedding"] == 0).all()
        # and nobody unlike
        value, gradients = evaluated(loss, inputs, {"label": torch.zeros(rows, dtype=torch.int64)})
        assert value == 0
        assert (gradients["embedding"] == 0).all()


# ---- special distances ---------------------------------------------------------------------------------------


@MARGINS
@DISTANCES
def test_equal_embeddings_pull_nowhere(distance, soft):
    """Positives and negatives at distance 0, whose direction is none; the others have theirs."""
    inputs, batch = embeddings_of("labels", 12, 3)
    inputs["embedding"][6:] = inputs["embedding"][:6]
    batch["label"] = torch.tensor([0, 0, 1, 1, 2, 2, 0, 0, 1, 2, 2, 1])
    loss = partial(equipoise.batch_triplet_loss, distance=distance, soft=soft, reduction="sum")
    assert_same(loss, inputs, batch)
    inputs["embedding"][:] = inputs["embedding"][0].clone()
    value, gradients = evaluated(loss, inputs, batch)
    assert value > 0
    assert (gradients["embedding"] == 0).all() or distance == "cosine"
    assert gradients["embedding"].isfinite().all()


@MARGINS
def test_embeddings_so_close_that_no_distance_is_left_pull_nowhere(soft):
    inputs, batch = {"embedding": 1e-30 * torch.eye(4)}, {"label": torch.tensor([0, 0, 1, 1])}
    value, gradients = evaluated(partial(equipoise.batch_triplet_loss, soft=soft), inputs, batch)
    assert value > 0
    assert (gradients["embedding"] == 0).all()


@DISTANCES
def test_a_negative_as_far_as_the_positive_is_not_active_without_a_margin(distance):
    """Two classes of the same points: every positive has its twin among the negatives, at its very distance."""
    rows = Draw(2, torch.float32).scores(7, 3).repeat(2, 1)
    batch = {"label": torch.arange(14) // 7}
    loss = partial(equipoise.batch_triplet_loss, margin=0.0, distance=distance)
    for reduction in ("sum", "mean_active"):
        assert_same(partial(loss, reduction=reduction), {"embedding": rows}, batch)


@MARGINS
def test_near_duplicates_keep_their_direction(soft):
    """A product cannot give their distances: that one is near 0 must be noticed, in whatever block of a row."""
    draw = Draw(3, torch.float32)
    inputs = {"embedding": 10 * draw.scores(3, 5), "reference": 10 * draw.scores(5000, 5)}
    inputs["reference"][[0, 4999]] = inputs["embedding"][:2] + 1e-3 * draw.scores(2, 5)
    batch = {"label": torch.tensor([0, 0, 1]), "reference_label": 1 - torch.arange(5000).clamp(max=1)}
    batch["reference_label"][1:-1] = 2
    loss = partial(equipoise.batch_triplet_loss, soft=soft, margin=0.5, reduction="sum")
    assert_same(loss, inputs, batch)


@MARGINS
@DISTANCES
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_an_embedding_that_is_not_finite_is_not_hidden(bad, distance, soft):
    inputs, batch = embeddings_of("labels", 12, 3)
    inputs["embedding"][4, 2] = bad
    value, gradients = evaluated(partial(equipoise.batch_triplet_loss, distance=distance, soft=soft), inputs, batch)
    assert value.isnan()
    assert gradients["embedding"].isnan().any()


def test_distances_too_large_for_float32_violate_nothing():
    """A negative infinitely far away; an anchor is not kept from itself by its distance alone."""
    rows = torch.tensor([[0.0, 1.0], [0.0, 1.5], [3e19, 0.0], [0.0, 1.7]])
    loss = partial(equipoise.batch_triplet_loss, reduction="sum")
    value, _ = evaluated(loss, {"embedding": rows}, {"label": torch.tensor([0, 0, 1, 2])})
    expected, _ = evaluated(loss, {"embedding": rows[[0, 1, 3]]}, {"label": torch.tensor([0, 0, 2])})
    assert value == expected > 0


# ---- around the kernels --------------------------------------------------------------------------------------


@MARGINS
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_call_gives_the_same_bits(kind, soft):
    loss = partial(equipoise.batch_triplet_loss, soft=soft, memory_mb=2e-2)
    inputs, batch = embeddings_of(kind, 12, 4, further=900)
    value, gradients = evaluated(loss, inputs, batch)
    again, slopes = evaluated(loss, inputs, batch)
    assert torch.equal(value, again)
    assert all(torch.equal(gradients[name], slopes[name]) for name in slopes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_computed_in_float32(dtype, calls):
    inputs, batch = embeddings_of("labels", 30, 4)
    inputs = {"embedding": inputs["embedding"].to(dtype)}
    loss = partial(equipoise.batch_triplet_loss, reduction="sum")
    value, gradients = evaluated(loss, inputs, batch)
    expected, slopes = truth(loss, inputs, batch)
    assert calls["pairs"] > 0
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=0)
    own = 2**-7 if dtype == torch.bfloat16 else 2**-10
    scale = float(slopes["embedding"].abs().max())
    torch.testing.assert_close(gradients["embedding"].double(), slopes["embedding"], rtol=own, atol=1e-5 * scale)


def test_double_precision_goes_through_torch(calls):
    inputs, batch = embeddings_of("labels", 30, 4)
    evaluated(equipoise.batch_triplet_loss, inputs, batch, torch.float64)
    assert calls == {"pairs": 0, "distances": 0}


@MARGINS
def test_second_derivatives_are_those_of_the_eager_form(soft):
    inputs, batch = embeddings_of("labels", 15, 4)

    def curvature():
        leaf = placed(inputs["embedding"]).detach().requires_grad_()
        value = equipoise.batch_triplet_loss(leaf, **placed(batch), soft=soft)
        (slope,) = torch.autograd.grad(value, leaf, create_graph=True)
        return torch.autograd.grad((slope * slope).sum(), leaf)[0]

    found = curvature()
    with kernels.eager():
        expected = curvature()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


# ---- the other rules, in torch, of distances by the kernel ---------------------------------------------------


@DISTANCES
@pytest.mark.parametrize("kind", KINDS)
def test_rules_that_torch_evaluates(kind, distance, calls):
    for loss in (
        partial(equipoise.batch_contrastive_loss, reduction="sum"),  # what counts twice is among them
        partial(equipoise.batch_contrastive_loss, power=1.5),
        partial(equipoise.batch_triplet_loss, mining="semihard"),
        partial(equipoise.batch_triplet_loss, mining="hard"),
    ):
        before = calls["distances"]
        assert_same(partial(loss, distance=distance, margin=0.4), *embeddings_of(kind, 30, 5), tolerance=1e-4)
        assert calls["distances"] > before
    assert calls["pairs"] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_no_distances(kind, calls):
    inputs, batch = embeddings_of(kind, 30, 5)
    assert_same(equipoise.supcon_loss, inputs, batch)
    assert calls == {"pairs": 0, "distances": 0}


# ---- large tiles ---------------------------------------------------------------------------------------------


def test_rows_beyond_the_reach_of_int32():
    """The second of two rows that lie 2^31 numbers apart; the memory between them is never touched."""
    from equipoise.kernels.triton import pairs

    stride, columns = 2**31, 5
    tile = torch.empty(stride + columns, device=DEVICE).as_strided((2, columns), (stride, 1))
    tile.copy_(torch.arange(-4.0, 6.0).view(2, columns))
    near = torch.empty(2, dtype=torch.bool, device=DEVICE)
    squares = placed((torch.ones(columns), torch.tensor([1.0, 2.0])))
    pairs.distances(tile, None, *squares, 1, 0.5, 1.0, near)
    far = torch.finfo(torch.float32).max
    assert tile.tolist() == [[0, far, 0, 1, 2], [4, 5, far, 7, 8]]
    assert near.tolist() == [True, False]


@pytest.mark.skipif(not ON_GPU, reason="needs the memory of a GPU (EQUIPOISE_TEST_DEVICE=cuda)")
def test_a_tile_of_more_than_two_to_the_31_distances():
    from equipoise.kernels.triton import pairs

    rows, columns = 2**15 + 1, 2**16
    tile = torch.full((rows, columns), 2.0, device=DEVICE)
    tile[:, 7], tile[-1, 9] = 1.0, 1.5
    column = torch.full((rows, 1), 7, device=DEVICE)
    one = torch.ones(rows, dtype=torch.int64, device=DEVICE)
    options = {"soft": False, "rooted": False, "own": -1, "margin": 0.75}
    value, count = pairs.pairs(tile, column, one, one, None, **options)
    assert (float(value), int(count)) == (0.25, 1)
    assert tile[-1, [7, 8, 9]].tolist() == [1, 0, -1]
    assert not tile[:-1].any()
