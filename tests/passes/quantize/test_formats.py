"""``--quantize``: every form that is documented, and refusals that say what to write."""

from dataclasses import replace
from pathlib import Path

import pytest

from tapeout.ir.dtypes import bf16, f16, f32
from tapeout.ir.errors import CompileError, CompileErrors
from tapeout.passes.quantize.formats import LayerFormat, nearest_of, parse_format
from tapeout.passes.quantize.recipe import MOST_BYTES, parse_quantize
from tapeout.passes.quantize.weights import WeightFormat

MEANINGS = {
    "int8": LayerFormat("int8", WeightFormat(8), "static"),
    "int8-dynamic": LayerFormat("int8-dynamic", WeightFormat(8), "dynamic"),
    "bf16": LayerFormat("bf16", compute=bf16),
    "fp16": LayerFormat("fp16", compute=f16),
    "bf16,always": LayerFormat("bf16", compute=bf16, always=True),
    "none": None,
    "w8": LayerFormat("w8", WeightFormat(8)),
    "w1": LayerFormat("w1", WeightFormat(1)),
    "w4a": LayerFormat("w4a", WeightFormat(4, asymmetric=True)),
    "w4g32": LayerFormat("w4g32", WeightFormat(4, 32, scale=f16)),
    "w4g128": LayerFormat("w4g128", WeightFormat(4, 128, scale=f16)),
    "w3g64": LayerFormat("w3g64", WeightFormat(3, 64, scale=f16)),
    "w2g32": LayerFormat("w2g32", WeightFormat(2, 32, scale=f16)),
    "w4g32a": LayerFormat("w4g32a", WeightFormat(4, 32, True, f16)),
    "w4a8": LayerFormat("w4a8", WeightFormat(4), "dynamic"),
    "w4a8g128": LayerFormat("w4a8g128", WeightFormat(4, 128, scale=f16), "dynamic"),
    "w4a8g128a": LayerFormat("w4a8g128a", WeightFormat(4, 128, True, f16), "dynamic"),
    "w5g48a-bf16": LayerFormat("w5g48a-bf16", WeightFormat(5, 48, True, bf16)),
    "w4g32-f32": LayerFormat("w4g32-f32", WeightFormat(4, 32, False, f32)),
}


@pytest.mark.parametrize("text", MEANINGS)
def test_a_format_means_what_is_written_about_it(text: str):
    assert parse_format(text) == MEANINGS[text]


@pytest.mark.parametrize("text", [t for t, made in MEANINGS.items() if made and made.weight])
def test_weights_take_a_method(text: str):
    want = MEANINGS[text]
    assert want is not None
    assert parse_format(f"{text},gptq") == replace(want, method="gptq")
    assert str(parse_format(f"{text}, search")) == f"{text},search"


def test_static_activations_take_an_observer():
    made = parse_format("int8,entropy,gptq")
    assert made == LayerFormat("int8", WeightFormat(8), "static", method="gptq", observer="entropy")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("w9", "weights of 9 bits"),
        ("w0g32", "weights of 0 bits"),
        ("w4g1", "groups of 1 weights"),
        ("w4g0", "groups of 0 weights"),
        ("w4a4g32", "activations of 4 bits"),
        ("w4g", "did you mean w4"),
        ("w4g9999999", "there is no format"),
        ("W4G32", "did you mean w4g32?"),
        ("int4", "did you mean w4g32?"),
        ("int8_dynamic", "did you mean int8-dynamic?"),
        ("f16", "did you mean fp16?"),
        ("marmalade", "use one of these"),
        ("", "there is no format ''"),
        ("w4\u0663", "there is no format"),
        ("w4\ng32", "w4\\ng32"),
        ("bf16,gptq", "'gptq' is no option of this format"),
        ("none,always", "'always' is no option of this format"),
        ("bf16,always,always", "'always' is given twice"),
        ("none,gptq", "'gptq' is no option of this format"),
        ("int8-dynamic,entropy", "'entropy' is no option of this format"),
        ("w4,gptq,search", "'search' is given twice"),
        ("w4,", "'' is no option of this format"),
    ],
)
def test_what_is_no_format_is_refused_with_the_way_out(text: str, told: str):
    with pytest.raises(CompileError) as refused:
        parse_format(text, [("where", "--quantize")])
    assert refused.value.code == "E0111"
    assert told in str(refused.value)
    assert "--quantize" in str(refused.value)
    assert refused.value.fix


