"""One form of message, from Python and from C."""

from tapeout.runtime.errors import RunError

TEXT = """\
error[E0513]: input 'x' has another size
  axis:     1
  expected: 8
  fix:      pad it"""


def test_message_is_laid_out() -> None:
    facts = (("axis", 1), ("expected", 8))
    assert str(RunError("E0513", "input 'x' has another size", facts, "pad it")) == TEXT


def test_text_from_c_is_taken_apart() -> None:
    error = RunError.from_text(TEXT.replace(":     ", ": ").replace(":      ", ": "))
    assert (error.code, error.fix) == ("E0513", "pad it")
    assert error.facts == (("axis", "1"), ("expected", "8"))
    assert str(error) == TEXT


def test_control_characters_do_not_reach_the_terminal() -> None:
    error = RunError("E0510", "a\x1b[31m", (("name", "x\ny\u202e"),))
    assert str(error) == "error[E0510]: a\\x1b[31m\n  name: x\\ny\\u202e"
