"""Sequences that a loop builds by appending one item per iteration: one stacked output each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tapeout.frontend.onnx.known import NotKnown
from tapeout.frontend.onnx.value import AnyValue, Items, Slices, Value

Body: TypeAlias = Callable[[Value, Value, Sequence[AnyValue]], list[AnyValue]]
"""From iteration number, condition and carried values: condition, carried values, scans."""


@dataclass(frozen=True)
class Appending:
    """A loop whose carried sequences are empty at first and only ever get one more item.

    ``unknown`` is raised for any other use of a sequence: then the number of iterations must be
    known when the model is compiled.
    """

    body: Body
    carried: Sequence[AnyValue]
    unknown: NotKnown

    @property
    def count(self) -> int:
        """How many sequences there are."""
        return sum(not isinstance(v, Value) for v in self.carried)

    def run(self, step: Value, going: Value, values: Sequence[AnyValue]) -> list[AnyValue]:
        """The body with plain carried values; what it appends comes behind its own scans."""
        rest, end = iter(values), len(self.carried) + 1
        given = [next(rest) if isinstance(v, Value) else self._begun(v) for v in self.carried]
        made = self.body(step, going, given)
        pairs = list(zip(self.carried, made[1:end], strict=True))
        plain = [new for old, new in pairs if isinstance(old, Value)]
        items = [self._appended(new) for old, new in pairs if not isinstance(old, Value)]
        return [made[0], *plain, *made[end:], *items]

    def results(self, made: Sequence[Value]) -> list[AnyValue]:
        """The loop's own results from those with sequences as the last scans."""
        split = len(made) - self.count
        plain, stacks = iter(made[:split]), map(Slices, made[split:])
        carried = [next(plain) if isinstance(v, Value) else next(stacks) for v in self.carried]
        return [*carried, *plain]

    def _begun(self, sequence: AnyValue) -> Items:
        if not isinstance(sequence, Items) or sequence.values or sequence.before is not None:
            raise self.unknown
        return Items((), sequence.element, self.unknown)

    def _appended(self, sequence: AnyValue) -> Value:
        if not isinstance(sequence, Items) or len(sequence.values) != 1:
            raise self.unknown
        return sequence.values[0]
