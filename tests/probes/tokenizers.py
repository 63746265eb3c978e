"""Tokenizers for tests, made here: every byte of the text is a token, so that lengths can be counted by hand."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, TURN = "<pad>", "<s>", "</s>", "<turn>"
CHAT_TEMPLATE = (
    "{% for m in messages %}<turn>{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant: {% endif %}"
)


def byte_tokenizer(*, bos: bool = False, chat_template: str | None = None, pad: bool = True) -> PreTrainedTokenizerFast:
    """With `bos`, a beginning-of-sequence token is put before plain text, as Llama's tokenizer does."""
    vocabulary = [PAD, BOS, EOS, TURN, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(vocabulary)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([PAD, BOS, EOS, TURN])
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD if pad else None,
        chat_template=chat_template,
    )
