"""Tokenizers for tests, made here: every byte of the text is a token, so that lengths can be counted by hand."""

from __future__ import annotations

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, TURN = "<pad>", "<s>", "</s>", "<turn>"
CHAT_TEMPLATE = (
    "{% for m in messages %}<turn>{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant: {% endif %}"
)


def spacing_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """In SentencePiece's manner: characters are tokens, and a space is put before "every text" between special tokens,
    or before the "first text" alone; or, where "lines are joined", before every text of which a line break is one more
    space and spaces at its ends and behind others are none."""
    letters = [chr(i) for i in range(ord("a"), ord("z") + 1)]
    vocabulary = ["<unk>", PAD, BOS, EOS, TURN, *(f"<0x{i:02X}>" for i in range(256)), "▁", ":", *letters]
    model = models.BPE(
        {token: i for i, token in enumerate(vocabulary)}, merges=[], unk_token="<unk>", byte_fallback=True
    )
    tokenizer = Tokenizer(model)
    spaces = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    if kind == "every text":
        tokenizer.normalizer = normalizers.Sequence(spaces)
    elif kind == "lines are joined":
        joined = [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
        tokenizer.normalizer = normalizers.Sequence([*joined, *spaces])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([PAD, BOS, EOS, TURN])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD)


def byte_tokenizer(
    *, bos: bool = False, ends: bool = False, chat_template: str | None = None, pad: bool = True
) -> PreTrainedTokenizerFast:
    """With `bos`, a beginning-of-sequence token is put before plain text, as Llama's tokenizer does; with `ends`, an
    end-of-sequence token behind it, as T5's does."""
    vocabulary = [PAD, BOS, EOS, TURN, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(vocabulary)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([PAD, BOS, EOS, TURN])
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 1)])
    if ends:
        tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {EOS}", special_tokens=[(EOS, 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD if pad else None,
        chat_template=chat_template,
    )
