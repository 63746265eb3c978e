"""From a file to prepared data: nothing lost without a count, nothing held out that is trained on."""

import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge.errors import BadInput
from probes.data.dataset import PreparedData, prepare
from probes.data.split import group_key
from tests.probes.tokenizers import CHAT_TEMPLATE, byte_tokenizer, spacing_tokenizer

PLAIN = byte_tokenizer()
CHAT = byte_tokenizer(chat_template=CHAT_TEMPLATE)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def sums(count, seed=0):
    numbers = random.Random(seed)
    pairs = [(numbers.randint(10, 99), numbers.randint(10, 99)) for _ in range(count)]
    return [{"prompt": f"{a} + {b} =", "completion": f" {a + b}"} for a, b in pairs]


def prepared(path, tokenizer=PLAIN, **options):
    return prepare(path, tokenizer, **{"task": "causal-lm", "max_length_tokens": 64} | options)


def texts(rows, tokenizer=PLAIN):
    return [tokenizer.decode(rows.row(i)[0]) for i in range(len(rows))]


def test_a_plain_file(tmp_path):
    data = prepared(write(tmp_path / "a.jsonl", sums(300)))
    profile = data.profile
    assert (profile.format, profile.rows, profile.eval_rows) == ("prompt-completion", 300, 30)
    assert profile.train_rows == len(data.train) and profile.eval_rows == len(data.eval)
    assert profile.rows == profile.train_rows + profile.eval_rows + sum(profile.dropped.values())
    assert profile.length_p50_tokens == len("60 + 60 = 120") + 1
    assert profile.label_total_tokens == int(data.train.label_mask.sum())
    assert profile.label_mean_tokens == pytest.approx(data.train.label_mask.sum() / len(data.train))
    assert profile.metric_name == "exact match" and profile.tokenised_rows == profile.usable_rows


rows_with_doubles = st.lists(
    st.builds(
        lambda a, b, answer, loud: {"prompt": f"Add {a}  {b}" if loud else f"add {a} {b}", "completion": answer},
        st.integers(0, 6),
        st.integers(0, 6),
        st.sampled_from(["", " 4", " five", "x" * 90]),
        st.booleans(),
    ),
    min_size=4,
    max_size=60,
)


@settings(max_examples=60)
@given(rows=rows_with_doubles, seed=st.integers(0, 3))
def test_every_row_is_trained_on_held_out_or_counted_and_no_prompt_is_on_both_sides(tmp_path_factory, rows, seed):
    path = write(tmp_path_factory.getbasetemp() / "doubles.jsonl", rows)
    try:
        data = prepared(path, seed=seed, max_length_tokens=40)
    except BadInput as error:
        assert "rows are left" in str(error)
        return
    profile = data.profile
    assert profile.rows == len(rows) == profile.train_rows + profile.eval_rows + sum(profile.dropped.values())
    assert (profile.train_rows, profile.eval_rows) == (len(data.train), len(data.eval))

    def sides(keyed_by):
        for rows_of_side in (data.train, data.eval):
            yield {
                group_key(PLAIN.decode(ids[~mask] if keyed_by == "prompt" else ids), 0)
                for ids, mask in map(rows_of_side.row, range(len(rows_of_side)))
            }

    train, held_out = sides(data.keyed_by)
    assert not train & held_out
    assert len(held_out) == len(data.eval), "a duplicate in the held-out rows would only be counted twice"


def test_the_split_depends_on_the_seed_and_not_on_the_order_of_the_file(tmp_path):
    rows = sums(400)
    one = prepared(write(tmp_path / "a.jsonl", rows), seed=1)
    shuffled = prepared(write(tmp_path / "b.jsonl", random.Random(5).sample(rows, len(rows))), seed=1)
    other = prepared(write(tmp_path / "a.jsonl", rows), seed=2)
    assert texts(one.eval) == texts(shuffled.eval)
    assert sorted(texts(one.train)) == sorted(texts(shuffled.train))
    assert set(texts(one.eval)) != set(texts(other.eval))


def test_the_held_out_key_tells_the_sides_apart(tmp_path):
    """What the generated script does with the whole file."""
    rows = sums(400)
    data = prepared(write(tmp_path / "a.jsonl", rows), seed=3)
    assert data.keyed_by == "prompt"
    trained = [row for row in rows if group_key(row["prompt"], 3) > data.held_out_key]
    assert [f"{row['prompt']}{row['completion']}</s>" for row in trained] == texts(data.train)


def test_of_a_large_file_a_uniform_sample_is_trained_on(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"text": f"row {i:05d}"} for i in range(5000)])
    data = prepared(path, max_train_rows=1000)
    whole = prepared(path)
    assert texts(data.eval) == texts(whole.eval), "what is held out does not depend on the sample"
    assert data.profile.train_rows == whole.profile.train_rows == 4800
    assert 930 < len(data.train) <= 1000 and set(texts(data.train)) < set(texts(whole.train))
    assert data.profile.tokenised_rows == len(data.train) + len(data.eval)
    assert data.profile.label_total_tokens == whole.profile.label_total_tokens
    numbers = sorted(int(text[4:9]) for text in texts(data.train))
    assert np.abs(np.quantile(numbers, [0.25, 0.5, 0.75]) / 5000 - [0.25, 0.5, 0.75]).max() < 0.05


