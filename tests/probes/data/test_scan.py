"""One pass in bounded memory against the same answers computed from the whole file."""

import json
import tracemalloc

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from probes.data import scan as scan_module
from probes.data.scan import MAX_SAMPLE_BYTES, format_of, scan
from probes.data.skipped import SkipLedger
from probes.data.split import group_key


def scan_rows(folder, rows, **options):
    path = folder / "scan.jsonl"
    with path.open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    defaults = {
        "format": None,
        "seed": 0,
        "max_sample_rows": 1000,
        "max_sample_bytes": MAX_SAMPLE_BYTES,
        "max_eval_rows": 100,
    }
    return scan(path, SkipLedger(str(path)), **defaults | options)


@given(
    numbers=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=1, max_size=80),
    max_eval_rows=st.integers(1, 5),
)
def test_the_smallest_distinct_keys_are_kept_with_their_first_rows(tmp_path_factory, numbers, max_eval_rows):
    rows = [{"prompt": f"question {n}", "completion": f" answer {answer}"} for n, answer in numbers]
    found = scan_rows(tmp_path_factory.getbasetemp(), rows, max_eval_rows=max_eval_rows)
    first = {}
    for row in rows:
        first.setdefault(group_key(row["prompt"], 0), row)
    assert found.first_by_prompt == sorted(first.items())[: 2 * max_eval_rows]
    assert found.prompt_keys.tolist() == [group_key(row["prompt"], 0) for row in rows]
    assert found.duplicate_rows == len(rows) - len({row["prompt"] + row["completion"] for row in rows})


def test_the_same_rows_in_any_order_are_the_same_content_and_others_are_not(tmp_path):
    def content(*labels, texts=("good", "bad", "fair")):
        rows = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
        assert scan_rows(tmp_path, rows).content_key == scan_rows(tmp_path, rows[::-1]).content_key
        return scan_rows(tmp_path, rows).content_key

    contents = [content("a", "b", "b"), content("b", "a", "b"), content("a", "b", "a"), content("b", "b", "a")]
    contents.append(content("a", "b", "b", texts=("good", "bad", "fine")))
    assert len(set(contents)) == 5


def test_a_file_that_fits_is_kept_whole_and_in_order(tmp_path):
    rows = [{"text": f"row {i}"} for i in range(300)]
    assert scan_rows(tmp_path, rows).sample == list(enumerate(rows))


def test_columns_that_nobody_reads_are_not_kept(tmp_path):
    rows = [{"text": f"row {i}", "embedding": [0.5, i]} for i in range(300)]
    found = scan_rows(tmp_path, rows, max_sample_rows=50)
    assert len(found.sample) == 50
    kept = [*found.sample, *found.first_by_prompt, *found.first_by_text]
    assert {tuple(row) for _, row in kept} == {("text",)}


def test_a_row_that_is_nested_too_deeply_is_skipped(tmp_path):
    deep = "[" * 500 + "]" * 500
    good = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b%d"}]}'
    bad = '{"messages": [{"role": "user", "content": "a", "x": DEEP}, {"role": "assistant", "content": "b"}]}'.replace(
        "DEEP", deep
    )
    path = tmp_path / "d.jsonl"
    path.write_text("\n".join([*(good % i for i in range(200)), bad]))
    ledger = SkipLedger(str(path))
    found = scan(path, ledger, format=None, seed=0, max_sample_rows=500, max_sample_bytes=1e9, max_eval_rows=10)
    assert (found.rows, ledger.skipped.total()) == (200, 1)


def test_the_format_is_known_from_the_first_rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "label": 1}\n' * 60 + "broken\n" * 5000)
    assert format_of(path).name == "text-label" and format_of(path).classification
    assert format_of(path, "text").name == "text"


def test_samples_are_uniform_over_the_file(tmp_path):
    """The mean place of a row in samples of 100 of 1000, over 20 seeds: 499.5 with a standard error of 6."""
    rows = [{"text": f"row {i}"} for i in range(1000)]
    places = [
        index for seed in range(20) for index, _ in scan_rows(tmp_path, rows, seed=seed, max_sample_rows=100).sample
    ]
    assert len(places) == 2000 and len(set(places)) > 800
    assert abs(np.mean(places) - 499.5) < 4 * 6.5


def test_huge_rows_make_the_sample_smaller_instead_of_the_memory_larger(tmp_path):
    rows = [{"text": f"row {i} " + "x" * (1000 if i % 2 else 10)} for i in range(400)]
    found = scan_rows(tmp_path, rows, max_sample_bytes=50_000)
    assert found.rows == 400 and 0 < sum(len(row["text"]) for _, row in found.sample) <= 50_000


def test_of_books_the_beginnings_are_held_out(tmp_path, monkeypatch):
    """As many of the smallest keys as have room together; of each book no more than a run could train on."""
    rows = [{"text": f"book {i} " + "x" * 1000} for i in range(100)]
    every = scan_rows(tmp_path, rows, max_eval_rows=50).first_by_text
    monkeypatch.setattr(scan_module, "MAX_EVAL_ROW_CHARACTERS", 500)
    monkeypatch.setattr(scan_module, "MAX_EVAL_CHARACTERS", 10_000)
    held = scan_rows(tmp_path, rows, max_eval_rows=50).first_by_text
    assert held == [(key, {"text": row["text"][:500]}) for key, row in every[:20]]


def test_memory_does_not_grow_with_the_file(tmp_path):
    """Of each row two keys of 8 bytes stay, in arrays that grow by an eighth; all else is as large for any file."""
    words = "the same words in every row but the first " * 20

    def peak_bytes(count):
        rows = ({"prompt": f"question {i}", "completion": words} for i in range(count))
        tracemalloc.start()
        try:
            scan_rows(tmp_path, rows, max_sample_bytes=100_000, max_eval_rows=20)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = 2_000, 8_000
    grown_bytes, file_bytes = peak_bytes(many) - peak_bytes(few), (many - few) * len(words)
    assert grown_bytes < (many - few) * 2 * 8 * 2 < file_bytes / 20


def test_a_sample_is_the_same_for_the_same_seed(tmp_path):
    rows = [{"text": f"row {i}"} for i in range(500)]
    first, second, other = (scan_rows(tmp_path, rows, seed=seed, max_sample_rows=50).sample for seed in (1, 1, 2))
    assert first == second != other
