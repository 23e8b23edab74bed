"""What Jinja does not document: how it compiles a template, changed so that the environment sees what takes time or memory.

``tests/unit/inputs/test_jinja_internals.py`` fails when another version compiles in another way.
"""

from collections.abc import Callable
from typing import Any

from jinja2.compiler import CodeGenerator, Frame
from jinja2.nodes import Call, Concat, Const, Dict, EnvironmentAttribute, For, Getitem, List, Operand, Slice, Tuple

CHECKED_WITH = "jinja2 3.1.6"


class CountingGenerator(CodeGenerator):
    """Compiles loops, lists and ``a ~ b`` so that the environment sees them, and what is compared and cut."""

    def visit_For(self, node: For, frame: Frame) -> None:  # noqa: N802 - Jinja's names
        """Compile a loop."""
        node.iter = _through("counted", node.iter)
        super().visit_For(node, frame)

    def visit_Concat(self, node: Concat, frame: Frame) -> None:  # noqa: N802
        """Compile ``a ~ b``."""
        self.write("environment.joined((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def visit_Operand(self, node: Operand, frame: Frame) -> None:  # noqa: N802
        """Compile what something is compared with."""
        if not isinstance(node.expr, Const):
            node.expr = _through("compared", node.expr)
        super().visit_Operand(node, frame)

    def visit_Getitem(self, node: Getitem, frame: Frame) -> None:  # noqa: N802
        """Compile ``a[b]``, which may make a part of a text or a list."""
        if isinstance(node.arg, Slice):
            self._seen(super().visit_Getitem, node, frame)
        else:
            super().visit_Getitem(node, frame)

    def visit_List(self, node: List, frame: Frame) -> None:  # noqa: N802
        """Compile a list."""
        self._seen(super().visit_List, node, frame)

    def visit_Dict(self, node: Dict, frame: Frame) -> None:  # noqa: N802
        """Compile a mapping."""
        self._seen(super().visit_Dict, node, frame)

    def visit_Tuple(self, node: Tuple, frame: Frame) -> None:  # noqa: N802
        """Compile a tuple."""
        # names that are assigned to stand in a tuple too
        if node.ctx == "load":
            self._seen(super().visit_Tuple, node, frame)
        else:
            super().visit_Tuple(node, frame)

    def _seen(self, visit: Callable[[Any, Frame], None], node: Any, frame: Frame) -> None:
        self.write("environment.seen(")
        visit(node, frame)
        self.write(")")


def _through(method: str, value: Any) -> Call:
    """Return the call of a method of the environment with a value."""
    return Call(EnvironmentAttribute(method), [value], [], None, None)