def test_refusals_list_the_known_formats():
    with pytest.raises(CompileError, match=r"known: +int8, int8-dynamic, wB, wBgG.*bf16, fp16"):
        parse_format("marmalade")


@pytest.mark.parametrize("text", MEANINGS)
def test_a_slip_in_a_known_format_finds_a_format(text: str):
    parse_format(nearest_of(f"{text}x"))


def written(folder: Path, text: str) -> str:
    file = folder / "formats.toml"
    file.write_text(text)
    return str(file)


def test_one_format_is_for_every_layer():
    recipe = parse_quantize("w4g32")
    assert recipe.of("anything") == MEANINGS["w4g32"]
    assert parse_quantize("none").of("anything") is None
    recipe.refuse_unused([])


def test_the_first_pattern_that_matches_decides(tmp_path: Path):
    recipe = parse_quantize(
        written(
            tmp_path,
            """
            default = "w4g32"
            [layers]
            "encoder.0.*" = "none"
            "*.head" = "w8"
            "encoder.?.head" = "bf16"
            "Encoder*" = "int8"
            """,
        )
    )
    assert recipe.of("encoder.0.head") is None
    assert recipe.of("encoder.1.head") == MEANINGS["w8"]
    assert recipe.of("encoder.1.up") == MEANINGS["w4g32"]
    assert recipe.of("Encoder.1.up") == MEANINGS["int8"]


def test_without_a_default_the_rest_stays_as_it_is(tmp_path: Path):
    recipe = parse_quantize(written(tmp_path, '[layers]\n"a*" = "w8"'))
    assert recipe.of("ab") == MEANINGS["w8"]
    assert recipe.of("b") is None


def test_patterns_of_no_layer_are_refused_together(tmp_path: Path):
    recipe = parse_quantize(
        written(tmp_path, '[layers]\n"*up" = "w8"\n"*dwon" = "w8"\n"haed" = "w4"')
    )
    with pytest.raises(CompileErrors) as refused:
        recipe.refuse_unused(["0.up", "0.down", "head"])
    told = str(refused.value)
    assert "'*dwon'" in told
    assert "0.down" in told
    assert "'haed'" in told
    assert "'*up'" not in told
    assert "formats.toml" in told


def test_all_wrong_formats_of_a_file_are_told_at_once(tmp_path: Path):
    text = 'default = "w99"\ndefalt = 1\n[layers]\n"a" = "int4"\n"b" = 8\nc.d = "w8"\n"e" = "w8"'
    with pytest.raises(CompileErrors) as refused:
        parse_quantize(written(tmp_path, text))
    told = str(refused.value)
    assert len(refused.value.errors) == 5
    assert {error.code for error in refused.value.errors} == {"E0111"}
    for part in ("'defalt'", "'w99'", "'int4'", 'layers."b"', "put a name with dots in quotes"):
        assert part in told


@pytest.mark.parametrize(
    "content",
    [b"default = ", b"\xff\xfe", b"layers = 3", b"a = " + b"[" * 9000, b"#" * (MOST_BYTES + 1)],
    ids=["cut", "bytes", "shape", "deep", "long"],
)
def test_a_file_that_is_no_recipe_is_refused_by_name(tmp_path: Path, content: bytes):
    file = tmp_path / "formats.toml"
    file.write_bytes(content)
    with pytest.raises(CompileError) as refused:
        parse_quantize(str(file))
    assert refused.value.code == "E0112"
    assert "formats.toml" in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(CompileError, match="E0112"):
        parse_quantize(str(tmp_path / "none.toml"))
