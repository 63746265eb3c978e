"""A run of the comparison on text (MetaMathQA), and the peak that is predicted for it."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median_low
from typing import Any

import numpy as np

from knowledge.models import known_config
from knowledge.schema import PlannedRun
from tests.benchmarks import comparison_script as script

SHUFFLES = 5
# GSM8K questions with the script's template, and the script's max_new_tokens.
PROMPT_TOKENS = 220

# What an evaluation adds to what training left, it adds with the first passes: for none of the runs do more tokens
# change the peak.
FIRST_TOKENS = 1


class TextCase:
    """A run's model, its settings, and its traces once they are made. What is not known of the data is the length of
    its longest batch: `candidate_lengths`, in tokens."""

    candidate_lengths = tuple(range(688, 713, 4))

    def __init__(self, settings: Mapping[str, Any], peft_config: Mapping[str, Any] | None, train: Mapping[str, Any]):
        from transformers import AutoConfig

        self.settings, self.peft_config = settings, peft_config
        self.tokens_per_row = train["metrics"][-1]["train total tokens"] / train["metrics"][-1]["train samples"] - 1
        self.config = AutoConfig.for_model(**known_config(settings["model_id"]))
        self.hidden_size, self.num_layers = self.config.hidden_size, self.config.num_hidden_layers
        self.run = PlannedRun(
            max_steps=settings["max_steps"],
            batch_size=settings["batch_size"],
            max_length_tokens=settings["max_seq_length"],
            dtype=settings["dtype"],
            gradient_checkpointing=settings.get("use_gc", False),
            max_grad_norm=settings["grad_norm_clip"],
        )
        self._templates: tuple[Any, Any] | None = None

    def predict(self, longest: int, *, evaluates: bool = True) -> int:
        """The median peak over several orders of rows, in bytes: one order alone can be 2 % off by fragmentation."""
        return median_low(self._peak(longest, seed, evaluates=evaluates) for seed in range(SHUFFLES))

    def _peak(self, longest: int, seed: int, *, evaluates: bool) -> int:
        from probes.memory.generation import GenerationPlan
        from probes.memory.replay import Replay

        training, generation = self._traced()
        random = np.random.default_rng(seed)
        replay = Replay(training)
        batch_size, max_steps = self.run.batch_size, self.run.max_steps
        rows = script.RowLengths(self.tokens_per_row, longest, batch_size * max_steps)
        replay.run(rows.longest_buckets(random, batch_size), script.EMPTY_CACHE_EVERY)
        if not evaluates:
            return replay.peak().reserved_bytes
        evaluation = GenerationPlan(self.settings["batch_size_eval"], PROMPT_TOKENS, self._new_tokens())
        for lengths in rows.before_evaluations(random, batch_size, max_steps):
            replay.allocator.empty_cache()
            replay.run(lengths)
            replay.generate(generation, evaluation)
        return replay.peak().reserved_bytes

    def _new_tokens(self) -> int:
        limits = self.settings["generation_kwargs"]
        return min(limits["max_new_tokens"], limits["max_length"] - PROMPT_TOKENS, FIRST_TOKENS)

    def _traced(self) -> tuple[Any, Any]:
        """The training step's and the generation's."""
        if self._templates is None:
            from probes.memory.batches import BatchPlan
            from probes.memory.estimate import training_template
            from probes.memory.generation import generation_template
            from probes.memory.template import ONE_LENGTH

            kind = self.settings["optimizer_type"]
            training = training_template(
                self.config,
                self.peft_config,
                self.run,
                BatchPlan((), ((self.candidate_lengths[len(self.candidate_lengths) // 2], 0),), ONE_LENGTH),
                optimizer=script.OPTIMIZERS.get(kind, f"torch.optim:{kind}"),
                optimizer_settings=dict(self.settings["optimizer_kwargs"]),
                loop=script.comparison_loop,
                autocast_adapter_dtype=self.settings["autocast_adapter_dtype"],
            )
            generation = generation_template(
                self.config, self.peft_config, self.run, batch_size=self.settings["batch_size_eval"]
            )
            self._templates = training, generation
        return self._templates
