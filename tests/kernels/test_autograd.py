"""Autograd tells the truth about a fused loss, and torch sees one operator."""

import pytest
import torch
from both import KERNELS, Draw
from torch.nn import functional

import equipoise
from equipoise import kernels
from equipoise.ops import fused

N, C = 12, 5


def examples(dtype=torch.float64):
    """A call of each public path to the kernels: name, loss of scores, scores."""
    draw = Draw(0, dtype)
    scores = draw.scores(N, C)
    binary, classes, real = draw.yes_or_no(N, C), draw.classes(C, N), draw.scores(N, C)
    weight = draw.weights(C)
    return {
        "sigmoid": (lambda x: equipoise.sigmoid_focal_loss(x, binary, alpha=0.25), scores),
        "sigmoid, none": (lambda x: equipoise.balanced_cross_entropy(x, binary, alpha=0.9, reduction="none"), scores),
        "softmax": (lambda x: equipoise.softmax_focal_loss(x, classes, weight=weight), scores),
        "softmax, none": (
            lambda x: equipoise.softmax_focal_loss(x, classes, label_smoothing=0.1, reduction="none"),
            scores,
        ),
        "ghm_c": (lambda x: equipoise.ghm_c_loss(x, binary), scores),
        "ghm_r": (lambda x: equipoise.ghm_r_loss(x, real), scores),
    }


EACH = pytest.mark.parametrize("name", examples())


def slope_of(loss, scores, upstream=None):
    value = loss(scores)
    return torch.autograd.grad(value, scores, torch.ones_like(value) if upstream is None else upstream)[0]


@EACH
@pytest.mark.parametrize("factor", [1.0, -2.5])
def test_every_backward_gives_the_same_bits(name, factor):
    loss, scores = examples()[name]
    scores.requires_grad_()
    value = loss(scores)
    upstream = torch.full_like(value, factor)
    first, second, third = (torch.autograd.grad(value, scores, upstream, retain_graph=True)[0] for _ in range(3))
    assert torch.equal(first, second)
    assert torch.equal(first, third)
    with kernels.eager():
        expected = slope_of(loss, scores, upstream)
    torch.testing.assert_close(first, expected, rtol=1e-12, atol=1e-15)


@EACH
def test_gradients_of_two_backward_passes_share_no_memory(name):
    loss, scores = examples()[name]
    scores.requires_grad_()
    value = loss(scores).sum()
    (first,) = torch.autograd.grad(value, scores, retain_graph=True)
    kept = first.clone()
    first.zero_()
    (second,) = torch.autograd.grad(3 * value, scores)
    torch.testing.assert_close(second, 3 * kept, rtol=1e-12, atol=1e-15)


@EACH
def test_a_vector_of_losses_takes_an_upstream_gradient_of_its_own(name):
    loss, scores = examples()[name]
    scores.requires_grad_()
    value = loss(scores)
    upstream = torch.rand_like(value)
    with kernels.eager():
        expected = slope_of(loss, scores, upstream)
    torch.testing.assert_close(slope_of(loss, scores, upstream), expected, rtol=1e-12, atol=1e-15)


@EACH
def test_several_upstream_gradients_at_once(name):
    """`is_grads_batched` sends tensors that no number can be read from."""
    loss, scores = examples()[name]
    scores.requires_grad_()
    value = loss(scores)
    upstream = torch.stack([torch.full_like(value, factor) for factor in (1.0, -2.5)])
    (together,) = torch.autograd.grad(value, scores, upstream, is_grads_batched=True, retain_graph=True)
    for row, each in zip(together, upstream, strict=True):
        torch.testing.assert_close(row, torch.autograd.grad(value, scores, each, retain_graph=True)[0])


@EACH
def test_second_derivatives_are_those_of_the_eager_form(name):
    loss, scores = examples()[name]
    scores.requires_grad_()

    def curvature():
        (slope,) = torch.autograd.grad(loss(scores).sum(), scores, create_graph=True)
        return torch.autograd.grad((slope * slope).sum(), scores)[0]

    native = curvature()
    with kernels.eager():
        expected = curvature()
    assert expected.abs().max() > 0
    torch.testing.assert_close(native, expected, rtol=1e-12, atol=1e-15)


