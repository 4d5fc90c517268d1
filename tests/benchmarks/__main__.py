"""Measure, and print the table: `python -m tests.benchmarks [--quick] [--only NAME] [--peers] [--json FILE] [--soak MINUTES]`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from statistics import median

from tests.benchmarks.apart import ROOT, Missing, measure_apart
from tests.benchmarks.measure import Measured
from tests.benchmarks.report import as_json, show
from tests.benchmarks.soak import soak
from tests.benchmarks.works import OURS, PEERS, WORKS, Result, Work

QUICK_SCALE = 0.05


def measure(name: str, work: Work, *, scale: float, rounds: int, peers: bool, folder: Path) -> Result:
    """Have every contestant do a work in turn, `rounds` times, so that a busy minute of the machine meets them all."""
    contestants = {who: function for who, function in work.contestants.items() if peers or who not in PEERS}
    answers: dict[str, list[Measured | Missing]] = {who: [] for who in contestants}
    for _ in range(rounds):
        for who, function in contestants.items():
            print(f"{name}: {who} …", file=sys.stderr, flush=True)
            answers[who].append(measure_apart(f"tests.benchmarks.{function}", scale, folder))
    return Result(name, work, {who: middle(given) for who, given in answers.items()})


def middle(answers: list[Measured | Missing]) -> Measured | Missing:
    """Give the median of each figure; the first reason for which there is none."""
    measured = [answer for answer in answers if isinstance(answer, Measured)]
    if len(measured) < len(answers):
        return next(answer for answer in answers if isinstance(answer, Missing))
    names = measured[0].figures.keys()
    return Measured(measured[0].count, {name: median(answer.figures[name] for answer in measured) for name in names})


def in_venv(folder: Path, arguments: list[str]) -> int:
    """Run the same command in a virtual environment with the extra `bench`, which is made if it is not there."""
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--editable", f"{ROOT}[bench]"], check=True)
    return subprocess.run([python, "-m", "tests.benchmarks", *arguments], cwd=ROOT, check=False).returncode


def without_venv(arguments: list[str]) -> list[str]:
    """Give the arguments without ``--venv DIR``.

    >>> without_venv(["--quick", "--venv", "./x", "--peers"]), without_venv(["--venv=x", "--only", "empty"])
    (['--quick', '--peers'], ['--only', 'empty'])
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--venv")
    return parser.parse_known_args(arguments)[1]


def options_of(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description="Measure, and print the table.", allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help=f"sizes × {QUICK_SCALE}, one round: a look, no judgement")
    parser.add_argument("--scale", type=float, metavar="X", help="sizes × X of the table's (default: 1)")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each is measured; medians are shown (default: 3)")
    parser.add_argument("--only", action="append", metavar="NAME", choices=WORKS, help=f"only this, of: {', '.join(WORKS)}")
    parser.add_argument("--peers", action="store_true", help="measure DBOS, LangGraph and huey, too (pip install -e '.[bench]')")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="on the disk to measure (default: the temporary folder)")
    parser.add_argument("--venv", metavar="DIR", help="run in a virtual environment there, which is made with the extra bench")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="instead: a mixed load with kills")
    parser.add_argument("--seed", type=int, default=1, help="of the soak's kills")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Measure what was asked for; the status is 1 if a work of ours could not be done, whatever its speed."""
    options = options_of(arguments)
    if options.venv is not None:
        return in_venv(Path(options.venv), without_venv(arguments))
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="durable_nb-bench-", ignore_cleanup_errors=True) as folder:
        if options.soak is not None:
            return soak(Path(folder), seconds=options.soak * 60, seed=options.seed, report=options.json)
        scale = options.scale or (QUICK_SCALE if options.quick else 1.0)
        rounds = options.rounds or (1 if options.quick else 3)
        results = [
            measure(name, WORKS[name], scale=scale, rounds=rounds, peers=options.peers, folder=Path(folder))
            for name in options.only or WORKS
        ]
    show(results, scale, rounds)
    if options.json:
        options.json.write_text(
            json.dumps(as_json(results, scale, rounds), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    return int(any(isinstance(result.answers[OURS], Missing) for result in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
