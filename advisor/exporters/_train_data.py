"""The part of train.py that reads the data and splits it as the probes did."""

from __future__ import annotations

from pathlib import Path
from string import Template

from advisor.exporters._train_readers import READERS
from advisor.exporters._train_section import literal, source
from advisor.exporters.base import NotExpressible, Recommended
from knowledge.places import at_home
from probes.data import chats, columns, split, tables, tokenise
from probes.data.dataset import MAX_EVAL_ROWS
from probes.data.reader import MAX_LINE_BYTES, form_of, hub_place, with_class_names
from probes.data.scan import CANDIDATES_PER_ROW
from probes.formats import get_format

_OPENERS = {
    None: 'open(path, "rb")',
    "gzip": 'gzip.open(path, "rb")',
    "bz2": 'bz2.open(path, "rb")',
    "xz": 'lzma.open(path, "rb")',
}
_READ_WITH = {
    "csv": [tables.separator_of, tables.is_of_several_lines],
    "tsv": [tables.is_of_several_lines],
    "hub": [hub_place, with_class_names],
}

_HOLD_OUT = """\
# Rows whose hash is at or below HELD_OUT_KEY are not trained on; the first EVAL_ROWS of them measure the result.
HELD_OUT_KEY = $key"""
_HOLD_OUT_FILE = """\
# The first EVAL_ROWS of these rows, by their hashes, measure the result; no row that is among them is trained on.
EVAL_DATA = $data"""
_ROWS = '''

class TokenRows:
    """Tokenised rows: ids and which of them are trained; for classification the class of each row."""

    def __init__(self, pairs, class_labels=None):
        self.pairs = [(np.asarray(ids, dtype=np.int32), np.asarray(trained, dtype=bool)) for ids, trained in pairs]
        self.class_labels = None if class_labels is None else np.asarray(class_labels, dtype=np.int64)
        self.lengths_tokens = np.asarray([len(ids) for ids, _ in self.pairs], dtype=np.int64)

    def __len__(self):
        return len(self.pairs)

    def row(self, i):
        return self.pairs[i]


def keyed_rows(rows):
    """(hash, row) of the rows that can be used: those with one hash are on one side."""
    for row in $rows:
        if not matches(row):
            continue
        try:
            prompt, text = split_texts(to_segments(row, partial(chat_segments, None)))
            text.encode("utf-8")
        except (ValueError, TypeError, KeyError, AttributeError):  # a broken row, which the probes passed over too
            continue
        yield group_key($keyed_by, SEED), row


def load_data(args, tokenizer):
    """(training rows, held-out rows), tokenised."""
    held_out = {}  # one row per key: duplicates would count twice
$split
    eval_rows = tokenise([held_out[key] for key in sorted(held_out)$looked_at], tokenizer)
    if len(eval_rows) > EVAL_ROWS:
        labels = None if eval_rows.class_labels is None else eval_rows.class_labels[:EVAL_ROWS]
        eval_rows = TokenRows(eval_rows.pairs[:EVAL_ROWS], labels)
    return tokenise(train, tokenizer), eval_rows
'''

_BY_KEY = """\
    train = []
    for key, row in keyed_rows(read_rows(args.data)):
        if key > HELD_OUT_KEY:
            train.append(row)
        else:
            held_out.setdefault(key, row)"""
_BY_FILE = """\
    for key, row in keyed_rows($read_eval_rows(args.eval_data)):
        held_out.setdefault(key, row)
    train = [row for key, row in keyed_rows(read_rows(args.data)) if key not in held_out]"""

_TOKENISE = '''

def tokenise(rows, tokenizer):
    """TokenRows of rows; those without anything to learn from are left out."""
    pairs = []
    for start in range(0, len(rows), 500):
        segments = []
        for row in rows[start : start + 500]:
            try:
                segments.append(to_segments(row, partial(chat_segments, tokenizer)))
            except Exception:  # the model's chat template refuses this conversation
                continue
        encoded = $encode(segments, tokenizer)
        cut = [$cut(ids, trained, MAX_LENGTH_TOKENS, tokenizer) for ids, trained in encoded]
        pairs += [pair for pair in cut if pair is not None]
    return TokenRows(pairs)
'''

