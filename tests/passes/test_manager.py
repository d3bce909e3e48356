"""The manager runs passes in order, checks what they leave, and tells which one failed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from xdsl.utils.exceptions import VerifyException

from tapeout.ir.errors import CompileError
from tapeout.ir.module import Module
from tapeout.ir.ops.pointwise import MapOp
from tapeout.ir.types import StrAttr, TensorType
from tapeout.passes.manager import Pass, PassFailed, run
from tapeout.passes.pipeline import LAYOUT, SIMPLIFY, parse_pipeline, pass_classes
from tapeout.passes.simplify.canonical import Canonicalise
from tapeout.passes.simplify.dead import DropDead
from tapeout.passes.text import module_text, read_module


@dataclass(frozen=True)
class Rename(Pass):
    """Turns every map into ``to``: right only for names of one operand."""

    name = "rename"
    to: str = "exp"

    def apply(self, module: Module) -> None:
        for op in module.ir.walk():
            if isinstance(op, MapOp):
                op.properties["fn"] = StrAttr(self.to)


@dataclass(frozen=True)
class WrongType(Pass):
    """Leaves a result of a type that does not follow from the operands."""

    name = "wrong-type"

    def apply(self, module: Module) -> None:
        for op in module.ir.walk():
            if isinstance(op, MapOp):
                narrow = TensorType.of((3,), op.y.type.dtype)
                block = op.parent
                assert block is not None, "a map of the module"
                made = MapOp.build(
                    operands=[list(op.xs)], properties=op.properties, result_types=[narrow]
                )
                block.insert_op_before(made, op)
                op.y.replace_all_uses_with(made.y)
                block.erase_op(op)
                return


@dataclass(frozen=True)
class Refuses(Pass):
    """A pass that finds fault with what the user asked for."""

    name = "refuses"

    def apply(self, module: Module) -> None:
        raise CompileError("E0201", "no")


@pytest.fixture
def module(graph: Any) -> Module:
    g = graph(x="f32 B, S")
    return g.returning(g.map("add", g.map("neg", g["x"]), g.weight(40, 1, 1)))


def test_passes_run_in_order_with_a_record_each(module: Module) -> None:
    records = run(module, [DropDead(), Canonicalise(), DropDead()])
    assert [r.name for r in records] == ["drop-dead", "canonicalise", "drop-dead"]
    assert all(r.seconds >= 0 and r.operators == 5 for r in records)


def test_a_fault_names_the_pass_and_those_before_it(module: Module) -> None:
    with pytest.raises(PassFailed, match=r"wrong-type failed \(passes before it: drop-dead\)") as e:
        run(module, [DropDead(), WrongType()])
    assert isinstance(e.value.__cause__, VerifyException)
    assert e.value.reproducer is None


def test_an_invalid_module_is_found_at_once_when_each_pass_is_verified(module: Module) -> None:
    with pytest.raises(PassFailed, match="wrong-type failed"):
        run(module, [WrongType(), DropDead()], verify="each")


def test_an_invalid_module_is_found_at_the_end_otherwise(module: Module) -> None:
    with pytest.raises(PassFailed, match="drop-dead failed"):
        run(module, [WrongType(), DropDead()], verify="end")
    run(module, [WrongType(), DropDead()], verify="never")


def test_a_users_mistake_passes_through(module: Module) -> None:
    with pytest.raises(CompileError, match="E0201"):
        run(module, [Refuses()])


def test_stop_after_leaves_the_rest_undone(module: Module) -> None:
    records = run(module, [DropDead(), Rename(), Rename(to="neg")], stop_after="drop-dead")
    assert [r.name for r in records] == ["drop-dead"]
    assert "exp" not in module_text(module)


def test_print_after_prints_that_state_only(graph: Any, capsys: pytest.CaptureFixture[str]) -> None:
    g = graph(x="f32 B, S")
    module = g.returning(g.map("neg", g["x"]))
    run(module, [Rename(), Rename(to="abs")], print_after="rename", stop_after="rename")
    assert 'fn = #nn.str<"exp">' in capsys.readouterr().out
    run(module, [DropDead()])
    assert capsys.readouterr().out == ""


def test_dump_writes_one_numbered_file_per_pass(module: Module, tmp_path: Path) -> None:
    run(module, [DropDead(), Canonicalise()], dump=tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "00-drop-dead.mlir",
        "01-canonicalise.mlir",
    ]
    assert module_text(read_module(tmp_path / "01-canonicalise.mlir")) == module_text(module)


def test_the_reproducer_holds_its_command_and_the_module_before(
    module: Module, tmp_path: Path
) -> None:
    before = module_text(module)
    with pytest.raises(PassFailed, match="reproduces it") as e:
        run(module, [DropDead(), Rename(to="no such function")], reproducers=tmp_path)
    path = e.value.reproducer
    assert path is not None
    first, rest = path.read_text().split("\n", 1)
    assert first.startswith(f"// tapeout opt {path.name} -p 'drop-dead,rename{{to=")
    assert rest == before
    again = read_module(path)
    assert module_text(again) == before
    with pytest.raises(PassFailed, match="rename"):
        run(again, [DropDead(), Rename(to="no such function")])


def test_a_pipeline_is_read_with_options_and_stages() -> None:
    passes = parse_pipeline("canonicalise,fold{limit=24},layout")
    assert passes[0] == Canonicalise()
    assert str(passes[1]) == "fold{limit=24}"
    assert passes[2:] == LAYOUT


@pytest.mark.parametrize(
    "text", ["nope", "fold{limits=3}", "fold{limit=x}", "fold{", "simplify{a=1}"]
)
def test_what_is_no_pipeline_is_refused(text: str) -> None:
    with pytest.raises(CompileError, match="E0101"):
        parse_pipeline(text)


def test_every_pass_can_be_named_and_says_what_it_is_for() -> None:
    for name, kind in pass_classes().items():
        assert parse_pipeline(name) == (kind(),)
        # A dataclass without a docstring of its own gets its signature for one.
        assert not (kind.__doc__ or kind.__name__).startswith(kind.__name__), name


def test_printing_a_pass_gives_what_is_read_again() -> None:
    for each in (*SIMPLIFY, *LAYOUT, *parse_pipeline("fold{limit=3 expand-limit=9}")):
        assert parse_pipeline(str(each)) == (each,)
