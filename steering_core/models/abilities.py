"""Abilities: what an architecture allows a batch to do, as measured on a tiny instance of every one of them.

Each ability only saves work: an architecture that is not listed has none, and its numbers are right all the same.
`tests/test_architectures.py` measures the abilities anew, and fails where these lists and mlx-lm no longer agree.
"""

from dataclasses import dataclass


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MEASURED = _names(
    """
    Klear afm7 afmoe apertus baichuan_m1 bailing_hybrid bailing_moe bailing_moe_linear bailing_moe_v3 cohere
    cohere2 dbrx deepseek deepseek_v2 deepseek_v3 deepseek_v32 dots1 ernie4_5 ernie4_5_moe exaone exaone4
    exaone_moe falcon_h1 gear gemma gemma2 gemma3 gemma3_text gemma4 gemma4_text glm glm4 glm4_moe glm4_moe_lite
    glm_moe_dsa gpt2 gpt_bigcode gpt_neox gpt_oss gptj granite granitemoe granitemoehybrid helium hunyuan
    hunyuan_v1_dense internlm2 internlm3 jamba kimi_k25 kimi_k3 kimi_linear kimi_vl laguna lfm2 lfm2-vl lfm2_moe
    lille-130m llama llama4 llama4_text longcat_flash longcat_flash_ngram mamba mamba2 mellum mimo mimo_v2_flash
    minicpm minicpm3 minimax minimax_m3_vl ministral3 mistral3 mistral4 mixtral muse_glimmer nanbeige nanochat
    nemotron nemotron-nas nemotron_h olmo2 olmo3 olmo_hybrid olmoe openelm phi phi3 phimoe phixtral pixtral
    plamo plamo2 plamo3 qwen qwen2 qwen2_moe qwen2_vl qwen3 qwen3_5 qwen3_5_moe qwen3_moe qwen3_next qwen3_vl
    qwen3_vl_moe recurrent_gemma rwkv7 seed_oss smollm3 spark2_5 stablelm starcoder2 step3p5 talkie telechat3
    youtu_llm
    """
)
_ONE_LENGTH = _names(
    """
    afm7 baichuan_m1 bailing_moe_linear gpt_bigcode jamba llama4 longcat_flash_ngram mamba nemotron_h
    olmo_hybrid recurrent_gemma rwkv7
    """
)
_FIXED_ROWS = _names("gemma4 gemma4_text hunyuan nanbeige rwkv7 talkie")
MIXED = _MEASURED - _ONE_LENGTH
GROWING = _MEASURED - _FIXED_ROWS


@dataclass(frozen=True)
class Abilities:
    """What is right in an architecture's batches.

    `mixed`: a batch may hold prompts of different lengths. `grows`: rows may join a pass between two blocks.
    """

    mixed: bool
    grows: bool


def abilities(architecture: str) -> Abilities:
    """The abilities of one of mlx-lm's modules."""
    return Abilities(architecture in MIXED, architecture in GROWING)
