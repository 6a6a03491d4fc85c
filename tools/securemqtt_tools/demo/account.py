"""What the demonstration shows: a heading per part, a line per check, a bar while it works.

Where the output is no terminal, plain lines without colour; where it is not UTF-8, nothing beyond
ASCII.
"""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from securemqtt.platform import escaped


class Account:
    """The account on `console` of `total` checks.

    A context manager: the bar is there inside the block.
    """

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._ascii = not console.encoding.lower().startswith("utf")
        self._total = total
        self._held = 0
        columns = (
            SpinnerColumn("line" if self._ascii else "dots"),
            BarColumn(bar_width=20),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.description}", markup=False, style="dim"),
        )
        self._progress = Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal
        )
        self._task = self._progress.add_task("", total=total)

    def __enter__(self) -> Account:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    @property
    def all_held(self) -> bool:
        """Return True if every check has held."""
        return self._held == self._total

    def heading(self, text: str) -> None:
        """Begin a part."""
        self._console.print()
        self._console.print(Text(self._plain(text), style="bold"))

    def say(self, text: str) -> None:
        """Print a remark."""
        self._print_row(Text(), Text(self._plain(text), style="dim"))

    def doing(self, text: str) -> None:
        """Show beside the bar what is being done."""
        self._progress.update(self._task, description=self._plain(text))

    def held(self, title: str, note: str) -> None:
        """Count a check that held."""
        self._held += 1
        self._line(
            Text("ok" if self._ascii else "✓", style="green"), Text(self._plain(title)), note, "dim"
        )

    def failed(self, title: str, reason: str) -> None:
        """Count a check that did not hold."""
        self._line(
            Text("failed" if self._ascii else "✗", style="bold red"),
            Text(self._plain(title), style="red"),
            reason,
            "red",
        )

    def close(self) -> None:
        """Print the last line."""
        self._console.print()
        self._console.print(f"demo: {self._held} of {self._total} checks held", highlight=False)

    def _line(self, mark: Text, title: Text, note: str, style: str) -> None:
        self._progress.advance(self._task)
        self._print_row(mark, title.append(f": {self._plain(note)}" if note else "", style=style))

    def _print_row(self, mark: Text, text: Text) -> None:
        """Print one row: on a terminal with its lines below each other, else as a single line."""
        if self._console.is_terminal:
            row = Table.grid(padding=(0, 1, 0, 0))
            row.add_row(mark, text)
            self._console.print(Padding(row, (0, 0, 0, 2)))
        else:
            self._console.print(
                Text.assemble("  ", mark, " " if mark else "", text), soft_wrap=True
            )

    def _plain(self, text: str) -> str:
        line = escaped(" ".join(text.split()))
        return line.encode("ascii", "replace").decode() if self._ascii else line
