"""What was proven wrong in other projects' ranking losses, tested here, each beside the defective formula."""

import itertools
import math

import pytest
import torch
from torch.nn import functional as F

import equipoise


def with_gradient(loss, *inputs, **options):
    """Value and gradients, both as float64."""
    leaves = [each.clone().requires_grad_() for each in inputs]
    value = loss(*leaves, **options)
    return value.detach().double(), [each.double() for each in torch.autograd.grad(value, leaves)]


# ---- MatchZoo and blog code: groups ------------------------------------------------------------------------


def test_an_easy_negative_hides_no_violating_one():
    """MatchZoo-py as released: the negatives of a group are averaged before the hinge."""

    def averaged_first(scores):
        groups = scores.view(-1, 3)
        return F.relu(1 - (groups[:, 0] - groups[:, 1:].mean(1))).mean()

    scores = torch.tensor([1.0, 3.0, -5.0])
    value, (gradient,) = with_gradient(averaged_first, scores)
    assert value == 0
    assert (gradient == 0).all(), "the negative at 3 stands above the positive at 1, and nothing happens"

    value, (gradient,) = with_gradient(equipoise.rank_hinge_loss, scores, num_neg=2)
    assert value == 1.5
    assert gradient.tolist() == [-0.5, 0.5, 0.0]
    assert equipoise.rank_hinge_loss(scores, num_neg=2, negatives="mean") == 0, "and MatchZoo's own, by name"


@pytest.mark.parametrize("gap", [30.0, 100.0, 300.0])
def test_the_hardest_group_keeps_its_gradient(gap):
    """MatchZoo's rank cross-entropy: log(softmax + eps) bounds the loss at -log(eps), and the gradient dies."""

    def with_epsilon(scores):
        return -torch.log(torch.softmax(scores.view(-1, 2), 1)[:, 0] + 1e-7).mean()

    scores = torch.tensor([0.0, gap])
    value, (gradient,) = with_gradient(with_epsilon, scores)
    assert value < 16.2
    assert gradient.abs().max() < 1e-5

    value, (gradient,) = with_gradient(equipoise.rank_cross_entropy_loss, scores)
    assert value.item() == pytest.approx(gap, rel=1e-6)
    assert gradient.tolist() == pytest.approx([-1.0, 1.0], rel=1e-6)


@pytest.mark.parametrize("gap", [20.0, 40.0, 80.0])
def test_an_easy_group_has_a_small_gradient_and_not_none(gap):
    """The difference p - 1 of a log_softmax is 0 in float32 from a gap of 17 on."""
    scores = torch.tensor([gap, 0.0])
    _, (gradient,) = with_gradient(lambda s: F.cross_entropy(s[None], torch.tensor([0])), scores)
    assert gradient[0] == 0
    _, (gradient,) = with_gradient(equipoise.rank_cross_entropy_loss, scores)
    expected = torch.exp(torch.tensor(-gap, dtype=torch.float64)).item()
    assert gradient.tolist() == pytest.approx([-expected, expected], rel=1e-5)


# ---- distances ---------------------------------------------------------------------------------------------


def test_a_distance_of_zero_has_no_nan_gradient():
    """The root of a sum of squares has an infinite slope at 0, and 0 times it is NaN."""

    def defective(first, second):
        return (first - second).square().sum(1).sqrt().sum()

    rows = torch.ones(2, 3)
    _, gradients = with_gradient(defective, rows, rows)
    assert gradients[0].isnan().all()
    for loss, options in (
        (equipoise.contrastive_loss, {"power": 1.0}),
        (equipoise.contrastive_loss, {}),
        (equipoise.contrastive_loss, {"distance": "cosine"}),
    ):
        for target in (0, 1):
            _, gradients = with_gradient(
                lambda a, b, t=target, f=loss, o=options: f(a, b, torch.full((2,), t), **o), rows, rows
            )
            assert all(gradient.abs().max() < 1e-6 for gradient in gradients)


def test_the_distance_gets_no_epsilon():
    """In torch, triplet_margin_loss adds 1e-6 to every difference: equal rows are at a distance, and have a pull."""
    rows = torch.ones(1, 400, dtype=torch.float64)
    far = rows + 1
    _, gradients = with_gradient(F.triplet_margin_loss, rows, rows, far, margin=100.0)
    assert gradients[1].abs().max() > 0.04
    _, gradients = with_gradient(equipoise.triplet_loss, rows, rows, far, margin=100.0)
    assert (gradients[1] == 0).all()


def test_the_cosine_of_long_half_precision_vectors_is_finite():
    """Squares of float16 overflow from 256 on."""
    long = torch.full((1, 64), 300.0, dtype=torch.float16)
    assert ((long * long).sum() / (long.square().sum().sqrt() * long.square().sum().sqrt())).isnan()
    value, gradients = with_gradient(lambda a, b: equipoise.cosine_embedding_loss(a, b, torch.tensor([1])), long, long)
    assert value.abs() < 1e-6
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_a_row_of_zeros_has_cosine_zero_and_no_gradient():
    zero, other = torch.zeros(1, 4), torch.ones(1, 4)
    for target in (1, -1):
        value, gradients = with_gradient(
            lambda a, b, t=target: equipoise.cosine_embedding_loss(a, b, torch.tensor([t])), zero, other
        )
        assert value == (1 if target == 1 else 0)
        assert all((gradient == 0).all() for gradient in gradients)


