"""Progress on the terminal: a line per step, with a spinner or a bar while it lasts.

What is said is escaped: a board, or a certificate, may have words in it that move the terminal.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TaskID, TextColumn
from rich.progress_bar import ProgressBar
from rich.text import Text

from securemqtt.platform import escaped


class Step:
    """One step under way: what it found goes into `note`, how far it is into `advance`."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self.note = ""
        self._progress = progress
        self._task = task

    def expect(self, total: int) -> None:
        """Show a bar that is full after `total` units."""
        self._progress.update(self._task, total=total, visible=True)

    def advance(self, units: int) -> None:
        """Move the bar on."""
        self._progress.advance(self._task, units)


class _Bar(BarColumn):
    """A bar for steps whose length is known, and nothing for others."""

    def render(self, task: Task) -> ProgressBar:
        bar = super().render(task)
        bar.width = 0 if task.total is None else self.bar_width
        return bar


class Steps:
    """The account of a command. Without a terminal, each step is one plain line once it is done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._ascii = not console.encoding.startswith("utf")

    @contextmanager
    def step(self, title: str, quiet: bool = False) -> Iterator[Step]:
        """Show a step while the block runs.

        `quiet` leaves the terminal alone meanwhile: the block may ask a question.
        """
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            _Bar(bar_width=30),
        )
        progress = Progress(
            *columns,
            console=self._console,
            transient=True,
            disable=quiet or not self._console.is_terminal,
        )
        title = escaped(title)
        with progress:
            step = Step(progress, progress.add_task(title, total=None))
            try:
                yield step
            except BaseException:
                self._line("failed" if self._ascii else "✗", "red", title, step.note)
                raise
        self._line("ok" if self._ascii else "✓", "green", title, step.note)

    def say(self, text: str) -> None:
        """Print a line between two steps."""
        self._console.print(Text(escaped(text)), soft_wrap=True)

    def _line(self, mark: str, style: str, title: str, note: str) -> None:
        line = Text.assemble((mark, style), f" {title}")
        if note:
            line.append(f": {escaped(note)}")
        self._console.print(line, soft_wrap=True)
