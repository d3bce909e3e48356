"""``--sparsify``: every form that is documented, and refusals that say what to write."""

import pytest

from tapeout.ir.errors import CompileError
from tapeout.passes.sparsify.patterns import (
    NM,
    Blocks,
    Sparsity,
    Unstructured,
    parse_sparsify,
)

MEANINGS = {
    "2:4": Sparsity(NM(2, 4), 0.5),
    "1:4": Sparsity(NM(1, 4), 0.75),
    "4:16": Sparsity(NM(4, 16), 0.75),
    "4x1@0.8": Sparsity(Blocks(4), 0.8),
    "unstructured@0.9": Sparsity(Unstructured(), 0.9),
    "2:4,saliency": Sparsity(NM(2, 4), 0.5, "saliency"),
    "4x1@0.5,saliency": Sparsity(Blocks(4), 0.5, "saliency"),
    "none": None,
}


@pytest.mark.parametrize("text", MEANINGS)
def test_a_sparsity_means_what_is_written_about_it(text: str):
    made = parse_sparsify(text).default
    assert made == MEANINGS[text]
    assert str(made or "none") == text


def test_percent_spaces_and_magnitude_may_be_written_out():
    assert parse_sparsify("4x1@80%, magnitude").default == MEANINGS["4x1@0.8"]
    assert parse_sparsify(" unstructured@.9 ").default == MEANINGS["unstructured@0.9"]


@pytest.mark.parametrize(("pattern", "bits"), [(NM(2, 4), 2), (NM(1, 2), 1), (NM(4, 16), 4)])
def test_an_index_has_the_bits_that_a_group_needs(pattern: NM, bits: int):
    assert pattern.index_bits == bits
    assert NM(1, 3).index_bits == 2
    assert NM(1, 256).index_bits == 8


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("4:4", "prunes nothing, or all"),
        ("0:4", "prunes nothing, or all"),
        ("4:2", "prunes nothing, or all"),
        ("2:999", "at most 256"),
        ("4x1", "4x1@0.8 for 80 %"),
        ("unstructured", "unstructured@0.8 for 80 %"),
        ("4x1@0", "more than 0 and less than 1"),
        ("4x1@1", "more than 0 and less than 1"),
        ("unstructured@80", "more than 0 and less than 1"),
        ("unstructured@", "more than 0 and less than 1"),
        ("4x1@.", "more than 0 and less than 1"),
        ("unstructed@0.9", "did you mean unstructured@0.9?"),
        ("2-4", "did you mean 2:4?"),
        ("8x8@0.5", "4x1@ZEROS"),
        ("marmalade", "there is no sparsity 'marmalade'"),
        ("", "there is no sparsity ''"),
        ("2:4,gradient", "'gradient' does not say how weights are judged"),
        ("2:4,saliency,magnitude", "does not say how"),
        ("none,saliency", "there is no sparsity 'none'"),
        ("2:\u0664", "there is no sparsity"),
    ],
)
def test_what_is_no_sparsity_is_refused_with_the_way_out(text: str, told: str):
    with pytest.raises(CompileError) as refused:
        parse_sparsify(text)
    assert refused.value.code == "E0111"
    assert told in str(refused.value)
    assert "--sparsify" in str(refused.value)
    assert refused.value.fix
