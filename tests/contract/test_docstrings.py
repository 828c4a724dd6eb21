"""What a docstring says about arguments is what the signature says."""

import ast
import inspect
import re
import textwrap

import pytest

import equipoise
from cases import parameters
from equipoise.catalog import CARDS

PUBLIC = [getattr(equipoise, name) for name in equipoise.__all__]
CALLED = [m for m in dict.fromkeys(card.module.forward for card in CARDS) if "Args:" in (m.__doc__ or "")]
FACTORIES = sorted(
    {card.module.from_labels.__func__ for card in CARDS if hasattr(card.module, "from_labels")},
    key=lambda method: method.__qualname__,
)


def documented_arguments(target):
    """The text of each argument in the `Args:` section of a Google-style docstring."""
    section = re.search(r"^Args:\n((?:^[ ]+.*\n|^\n)+)", inspect.cleandoc(target.__doc__) + "\n", re.MULTILINE)
    assert section, f"{target.__qualname__} documents no arguments"
    entries = re.split(r"^(\w+): ", textwrap.dedent(section[1]), flags=re.MULTILINE)[1:]
    return dict(zip(entries[::2], (" ".join(text.split()) for text in entries[1::2]), strict=True))


def signature_of(target):
    return {name: each for name, each in parameters(target).items() if name != "cls"}


@pytest.mark.parametrize("target", PUBLIC + FACTORIES + CALLED, ids=lambda target: target.__qualname__)
def test_every_argument_is_documented_and_no_other(target):
    assert list(documented_arguments(target)) == list(signature_of(target))


@pytest.mark.parametrize("target", PUBLIC + FACTORIES + CALLED, ids=lambda target: target.__qualname__)
def test_the_documented_default_is_the_default(target):
    documented = documented_arguments(target)
    for name, parameter in signature_of(target).items():
        said = re.findall(r"Default:\s*`+([^`]+)`+", documented[name])
        if parameter.default is inspect.Parameter.empty:
            assert not said, f"{name} has no default"
            continue
        assert len(said) == 1, f"{name} must say its default once, says {said}"
        default = ast.literal_eval(said[0])
        assert default == parameter.default, name
        assert type(default) is type(parameter.default), name
