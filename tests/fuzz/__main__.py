"""Runs the fuzzer: `python -m tests.fuzz [--seconds 60] [TARGET ...]`; see tests/fuzz/__init__.py.

Each target runs in a process of its own. An input that breaks one is kept as a file, and its path told with the
traceback; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

OURS = ["knowledge", "probes"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)  # the process of one target, with its folder
    options = parser.parse_args()
    if options.inside:
        fuzz(options.targets[0], options.seconds, options.inside)
        return
    from tests.fuzz.targets import TARGETS

    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}. Targets: {', '.join(TARGETS)}")
    names = options.targets or list(TARGETS)
    broken = [name for name in names if not survives(name, options.seconds)]
    print(f"{len(names) - len(broken)} of {len(names)} targets survived {options.seconds} s each", flush=True)
    sys.exit(bool(broken))


def survives(name: str, seconds: int) -> bool:
    """Runs one target in a new process and tells how far it came."""
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    command = [sys.executable, "-m", "tests.fuzz", name, "--seconds", str(seconds), "--inside", str(folder)]
    run = subprocess.run(command, capture_output=True, text=True)
    reached = re.findall(r"^#(\d+)\s.* cov: (\d+)", run.stderr, re.MULTILINE)
    runs, edges = reached[-1] if reached else (0, 0)
    print(f"{name}: {runs} inputs, {edges} branches of the code reached", flush=True)
    if run.returncode:
        inputs = ", ".join(str(path) for path in folder.glob("input-*"))
        print(run.stdout[-4000:], run.stderr[-4000:], f"The input: {inputs}", sep="\n")
    return not run.returncode


def fuzz(name: str, seconds: int, folder: Path) -> None:
    import atheris

    with atheris.instrument_imports(include=OURS):
        from tests.fuzz.targets import TARGETS

        target = TARGETS[name]
        seeds = target.seeds()
        for seed in seeds:  # what is imported at the first use must be followed too
            target.run(seed)
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    settings = [f"-max_total_time={seconds}", f"-artifact_prefix={folder}/input-", "-timeout=20", "-rss_limit_mb=4096"]
    atheris.Setup([sys.argv[0], *settings, "-print_final_stats=1", str(corpus)], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
