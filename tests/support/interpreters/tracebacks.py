"""A traceback of a board's, held to the source of the library."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
_FRAME = re.compile(r'  File "(.+)", line (\d+), in (.+)')


class Traceback:
    """What MicroPython prints of an exception: its frames, outermost first, and its last line."""

    def __init__(self, printed: str, program: str) -> None:
        _, begin, rest = printed.partition("Traceback (most recent call last):\n")
        assert begin, f"there is no traceback: {printed}"
        frames = []
        self.last = ""
        for line in rest.splitlines():
            frame = _FRAME.fullmatch(line)
            if frame is None:
                self.last = line
                break
            frames.append((frame[1], int(frame[2]), frame[3]))
        # Not on a board: the simulator's own start of main.py.
        self.frames = [frame for frame in frames if not frame[0].startswith(str(ROOT / "tools"))]
        self._program = program

    @property
    def functions(self) -> list[str]:
        """The functions, as `module.function`."""
        return [f"{module}:{function}" for module, _, function in self.frames]

    def check(self) -> None:
        """Hold every frame to the source: the line is one of that function's, and has the call, or
        the `raise`.
        """
        for frame, inner in zip(self.frames, [*self.frames[1:], None], strict=True):
            module, number, function = frame
            source = self._text(module)
            line = source.splitlines()[number - 1]
            assert _definitions(source, number)[-1] == function, (frame, line)
            if inner is not None:
                assert "raise " in line or self._written(inner) in line, (frame, line, inner)
            elif module != "main.py":
                assert "raise " in line, (frame, line)

    def _written(self, frame: tuple[str, int, str]) -> str:
        """Return how a call of this frame's function is written."""
        module, _, function = frame
        if module == "main.py":
            return "("  # a handler has another name where it is called
        if function == "__init__":
            return "("  # a class may have another name where an object of it is made
        return f"{function}("

    def _text(self, module: str) -> str:
        return self._program if module == "main.py" else source_of(module)

    def check_explained(self, name: str, what: str) -> None:
        """Hold the last line to what an error of ours says."""
        assert self.last.startswith(f"{name}: {what}"), self.last
        assert ". Likely cause: " in self.last and ". What to do: " in self.last, self.last


def source_of(module: str) -> str:
    """Return the source of one of the library's modules."""
    path = ROOT / "lib" / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file.read_text()


def _definitions(source: str, number: int) -> list[str]:
    """Return the names of the classes and functions around a line, outermost first."""
    return ["<module>"] + [
        node.name
        for node in ast.walk(ast.parse(source))  # outer ones come first
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and node.lineno <= number <= (node.end_lineno or 0)
    ]