def test_one_prompt_for_all_rows_is_split_by_the_whole_text(tmp_path):
    rows = [{"prompt": "Tell a joke.", "completion": f" number {i}"} for i in range(100)]
    data = prepared(write(tmp_path / "a.jsonl", rows))
    assert data.keyed_by == "text" and data.profile.eval_rows == 10
    assert not set(texts(data.train)) & set(texts(data.eval))


def test_long_rows_are_cut_and_counted_and_long_prompts_left_out(tmp_path):
    rows = [{"prompt": f"{i}", "completion": "short"} for i in range(40)]
    rows += [{"prompt": f"long answer {i}", "completion": "x" * 100} for i in range(10)]
    rows += [{"prompt": f"{i}" + "x" * 100, "completion": "never seen"} for i in range(5)]
    profile = prepared(write(tmp_path / "a.jsonl", rows), max_length_tokens=50).profile
    assert profile.cut_rows == 10 and profile.length_max_tokens > 100
    assert profile.dropped == {"the prompt alone is longer than the limit": 5}


def test_of_books_the_beginnings_are_trained_on_and_held_out(tmp_path):
    rows = [{"text": f"book {i} " + "x" * 2**18} for i in range(8)]
    data = prepared(write(tmp_path / "a.jsonl", rows), max_length_tokens=32)
    assert (data.profile.cut_rows, data.profile.usable_rows, data.profile.dropped) == (8, 8, {})
    assert all(len(text) <= 32 and text.startswith("book") for text in texts(data.train) + texts(data.eval))
    assert texts(data.eval)


def test_conversations_go_through_the_chat_template(tmp_path):
    rows = [
        {"messages": [{"role": "user", "content": f"hi {i}"}, {"role": "assistant", "content": "yo"}]}
        for i in range(20)
    ]
    data = prepared(write(tmp_path / "a.jsonl", rows), CHAT)
    ids, mask = data.train.row(0)
    assert CHAT.decode(ids).startswith("<turn>user: hi") and CHAT.decode(ids[mask]) == "yo</s>"


