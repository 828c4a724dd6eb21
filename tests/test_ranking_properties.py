"""Batches of any size, labels, ties and options, against the oracle."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness import assert_equal
from ranking_cases import RANKED, Call, build, evaluate, reductions, truth

CARD = {card.name: card for card in RANKED}

# few different numbers: duplicates, equal distances and zeros come up all the time
coordinate = st.one_of(st.integers(-2, 2).map(float), st.floats(-3, 3, width=16))


@st.composite
def matrices(draw, rows, columns):
    numbers = draw(st.lists(coordinate, min_size=rows * columns, max_size=rows * columns))
    return torch.tensor(numbers, dtype=torch.float64).reshape(rows, columns)


@st.composite
def batches(draw):
    """A batch with labels or masks, and perhaps a reference set."""
    rows, columns, further = draw(st.integers(0, 7)), draw(st.integers(1, 3)), draw(st.integers(0, 3))
    inputs = {"embedding": draw(matrices(rows, columns))}
    if further:
        inputs["reference"] = draw(matrices(further, columns))
    label = st.integers(0, 2)
    if draw(st.booleans()):
        labels = [
            torch.tensor(draw(st.lists(label, min_size=n, max_size=n)), dtype=torch.int64) for n in (rows, further)
        ]
        batch = {"reference_label": labels[1]} if further else {}
        return Call(name="drawn", inputs=inputs, target=labels[0], batch=batch)
    count = rows * (rows + further)
    kinds = torch.tensor(draw(st.lists(label, min_size=count, max_size=count))).reshape(rows, rows + further)
    return Call(name="drawn", inputs=inputs, batch={"positive": kinds == 1, "negative": kinds == 2})


options = {
    "batch_contrastive": st.fixed_dictionaries(
        {
            "margin": st.floats(0, 4, width=16),
            "power": st.sampled_from([1.0, 1.5, 2.0, 3.0]),
            "distance": st.sampled_from(["euclidean", "squared_euclidean", "cosine"]),
            "normalize": st.booleans(),
        }
    ),
    "batch_triplet": st.fixed_dictionaries(
        {
            "mining": st.sampled_from(["all", "hard", "semihard"]),
            "margin": st.floats(0, 4, width=16),
            # a tie of cosines is decided by the last digit, which the oracle need not share
            "distance": st.sampled_from(["euclidean", "squared_euclidean"]),
            "soft": st.booleans(),
        }
    ),
    "supcon": st.fixed_dictionaries(
        {"temperature": st.floats(0.0625, 4, width=16), "normalize": st.booleans()},
    ),
}


def is_settled(card, chosen, call, expected):
    """Whether the gradient stays where it is when the inputs move by a few units in their last digits.

    Where lengths are divided out, parallel rows are equal only up to those digits, which neither the oracle nor the
    library owes: a margin is reached or not, a distance of 0 has a direction or none. Equal rows move alike.
    """
    moved = call.with_inputs(lambda rows: rows * (1 + 1e-14 * torch.sin(37 * rows + torch.arange(rows.shape[1]))))
    there = truth(card, chosen, moved).gradients
    return all(abs(there[name] - gradient).max(initial=0) < 1e-9 for name, gradient in expected.gradients.items())


@settings(max_examples=150)
@pytest.mark.parametrize("name", options)
@given(data=st.data(), call=batches(), memory_mb=st.sampled_from([1e-6, 1e-3, 16.0]))
def test_equals_the_oracle(name, data, call, memory_mb):
    card, chosen = CARD[name], data.draw(options[name])
    expected = truth(card, chosen, call)
    if card.name == "batch_contrastive" and (chosen["normalize"] or chosen["distance"] == "cosine"):
        assume(is_settled(card, chosen, call, expected))
    for reduction in reductions(card):
        value, gradients = evaluate(build(card, chosen, reduction=reduction, memory_mb=memory_mb), call)
        expected_value, expected_gradients = expected.reduced(reduction)
        assert_equal(value, torch.tensor(expected_value).double(), rtol=1e-9, atol=1e-9, what=f"value, {reduction}")
        for each, gradient in gradients.items():
            wanted = torch.as_tensor(expected_gradients[each])
            assert_equal(gradient, wanted, rtol=1e-8, atol=1e-8, what=f"gradient of {each}, {reduction}")


@settings(max_examples=100)
@given(data=st.data(), rows=st.integers(0, 6), columns=st.integers(1, 3))
def test_info_nce_equals_the_oracle(data, rows, columns):
    inputs = {name: data.draw(matrices(rows, columns)) for name in ("query", "key")}
    labelled = data.draw(st.booleans())
    label = torch.tensor(data.draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows)), dtype=torch.int64)
    chosen = {"temperature": data.draw(st.floats(0.0625, 4, width=16)), "symmetric": data.draw(st.booleans())}
    call = Call(name="drawn", inputs=inputs, batch={"label": label} if labelled else {})
    expected = truth(CARD["info_nce"], chosen, call)
    value, gradients = evaluate(build(CARD["info_nce"], chosen), call)
    expected_value, expected_gradients = expected.reduced("mean")
    assert_equal(value, torch.tensor(expected_value).double(), rtol=1e-9, atol=1e-9, what="value")
    for each, gradient in gradients.items():
        assert_equal(gradient, torch.as_tensor(expected_gradients[each]), rtol=1e-8, atol=1e-8, what=each)