@EACH
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_loss_scale_loses_no_small_gradient(name, dtype):
    """A gradient that was rounded to half precision before it met the scale would be 0 where it is small."""
    loss, scores = examples(dtype)[name]
    scores = (scores + 4).requires_grad_()
    scale = 2.0**15
    value = loss(scores)
    scaled = torch.autograd.grad(value, scores, torch.full_like(value, scale))[0]
    with kernels.eager():
        wide = scores.detach().double().requires_grad_()
        expected = slope_of(loss, wide) * scale
    own = 2**-8 if dtype == torch.bfloat16 else 2**-10
    torch.testing.assert_close(scaled.double(), expected, rtol=own, atol=2.0**-20)


@EACH
def test_the_first_backward_hands_out_the_memory_of_the_forward_pass(name, monkeypatch):
    """No copy: what the kernel wrote becomes `.grad`, scaled in place."""
    loss, scores = examples(torch.float32)[name]
    scores.requires_grad_()
    written = []
    allocate = fused.outputs

    def watched(*arguments):
        made = allocate(*arguments)
        written.append(made[1].data_ptr())
        return made

    monkeypatch.setattr(fused, "outputs", watched)
    (2 * loss(scores).sum()).backward()
    assert scores.grad.data_ptr() == written[0]
    assert len(written) == 1


def test_without_a_gradient_none_is_computed(monkeypatch):
    loss, scores = examples()["sigmoid"]
    asked = []
    allocate = fused.outputs
    monkeypatch.setattr(fused, "outputs", lambda *arguments: asked.append(arguments[-1]) or allocate(*arguments))
    loss(scores)
    with torch.no_grad():
        loss(scores.requires_grad_())
    assert asked == [False, False]


@EACH
def test_scores_changed_between_the_passes_are_noticed(name):
    loss, scores = examples()[name]
    scores.requires_grad_()
    value = loss(scores).sum()
    value.backward(retain_graph=True)
    with torch.no_grad():
        scores.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


OPERATORS = {
    "sigmoid": lambda x, draw: (draw.yes_or_no(N, C), draw.mask(N, C), draw.weights(C), None, None, None, None, None,
                                0.25, 0.75, 2.0, 0.1, "mean", 1.0),
    "softmax": lambda x, draw: (draw.classes(C, N), draw.weights(C), None, draw.weights(N), None,
                                -draw.weights(C), None, 2.0, 0.1, -100, "none", 1.0),
    "ghm": lambda x, draw: (draw.yes_or_no(N, C), None, None, None, None, None, 0.0, 10, False, "sum", 1.0),
}  # fmt: skip


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", OPERATORS)
# torch's own tests of operators use what torch has deprecated
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_opcheck(family, dtype, wanted):
    draw = Draw(0, dtype)
    scores = draw.scores(N, C)
    torch.library.opcheck(KERNELS[family].operator, (scores, *OPERATORS[family](scores, draw), wanted))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_opcheck_of_the_histogram():
    draw = Draw(0, torch.float32)
    arguments = (draw.scores(N, C), draw.yes_or_no(N, C), draw.mask(N, C), 0.0, 10)
    torch.library.opcheck(torch.ops.equipoise.ghm_counts.default, arguments)


def called(graph):
    return [
        str(node.target) for node in graph.graph.nodes if node.op == "call_function" and "equipoise" in str(node.target)
    ]