def test_a_template_that_refuses_a_conversation_is_counted(tmp_path):
    strict = byte_tokenizer(
        chat_template="{% for m in messages %}{% if m['role'] == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
        "{{ m['content'] }}{% endfor %}"
    )
    rows = [
        {"messages": [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": "a"}]} for i in range(20)
    ]
    rows += [{"messages": [{"role": "tool", "content": "x"}, {"role": "assistant", "content": "a"}]}] * 2
    profile = prepared(write(tmp_path / "a.jsonl", rows), strict).profile
    assert profile.dropped["the chat template refuses the conversation (no tools)"] == 2


def test_tokens_of_unknown_words_are_counted(tmp_path):
    known, unknown = byte_tokenizer(), spacing_tokenizer("first text")
    rows = [{"text": f"{'ab' * 5} {i % 10}" * 2} for i in range(60)]
    path = write(tmp_path / "a.jsonl", rows)
    assert prepared(path, known, format="text").profile.unknown_share == 0
    unknown.unk_token = "a"  # half of the letters
    share = prepared(path, unknown, format="text").profile.unknown_share
    assert 0.25 < share < 0.5
    unknown.unk_token = unknown.eos_token  # means something else, too
    assert prepared(path, unknown, format="text").profile.unknown_share == 0


def test_classification(tmp_path):
    rows = [{"text": f"row {i}", "label": ["no", "yes", "maybe"][i % 3]} for i in range(60)]
    data = prepared(write(tmp_path / "a.jsonl", rows), task="sequence-classification")
    assert data.label_names == ("maybe", "no", "yes") and data.profile.metric_name == "accuracy"
    counts = np.bincount(data.eval.class_labels)
    assert data.profile.largest_class_share == counts.max() / counts.sum()
    assert data.profile.held_out_classes == np.count_nonzero(counts)
    for side in (data.train, data.eval):
        for text, label in zip(texts(side), side.class_labels, strict=True):
            assert data.label_names[label] == ["no", "yes", "maybe"][int(text.split()[1]) % 3]


@pytest.mark.parametrize("is_sampled", [False, True])
def test_held_out_rows_of_classes_that_nothing_can_learn_are_counted(is_sampled, tmp_path):
    """Every second row has a class of its own. Where training rows were sampled, which classes they lack is unknown."""
    rows = [{"text": f"row {i}", "label": "all" if i % 2 else f"row {i}"} for i in range(80)]
    settings = {"max_train_rows": 30} if is_sampled else {}
    data = prepared(write(tmp_path / "a.jsonl", rows), task="sequence-classification", **settings)
    unseen = sum(data.label_names[label] != "all" for label in data.eval.class_labels)
    assert unseen > 0 and data.profile.unseen_class_rows == (0 if is_sampled else unseen)


def test_numbers_as_labels_are_in_their_order(tmp_path):
    rows = [{"text": f"row {i}", "label": i % 12} for i in range(60)]
    data = prepared(write(tmp_path / "a.jsonl", rows), task="sequence-classification")
    assert data.label_names == tuple(str(i) for i in range(12))


def test_the_metric_suits_the_labels(tmp_path):
    long = [{"prompt": f"{i}", "completion": "a long answer indeed"} for i in range(20)]
    assert prepared(write(tmp_path / "a.jsonl", long)).profile.metric_name == "token accuracy"
    text = [{"text": f"t {i}"} for i in range(20)]
    assert prepared(write(tmp_path / "b.jsonl", text)).profile.metric_name == "token accuracy"


def test_prepared_data_survives_its_files(tmp_path):
    rows = [{"text": f"row {i}", "label": i % 2} for i in range(40)]
    data = prepared(write(tmp_path / "a.jsonl", rows), task="sequence-classification")
    data.save(tmp_path / "prepared")
    loaded = PreparedData.load(tmp_path / "prepared")
    assert loaded.profile == data.profile and loaded.label_names == data.label_names
    assert (loaded.held_out_key, loaded.keyed_by) == (data.held_out_key, data.keyed_by)
    assert isinstance(loaded.train.tokens, np.memmap) and texts(loaded.train) == texts(data.train)
    order, again = data.batch_order(4, 30, 1), loaded.batch_order(4, 30, 1)
    assert all((a == b).all() for a, b in zip(order, again, strict=True))


def test_rows_of_another_format_use_up_the_skip_budget(tmp_path):
    rows = sums(300)
    rows[7] = {"question": "what?"}
    profile = prepared(write(tmp_path / "a.jsonl", rows)).profile
    assert profile.dropped["does not fit the format prompt-completion"] == 1 and profile.rows == 300
    rows[8:12] = [{"question": "what?"}] * 4
    with pytest.raises(BadInput) as caught:
        prepared(write(tmp_path / "a.jsonl", rows))
    message = str(caught.value)
    assert "5 of 300" in message and "line 8" in message and "'question' (str)" in message and "sharegpt" in message


def test_a_table_without_its_header_is_told_what_its_first_line_is(tmp_path):
    (tmp_path / "a.csv").write_text("how are you,fine\n" * 9)
    with pytest.raises(BadInput, match=r"'how are you' \(str\)(.|\n)*first line of a table names its columns"):
        prepared(tmp_path / "a.csv")


def test_half_a_surrogate_pair_is_no_text(tmp_path):
    path = write(tmp_path / "a.jsonl", sums(200))
    path.write_text(path.read_text() + '{"prompt": "\\ud800", "completion": "x"}\n')
    assert prepared(path).profile.dropped["does not fit the format prompt-completion"] == 1
    classes = [{"text": f"row {i}", "label": "ab"[i % 2]} for i in range(200)]
    path = write(tmp_path / "b.jsonl", classes)
    path.write_text(path.read_text() + '{"text": "x", "label": "\\ud800"}\n')
    data = prepared(path, task="sequence-classification")
    assert data.label_names == ("a", "b") and data.profile.dropped == {"does not fit the format text-label": 1}


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ([], {}, "empty"),
        ([{"prompt": "a", "completion": ""}] * 3 + [{"prompt": "b", "completion": ""}], {}, "4  nothing to train on"),
        ([{"prompt": "one", "completion": "1"}], {}, "needed"),
        ([{"prompt": "one", "completion": "1"}] * 50, {}, "50  rows in the format"),
        ([{"prompt": f"{i}" * 70, "completion": "1"} for i in range(9)], {}, "longer than the limit"),
        ([{"text": f"{i}", "label": "a"} for i in range(9)], {"task": "sequence-classification"}, "one label only"),
        (
            [{"text": f"{i}", "label": f"{i / 7:.3f}"} for i in range(30)],
            {"task": "sequence-classification"},
            "30 labels that are numbers, as 0.000 and 0.143",
        ),
        ([{"text": f"{i}", "label": i / 7} for i in range(30)], {}, "Classes are learned here, not numbers"),
        ([{"text": f"{i}", "label": "a"} for i in range(9)], {}, "--format text"),
        (sums(9), {"task": "sequence-classification"}, "choose another task"),
        (sums(9), {"format": "alpaca"}, "instruction, output"),
        ([{"text": f"{i}", "label": i / 7} for i in range(1, 6)], {}, "keys of the format text-label, but line 1"),
        ([{"messages": [{"role": "bot", "content": f"{i}"}]} for i in range(9)], {}, "turns of the role 'assistant'"),
        (sums(9), {"format": "alpacca"}, "Did you mean 'alpaca'"),
    ],
)
def test_data_that_cannot_be_used_says_why(tmp_path, rows, options, words):
    with pytest.raises(BadInput, match=words):
        prepared(write(tmp_path / "a.jsonl", rows), **options)
