"""How much a tuned model forgets: the growth of its loss on texts that the base model wrote itself.

No further data is needed. The texts are drawn from the base at temperature 1, so the mean growth of the loss on them
estimates the Kullback-Leibler divergence KL(base || tuned) in nats per token: what the tuned model has moved away from
everything the base would say, not only from the texts of one benchmark. All workers of a race measure on the same
texts: the first one writes them, the others read them.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from pydantic import Field

from knowledge.intervals import student_80
from knowledge.new_files import replace_file
from knowledge.schema import Finite, Record, Task
from probes.data.rows import TokenRows

if TYPE_CHECKING:
    from probes.evaluation import Evaluation
    from probes.schema import ProbeContext

TEXTS_FILE = "base_texts.json"  # in the folder of the prepared data
TEXT_TOKENS = 32
# SmolLM2-135M after 16 steps of LoRA, on 16 texts: .04 +- .02, .22 +- .04 and .68 +- .07 nats at the rates 5e-4, 2e-3
# and 1e-2. Half as many still tell these apart, at a few percent of a probe's time on a CPU; a GPU hardly notices more.
TEXTS, TEXTS_ON_CPU = 32, 8

# A prompt to start from and the text that the base wrote: token ids.
Text = tuple[list[int], list[int]]


class Forgetting(Record):
    """The growth of the loss on the base's own texts, in nats per token."""

    value: Finite
    noise: Finite = Field(ge=0, description="80 % half-width of `value` over the choice of the texts")


class ForgettingMeter:
    """Measures forgetting in one worker. `evaluate(model, rows)` is how the worker evaluates anything.

    `evaluation_s` is what a measurement takes. Whatever goes wrong here is told in words and costs no probe.
    """

    def __init__(self, context: ProbeContext, tokenizer: Any, evaluate: Callable[[Any, TokenRows], Evaluation]) -> None:
        self.evaluation_s = 0.0
        self._context = context
        self._tokenizer = tokenizer
        self._evaluate = evaluate
        self._texts: TokenRows | None = None
        self._untuned: Evaluation | None = None
        self._why_not = ""
        if not context.measures_forgetting:
            self._why_not = "not asked for"
        elif context.task == "sequence-classification":
            self._why_not = "a classifier writes no texts to measure it on"

    def prepare(self, base: Any) -> None:
        """Gets the texts and measures the untuned model on them; once, for the base stays the same."""
        if self._untuned is not None or self._why_not:
            return
        try:
            self._texts = self._shared_texts(base)
            started = time.perf_counter()
            self._untuned = self._evaluate(base, self._texts)
            self.evaluation_s = time.perf_counter() - started
        except Exception as error:
            self._why_not = f"the base model writes no texts to measure it on: {type(error).__name__}: {error}"

    def measure(self, model: Any) -> tuple[Forgetting | None, str]:
        """How much `model` has forgotten, or None with the reason in words."""
        if self._texts is None or self._untuned is None:
            return None, self._why_not
        try:
            return forgetting(self._untuned, self._evaluate(model, self._texts)), ""
        except Exception as error:
            return None, f"not measured on the base model's texts: {type(error).__name__}: {error}"

    def _shared_texts(self, base: Any) -> TokenRows:
        context = self._context
        made_for = {
            "model": context.model_reference,
            "task": context.task,
            "seed": context.seed,
            "texts": TEXTS_ON_CPU if context.device == "cpu" else TEXTS,
            "tokens": TEXT_TOKENS,
        }
        return shared_texts(
            Path(context.data_folder) / TEXTS_FILE,
            made_for,
            lambda: write_texts(base, self._tokenizer, context.task, context.seed, made_for["texts"]),
        )


def forgetting(untuned: Evaluation, tuned: Evaluation) -> Forgetting:
    """From two evaluations of the same texts. The noise is that of a mean over texts, from their spread."""
    import numpy as np

    growth = np.subtract(tuned.row_losses, untuned.row_losses) / np.asarray(tuned.row_labels)
    noise = student_80(len(growth) - 1) * growth.std(ddof=1) / math.sqrt(len(growth))
    return Forgetting(value=round(tuned.loss - untuned.loss, 5), noise=round(float(noise), 5))


def shared_texts(path: Path, made_for: dict[str, Any], write: Callable[[], list[Text]]) -> TokenRows:
    """The texts in `path`; where it has none for `made_for`, those that `write()` returns, kept there for the others.

    Processes that come at the same time wait for the first one, and read what it wrote.
    """
    with FileLock(path.with_suffix(".lock")):
        texts = _read(path, made_for)
        if texts is None:
            texts = write()
            replace_file(path, json.dumps({"made_for": made_for, "texts": texts}).encode())
    return TokenRows.build([(prompt + text, [False] * len(prompt) + [True] * len(text)) for prompt, text in texts])


def write_texts(model: Any, tokenizer: Any, task: Task, seed: int, count: int) -> list[Text]:
    """`count` texts of TEXT_TOKENS tokens each, drawn from the model token by token at temperature 1.

    They start from the token that begins a text; an encoder-decoder is given the empty text to read. No text may end
    before it is that long, so that all count alike. The same for the same model, seed and device.
    """
    import torch

    prompt = _prompt(tokenizer, task)
    inputs = torch.tensor([prompt] * count, device=model.device)
    torch.manual_seed(seed)
    with _plain_sampling(model, tokenizer), torch.no_grad():
        written = model.generate(
            input_ids=inputs,
            attention_mask=torch.ones_like(inputs),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            min_new_tokens=TEXT_TOKENS,
            max_new_tokens=TEXT_TOKENS,
        )
    return [(prompt, text) for text in written[:, -TEXT_TOKENS:].tolist()]


@contextmanager
def _plain_sampling(model: Any, tokenizer: Any) -> Iterator[None]:
    """Without the penalties and cut-offs that many a model brings along for chatting: they would bend the texts away
    from its own distribution."""
    from transformers import GenerationConfig

    own = model.generation_config
    model.generation_config = GenerationConfig(
        bos_token_id=own.bos_token_id,
        eos_token_id=own.eos_token_id if own.eos_token_id is not None else tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        decoder_start_token_id=own.decoder_start_token_id,
    )
    try:
        yield
    finally:
        model.generation_config = own


def _prompt(tokenizer: Any, task: Task) -> list[int]:
    """What a text starts from."""
    if task == "seq2seq-lm" and (empty := list(tokenizer("").input_ids)):
        return empty
    for start in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if start is not None:
            return [start]
    return list(tokenizer("\n", add_special_tokens=False).input_ids)


def _read(path: Path, made_for: dict[str, Any]) -> list[Text] | None:
    if not path.exists():
        return None
    stored = json.loads(path.read_text(encoding="utf-8"))
    return stored["texts"] if stored["made_for"] == made_for else None
