"""Tiny models with the peculiarities of real chat templates and tokenizers: text of our own with the same behaviour."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tests.tiny import SPECIAL, save_tiny_model

_TURNS = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
_ALTERNATING = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}"
    "<|{{ m['role'] }}|>{{ m['content'] | trim }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_WITHOUT_THOUGHT = "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"

TEMPLATES: dict[str, str | list[dict[str, str]]] = {
    # Gemma 2 refuses a system message, trims every message and wants roles to alternate
    "gemma2": "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + _ALTERNATING,
    "ignores system": "{% for m in messages if m['role'] != 'system' %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
    # Llama 3.2 writes today's date, and trims
    "llama3.2": "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "<|system|>Today Date: {{ date_string }}<|end|>"
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] | trim }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}",
    # Qwen3 puts an empty thought before an answer; its open prompt has none unless thinking is off
    "qwen3": "{% for m in messages %}<|{{ m['role'] }}|>{% if m['role'] == 'assistant' and loop.last %}"
    "<think>\n\n</think>\n\n{% endif %}{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>" + _WITHOUT_THOUGHT + "{% endif %}",
    # R1 opens a thought for every answer, and leaves thoughts out of what was said
    "r1": "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'].split('</think>')[-1] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}",
    # SmolLM3 has an empty thought wherever thinking is off
    "smollm3": "{% set quiet = '<think>\n\n</think>\n' if enable_thinking is defined and not enable_thinking else '' %}"
    "{% for m in messages %}<|{{ m['role'] }}|>{% if m['role'] == 'assistant' %}{{ quiet }}{% endif %}"
    "{{ m['content'].lstrip('\n') }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{{ quiet }}{% endif %}",
    # gpt-oss names a channel before an answer, and leaves it to the model in an open prompt
    "gpt-oss": "{% for m in messages %}<|{{ m['role'] }}|>{% if m['role'] == 'assistant' %}final:{% endif %}"
    "{{ m['content'] }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
    # Llama 2 has a space before an answer, which SentencePiece makes a part of it
    "llama2": "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]{% else %}"
    " {{ m['content'] }} {{ eos_token }}{% endif %}{% endfor %}",
    # Llama 3's first template ends in an open prompt whether it is asked for one or not
    "llama3": _TURNS + "<|assistant|>",
    "timed": "{{ strftime_now('%H:%M:%S.%f') }}" + _TURNS + "<|assistant|>",
    "named": [{"name": "default", "template": _TURNS + "<|assistant|>"}, {"name": "tool_use", "template": "tools"}],
    "named without default": [
        {"name": "plain", "template": _TURNS + "<|assistant|>"},
        {"name": "other", "template": "x"},
    ],
    "faulty": "{{ messages[0]['no such thing']['at all'] }}",
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "no answers": "{{ messages[0]['content'] }}",
}


def save_chat_model(
    folder: Path, template: str, tokens: Sequence[str] = ("<think>", "</think>"), **config: Any
) -> Path:
    """The tiny model with one of `TEMPLATES`, and `tokens` added to its tokenizer."""
    save_tiny_model(folder, {"vocab_size": 260 + len(tokens), **config})
    _change_tokenizer(folder, lambda t: t.add_tokens([AddedToken(token, normalized=False) for token in tokens]))
    (folder / "chat_template.jinja").unlink()
    _change_json(folder / "tokenizer_config.json", chat_template=TEMPLATES[template])
    return folder


def save_raw_model(folder: Path, begin: bool, end: bool) -> Path:
    """The tiny model with a tokenizer that begins a text with <|system|>, its BOS, or ends it with <|end|>."""
    save_tiny_model(folder)
    single = f"{'<|system|> ' if begin else ''}$A{' <|end|>' if end else ''}"

    def change(tokenizer: Tokenizer) -> None:
        special = [(token, tokenizer.token_to_id(token)) for token in ("<|system|>", "<|end|>")]
        tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=special)

    _change_tokenizer(folder, change)
    _change_json(folder / "tokenizer_config.json", bos_token="<|system|>")
    return folder


def save_sentencepiece_model(folder: Path, scheme: str, template_end: str = "\n") -> Path:
    """The tiny model with a SentencePiece-like tokenizer; `scheme` is Metaspace's, or `legacy` for Llama 2's."""
    save_tiny_model(folder, {"vocab_size": 400})
    tokenizer = _sentencepiece(scheme)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", unk_token="<unk>", additional_special_tokens=SPECIAL[1:]
    )
    fast.chat_template = (
        "{% for m in messages %}<|{{ m['role'] }}|>" + template_end + "{{ m['content'] }}<|end|>" + template_end
    ) + ("{% endfor %}{% if add_generation_prompt %}<|assistant|>" + template_end + "{% endif %}")
    for old in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json"):
        (folder / old).unlink(missing_ok=True)
    fast.save_pretrained(folder)
    return folder


def _sentencepiece(scheme: str) -> Tokenizer:
    letters = sorted({*"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?'()[]/\n"})
    vocabulary: dict[str, int] = {}
    for token in ["<unk>", *SPECIAL, "▁", *letters]:
        vocabulary.setdefault(token, len(vocabulary))
    merges: list[tuple[str, str]] = []
    for word in ("▁Hello", "▁world", "▁Yes", "▁No", "Hello", "world", "Yes", "No"):
        for i in range(1, len(word)):
            merge = (word[:i], word[i])
            if merge not in merges:
                merges.append(merge)
            vocabulary.setdefault(word[: i + 1], len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True))
    if scheme == "legacy":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme, split=False)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return tokenizer


def _change_tokenizer(folder: Path, change: Any) -> None:
    path = str(folder / "tokenizer.json")
    tokenizer = Tokenizer.from_file(path)
    change(tokenizer)
    tokenizer.save(path)


def _change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
