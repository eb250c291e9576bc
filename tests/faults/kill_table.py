"""How often each system call was hit by a kill, and what came of it."""

from collections import Counter, defaultdict

from calls import Death
from looking import FAULTS

__all__ = ["KillTable"]


class KillTable:
    """Counts by command: kills by call, kind of file and moment, lives, and faults."""

    def __init__(self) -> None:
        self.hits: dict[str, Counter[tuple[str, str, str]]] = defaultdict(Counter)
        self.finished: Counter[str] = Counter()
        self.faults: dict[str, Counter[str]] = defaultdict(Counter)

    def add(self, command: str, death: Death | None, faults: Counter[str]) -> None:
        """Count a life that ended by a kill, or by itself where `death` is None."""
        if death is None:
            self.finished[command] += 1
        else:
            self.hits[command][death.call, death.kind, death.moment] += 1
        self.add_faults(command, faults)

    def add_faults(self, command: str, faults: Counter[str]) -> None:
        self.faults[command].update(faults)

    @property
    def kills(self) -> int:
        return sum(counts.total() for counts in self.hits.values())

    @property
    def any_fault(self) -> bool:
        return any(counts.total() for counts in self.faults.values())

    def to_dict(self) -> dict:
        return {
            command: {
                "kills": self.hits[command].total(),
                "finished": self.finished[command],
                **{fault: self.faults[command][fault] for fault in FAULTS},
                "hits": [
                    {"call": call, "file": kind, "moment": moment, "hits": count}
                    for (call, kind, moment), count in sorted(self.hits[command].items())
                ],
            }
            for command in self.hits
        }

    def to_markdown(self) -> str:
        """A table of what came of the kills, then one of where they were."""
        lines = [_line("command", "kills", "finished", *FAULTS), _line(*["---"] * 8)]
        for command, told in self.to_dict().items():
            counts = (told[name] for name in ("kills", "finished", *FAULTS))
            lines.append(_line(command, *counts))
        commands = list(self.hits)
        lines += ["", _line("call", "file", "moment", *commands)]
        lines.append(_line(*["---"] * (3 + len(commands))))
        for where in sorted({where for counts in self.hits.values() for where in counts}):
            lines.append(_line(*where, *(self.hits[command][where] for command in commands)))
        return "\n".join(lines)


def _line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"
