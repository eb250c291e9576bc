"""Verify a run in torch, and keep its outcomes and the worst differences as a row.

    python -m benchmarks.parity.check_run RUN --weights squeezenet1_0.pth

The verification is that of `gaxjax verify RUN --weights …`; the row puts what it found beside what
`paper_rows` keeps of a run.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks.measure.machine import commit
from benchmarks.measure.rows import append_row
from benchmarks.parity.paper_rows import row
from gaxjax.reference import verify_run

RESULTS = Path(__file__).parents[1] / "results" / "parity" / "check_run.jsonl"
_KEPT = ("passed", "num_images", "comparisons", "torch_version")  # no paths of one machine


@dataclass(frozen=True)
class Settings:
    """What to check.

    Attributes:
        run: Folder of a finished run.
        weights: The torch weights that the run's model was converted from.
        num_images: Check this many images; all when not given.
        output: File of rows to append to.
    """

    run: tyro.conf.Positional[Path]
    weights: Path
    num_images: int | None = None
    output: Path = RESULTS


def main() -> None:
    """Check one run and append the row."""
    settings = tyro.cli(Settings)
    found = verify_run(settings.run, weights=settings.weights, num_images=settings.num_images)
    kept = row(settings.run) | {"bench": "check_run", "commit": commit()}
    fields = found.to_dict()
    append_row(kept | {"verification": {name: fields[name] for name in _KEPT}}, settings.output)
    print(json.dumps(kept["outcomes"]), *found.lines(), sep="\n")


if __name__ == "__main__":
    main()
