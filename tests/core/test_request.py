"""The canonical structs: immutable, and cheap for the collector."""

import gc

import pytest

from gateway.core.answer import Head, TokenLogprob, Usage
from gateway.core.request import Guide, Message, Request, Sampling

STRUCTS = [
    Guide("regex", "a+"),
    Head("1", 2, "e", "v", "f", None, "free"),
    Message("user", "hi"),
    Request("m"),
    Sampling(),
    TokenLogprob("a", -0.5),
    Usage(1, None),
]


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: type(struct).__name__)
def test_frozen_and_out_of_the_collectors_way(struct: object) -> None:
    with pytest.raises(AttributeError):
        setattr(struct, struct.__struct_fields__[0], "other")
    assert not gc.is_tracked(struct)


def test_nothing_asked_is_none_everywhere() -> None:
    sampling = Sampling()
    said = {name: getattr(sampling, name) for name in sampling.__struct_fields__}
    assert {name for name, value in said.items() if value is not None} == {"stop", "logprobs"}
    assert (sampling.stop, sampling.logprobs) == ((), False)