_TOKENISE_CLASSES = '''

def tokenise(rows, tokenizer):
    """TokenRows of rows with their classes; empty texts are left out."""
    pairs, class_labels = [], []
    for start in range(0, len(rows), 500):
        batch = rows[start : start + 500]
        encoded = $encode([to_segments(row, None) for row in batch], tokenizer)
        for row, (ids, trained) in zip(batch, encoded, strict=True):
            pair, label = $cut(ids, trained, MAX_LENGTH_TOKENS, tokenizer), str(label_of(row))
            if label not in LABEL_NAMES:
                raise SystemExit(f"There is a row of the class {label!r}. Those of the run are {LABEL_NAMES}.")
            if pair is not None:
                pairs.append(pair)
                class_labels.append(LABEL_NAMES.index(label))
    return TokenRows(pairs, class_labels)
'''


def held_out_settings(facts: Recommended) -> str:
    """Which rows are held out, for the top of the script."""
    plan = facts.plan
    if plan.eval_path:
        return Template(_HOLD_OUT_FILE).substitute(data=literal(place_of(plan.eval_path)))
    return Template(_HOLD_OUT).substitute(key=plan.held_out_key)


def place_of(data: str) -> str:
    """A file's full path; the id of a hub dataset as it is."""
    return data if _data_form(data)[0] == "hub" else str(at_home(data).resolve())


def data_section(facts: Recommended) -> str:
    """From reading to token ids. Raises NotExpressible for files that the script cannot read."""
    plan, task = facts.plan, facts.result.planned_run.task
    chosen = get_format(plan.data_format)
    encode, cut, *called = tokenise.OF_TASKS[task]
    functions = [chosen.matches, chosen.to_segments, chats.chat_segments, *chats.OF_CHATS, encode, cut, *called]
    functions += [split.split_texts, split.group_key, *([columns.renamed] if plan.data_columns else [])]
    tokenising = _TOKENISE
    if task == "sequence-classification":
        functions.append(chosen.label_of)
        tokenising = _TOKENISE_CLASSES
    rows = "(renamed(row, COLUMNS) for row in rows)" if plan.data_columns else "rows"
    readers, read_eval_rows = _readers(facts)
    splitting = Template(_BY_FILE if plan.eval_path else _BY_KEY).safe_substitute(read_eval_rows=read_eval_rows)
    looked_at = f"[:{CANDIDATES_PER_ROW * MAX_EVAL_ROWS}]" if plan.eval_path else ""  # of what may be a large file
    loading = Template(_ROWS).substitute(rows=rows, keyed_by=plan.keyed_by, split=splitting, looked_at=looked_at)
    tokenise_rows = Template(tokenising).substitute(encode=encode.__name__, cut=cut.__name__)
    return "".join([readers, *map(source, functions), loading, tokenise_rows])


def _readers(facts: Recommended) -> tuple[str, str]:
    """Source of what reads the data and the user's held-out rows, and the name of what reads the latter, which may be
    a file of another form."""
    form, eval_form = _data_form(facts.plan.data_path), _data_form(facts.plan.eval_path or facts.plan.data_path)
    helpers = dict.fromkeys(helper for name, _ in (form, eval_form) for helper in _READ_WITH.get(name, ()))
    text = "".join(map(source, helpers)) + _reader(*form)
    if form == eval_form:
        return text, "read_rows"
    return text + _reader(*eval_form).replace("def read_rows(", "def read_eval_rows("), "read_eval_rows"


def _reader(form: str, compression: str | None) -> str:
    return Template(READERS[form]).safe_substitute(
        opener=_OPENERS[compression],
        separator=r'"\t"' if form == "tsv" else "separator_of(first)",
        max_line_bytes=MAX_LINE_BYTES,
    )


def _data_form(path: str) -> tuple[str, str | None]:
    """(reader, compression) by the name's endings; a name without a known one is a hub dataset."""
    form, compression = form_of(Path(path))
    if compression == "zstd":
        raise NotExpressible("The training script reads no .zst files.", "Decompress the data first.")
    return form or "hub", compression