# ---- soft labels of a batch --------------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [30.0, 100.0, 300.0])
@pytest.mark.parametrize("mining", ["all", "hard", "semihard"])
def test_the_hardest_triplet_keeps_its_gradient_with_the_soft_margin(mining, gap):
    """log(1 + exp(x)) overflows in float32 from x = 89 on."""
    rows = torch.tensor([[0.0], [gap], [0.0]]) + torch.tensor([[0.0], [0.0], [1.0]])
    label = torch.tensor([0, 0, 1])
    assert torch.log(1 + torch.exp(torch.tensor(gap))).isfinite() == (gap < 89)
    value, (gradient,) = with_gradient(
        lambda x: equipoise.batch_triplet_loss(x, label, mining=mining, soft=True, reduction="sum"), rows
    )
    # The anchor at 0 violates by gap - 1, and pulls with full weight; its positive violates by 1 as an anchor.
    mild, slope = F.softplus(torch.tensor(1.0)).item(), torch.sigmoid(torch.tensor(1.0)).item()
    assert value.item() == pytest.approx(gap - 1 + mild, rel=1e-5)
    assert gradient[:, 0].tolist() == pytest.approx([-slope, 1.0, slope - 1], abs=1e-5)


@pytest.mark.parametrize("gap", [30.0, 300.0])
def test_the_hardest_query_keeps_its_gradient(gap):
    """A score far below the others': the softmax underflows, its gradient must not."""
    query, key = torch.tensor([[1.0], [-1.0]]), torch.tensor([[-gap / 2], [gap / 2]])
    value, gradients = with_gradient(
        equipoise.info_nce_loss, query, key, temperature=1.0, normalize=False, symmetric=False, reduction="sum"
    )
    assert value.item() == pytest.approx(2 * gap, rel=1e-6)
    assert gradients[0][:, 0].tolist() == pytest.approx([gap, -gap], rel=1e-5)


# ---- one definition, another neighbour: semi-hard mining in float32 ------------------------------------------


def semihard_by_definition(rows, label, margin):
    """FaceNet, section 3.2, in the form of TensorFlow Addons, pair by pair: the mean, and what each pair mined."""
    losses, mined = [], {}
    distance = [[math.dist(one, other) for other in rows] for one in rows]
    for a, p in itertools.permutations(range(len(rows)), 2):
        if label[a] == label[p]:
            others = [n for n in range(len(rows)) if label[n] != label[a]]
            beyond = [n for n in others if distance[a][n] > distance[a][p]]
            chosen = min(beyond, key=distance[a].__getitem__) if beyond else max(others, key=distance[a].__getitem__)
            losses.append(max(0.0, distance[a][p] - distance[a][chosen] + margin))
            mined[a, p] = chosen
    return sum(losses) / len(losses), mined


def semihard_of_a_matrix(rows, label, margin):
    """The algorithm of sentence-transformers 6.2 and TensorFlow Addons: all distances out of one matrix product."""
    product = rows @ rows.t()
    size = product.diag()
    square = (size[None] - 2 * product + size[:, None]).clamp_min(0)
    apart = torch.where(square > 0, torch.where(square > 0, square, 1.0).sqrt(), 0.0)
    alike = label[:, None] == label
    ordered = apart.masked_fill(alike, torch.inf).sort(dim=1, stable=True).values
    place = torch.searchsorted(ordered.detach(), apart.detach(), right=True).clamp_max(len(rows) - 1)
    beyond, farthest = ordered.gather(1, place), apart.masked_fill(alike, 0.0).amax(1, keepdim=True)
    chosen = torch.where(beyond.isfinite(), beyond, farthest)
    return F.relu(apart - chosen + margin)[alike & ~torch.eye(len(rows), dtype=torch.bool)].mean()


def semihard(rows, label, margin):
    return equipoise.batch_triplet_loss(rows, label, mining="semihard", margin=margin)


@pytest.mark.parametrize("seed", range(5))
def test_semihard_mining_is_the_peers_definition_in_float64(seed):
    """In float32 their gradients lie 3 % apart on 2048 embeddings, and 1e-8 the values: see the next test."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(48, 3, generator=generator, dtype=torch.float64)
    label = torch.randint(6, (48,), generator=generator)
    expected, mined = semihard_by_definition(rows.tolist(), label.tolist(), 0.2)
    assert len(set(mined.values())) > 10
    (value, (gradient,)), (peers, (of_peer,)) = (
        with_gradient(lambda x, f=loss: f(x, label, 0.2), rows) for loss in (semihard, semihard_of_a_matrix)
    )
    assert value.item() == pytest.approx(expected, rel=1e-12)
    assert peers.item() == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(gradient, of_peer, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loss", [semihard, semihard_of_a_matrix])
def test_semihard_mining_in_float32_may_take_the_other_of_two_negatives_at_nearly_one_distance(loss):
    """Both are 5 from the anchor at 0, one 6e-9 less, which float32 cannot tell: the value stays, the pull turns."""
    rows = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-5.0, 2**-12], [3.0, 4.0]], dtype=torch.float64)
    label = torch.tensor([0, 0, 1, 2])
    expected, mined = semihard_by_definition(rows.tolist(), label.tolist(), 10.0)
    assert mined == {(0, 1): 3, (1, 0): 3}
    exact, (pull,) = with_gradient(lambda x: loss(x, label, 10.0), rows)
    value, (turned,) = with_gradient(lambda x: loss(x, label, 10.0), rows.float())
    assert exact.item() == pytest.approx(expected, rel=1e-12)
    assert value.item() == pytest.approx(expected, rel=1e-6)
    assert pull[2].tolist() == [0, 0], "the definition mines the negative at (3, 4) for both pairs"
    assert turned[2].tolist() == pytest.approx([0.5, 0], abs=1e-4), "of equal distances the lowest index"