@EACH
def test_compiled_it_is_one_node_without_a_break(name):
    torch._dynamo.reset()
    loss, scores = examples()[name]
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    compiled = torch.compile(loss, fullgraph=True, backend=backend)
    scores.requires_grad_()
    gradient = slope_of(compiled, scores)
    assert [called(graph) for graph in graphs] == [
        [f"equipoise.{'ghm' if 'ghm' in name else name.split(',')[0]}_loss.default"]
    ]
    torch.testing.assert_close(gradient, slope_of(loss, scores), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@EACH
def test_an_exported_loss_trains(name, dtype):
    """The operator carries its derivative into the exported program."""
    loss, scores = examples(dtype)[name]

    class Loss(torch.nn.Module):
        def forward(self, x):
            return loss(x)

    exported = torch.export.export(Loss(), (scores.clone().requires_grad_(),)).module()
    scores.requires_grad_()
    torch.testing.assert_close(slope_of(exported, scores), slope_of(loss, scores))
    assert slope_of(exported, scores).abs().max() > 0


def test_the_operator_says_that_it_has_no_second_derivative():
    draw = Draw(0)
    scores = draw.scores(N, C).requires_grad_()
    value, _ = KERNELS["sigmoid"].operator(scores, *OPERATORS["sigmoid"](scores, draw), True)
    (slope,) = torch.autograd.grad(value, scores, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(slope.sum(), scores)


@EACH
def test_the_profiler_sees_the_operator(name):
    loss, scores = examples(torch.float32)[name]
    with torch.autograd.profiler.profile() as profile:
        loss(scores.requires_grad_()).sum().backward()
    assert any("equipoise::" in event.name for event in profile.function_events)


def test_a_dispatch_mode_sees_the_operator():
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            seen.append(str(function))
            return function(*arguments, **(keywords or {}))

    loss, scores = examples()["softmax"]
    with Watch():
        loss(scores)
    assert "equipoise.softmax_loss.default" in seen


@pytest.mark.parametrize("bad", [-0.1, 1.5, torch.nan, torch.inf])
@pytest.mark.parametrize("place", [0, 700, 20_000])
def test_a_target_out_of_range_is_found_on_the_way(bad, place):
    scores, target = torch.zeros(20_001), torch.zeros(20_001)
    target[place] = bad
    for loss in (equipoise.sigmoid_focal_loss, equipoise.ghm_c_loss):
        with pytest.raises(ValueError, match="`target` must be in"):
            loss(scores, target)
        loss(scores, target, mask=torch.arange(20_001) != place)


@pytest.mark.parametrize("bad", [-1, 3, 2**33, -(2**33)])
def test_a_class_out_of_range_is_found_on_the_way(bad):
    target = torch.zeros(5000, dtype=torch.int64)
    target[4321] = bad
    with pytest.raises(ValueError, match="`target` must hold class indices in"):
        equipoise.softmax_focal_loss(torch.zeros(5000, 3), target)
    equipoise.softmax_focal_loss(torch.zeros(5000, 3), target, ignore_index=bad)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_a_tensor_option_is_read(gamma):
    scores, target = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    loss = equipoise.softmax_focal_loss(scores, target, gamma=torch.tensor(gamma))
    assert loss == equipoise.softmax_focal_loss(scores, target, gamma=gamma)


def test_an_option_that_learns_goes_through_the_eager_form():
    gamma = torch.tensor(2.0, requires_grad=True)
    equipoise.sigmoid_focal_loss(torch.zeros(3), torch.ones(3), gamma=gamma).backward()
    assert gamma.grad < 0


def test_the_hardest_example_keeps_its_gradient():
    scores = torch.tensor([-1e4, 1e4], requires_grad=True)
    equipoise.sigmoid_focal_loss(scores, torch.tensor([1.0, 0.0]), reduction="sum").backward()
    assert scores.grad.tolist() == [-1, 1]


def test_equals_torch_where_torch_has_the_loss():
    draw = Draw(5, torch.float32)
    scores, target, classes = draw.scores(300, 40), draw.yes_or_no(300, 40).float(), draw.classes(40, 300)
    torch.testing.assert_close(
        equipoise.sigmoid_cross_entropy(scores, target), functional.binary_cross_entropy_with_logits(scores, target)
    )
    torch.testing.assert_close(
        equipoise.softmax_cross_entropy(scores, classes, label_smoothing=0.1),
        functional.cross_entropy(scores, classes, label_smoothing=0.1),
    )
