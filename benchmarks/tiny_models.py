"""A small configuration of every causal architecture of transformers: few layers, narrow, with random weights."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

VOCABULARY = 101
MOST_PARAMETERS = 3_000_000

# Every name that some architecture has for a size, and what it is here; heads × head size = 4 × 16 = 64.
_WIDTH = (
    "hidden_size n_embd d_model dim emb_dim model_dim embedding_size n_embed embed_dim lru_width attention_hidden_size"
)
_INNER = "intermediate_size ffn_dim n_inner d_ff ffn_hidden_size ffn_hidden dff dim_ff"
_EXPERT = (
    "moe_intermediate_size shared_expert_intermediate_size expert_intermediate_size expert_ffn_hidden_size "
    "shared_intermediate_size moe_shared_expert_intermediate_size"
)
_LAYERS = "num_hidden_layers n_layer n_layers num_layers"
_HEADS = "num_attention_heads n_head n_heads num_heads decoder_attention_heads encoder_attention_heads"
_POSITIONS = "max_position_embeddings n_positions max_seq_len n_ctx max_sequence_length"
_HEAD_SIZE = (
    "head_dim global_head_dim kv_channels attention_head_dim dim_head qk_nope_head_dim v_head_dim mamba_d_head "
    "mamba_head_dim linear_key_head_dim linear_value_head_dim q_lora_rank kv_lora_rank"
)
_FOUR = (
    "num_local_experts num_experts n_routed_experts moe_num_experts linear_num_value_heads mamba_dt_rank time_step_rank"
)
_TWO = (
    "decoder_layers encoder_layers num_key_value_heads num_kv_heads n_head_kv num_experts_per_tok "
    "num_experts_per_token moe_k moe_topk top_k_experts linear_num_key_heads mamba_expand"
)
_ONE = (
    "n_shared_experts num_shared_experts num_expert_group n_group topk_group first_k_dense_replace num_zero_experts "
    "zero_expert_num mamba_n_groups n_groups num_memory_blocks"
)
_EIGHT = (
    "qk_rope_head_dim qk_rope_dim rotary_dim mamba_d_state ssm_state_size state_size mamba_n_heads mamba_num_heads "
    "mamba_chunk_size chunk_size hidden_size_per_layer_input laurel_rank"
)
_WINDOW = "sliding_window attention_window local_attention window_size"
SIZES: dict[str, Any] = {
    name: value
    for names, value in (
        (_WIDTH, 64), (_INNER, 96), (_EXPERT, 32), (_LAYERS, 4), (_HEADS, 4), (_POSITIONS, 256), (_HEAD_SIZE, 16),
        (_FOUR, 4), (_TWO, 2), (_ONE, 1), (_EIGHT, 8), (_WINDOW, 16),
    )
    for name in names.split()
} | {
    "vocab_size": VOCABULARY, "vocab_size_per_layer_input": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": 0, "initializer_range": 0.15, "init_std": 0.15, "mamba_d_ssm": 128, "num_kv_shared_layers": 0,
    "attn_layer_indices": [1, 3], "use_mamba_kernels": False, "is_decoder": True,
}  # fmt: skip
CHANGES: dict[str, dict[str, Any]] = {
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 2},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "mamba2": {"num_heads": 8, "head_dim": 16},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "zamba": {
        "attention_hidden_size": 128, "attention_head_dim": 32,
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
    },
    "zamba2": {"layers_block_type": ["mamba", "hybrid"] * 2, "use_mem_rope": False},
    "bailing_hybrid": {"layer_group_size": 2},
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}},
    "dbrx": {
        "attn_config": {"rope_theta": 10000.0, "kv_n_heads": 2, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 96, "moe_top_k": 2},
    },
    "gemma3": {
        "vision_config": {
            "model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "image_size": 56, "patch_size": 14,
        },
        "mm_tokens_per_image": 4,
    },
    "inkling_text": {
        "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 16, "sliding_window_size": 16,
        "rel_extent": 64, "layer_types": ["hybrid_sliding", "hybrid"] * 2,
    },
    "inkling2_text": {
        "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 16, "sliding_window_size": 16,
        "rel_extent": 64, "unpadded_vocab_size": VOCABULARY, "n_layers_per_attn_res_block": 2,
    },
    "kimi_linear": {
        "linear_head_dim": 16, "linear_num_heads": 4, "layer_types": ["linear_attention", "full_attention"] * 2,
    },
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "longcat_flash": {"head_dim": 8},
    # As wide as its positions, as it comes: its masks do not know of it.
    "moshi": {"sliding_window": 256},
    "prophetnet": {
        "num_encoder_layers": 2, "num_decoder_layers": 2, "decoder_ffn_dim": 96, "encoder_ffn_dim": 96,
        "num_encoder_attention_heads": 4, "num_decoder_attention_heads": 4,
    },
    "qwen4_exp_text": {
        "indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 16, "indexer_budget": 16,
        "indexer_compress_ratio": 4, "hc_lowrank": 8, "layer_types": ["linear_attention", "indexed_attention"] * 2,
    },
    "reformer": {
        "axial_pos_embds_dim": (32, 32), "axial_pos_shape": (16, 16), "attention_head_size": 16, "hash_seed": 0,
        "attn_layers": ["local", "lsh"],
    },
    "roc_bert": {
        "shape_vocab_size": 16, "pronunciation_vocab_size": 16, "pronunciation_embed_dim": 16, "shape_embed_dim": 16,
    },
    "xmod": {"default_language": "en_XX"},
    "zaya": {"num_experts_per_tok": 1, "router_hidden_size": 16},
}  # fmt: skip
"""What an architecture needs besides, lest its parts not fit together."""
_TEXT_PARTS = ("text_config", "decoder")


def small(kind: type[PreTrainedConfig], **changes: Any) -> PreTrainedConfig:
    """A configuration of this kind whose sizes are those above, where it has them."""
    known = set(inspect.signature(kind.__init__).parameters)
    if dataclasses.is_dataclass(kind):
        known |= {each.name for each in dataclasses.fields(kind)}
    sizes = {name: value for name, value in SIZES.items() if name in known}
    if "kv_lora_rank" in sizes or kind.model_type.startswith("dots3"):
        sizes["num_key_value_heads"] = 4
    parts = (getattr(kind, "sub_configs", None) or {}).items()
    texts = {
        part: small(each, **CHANGES.get(each.model_type, {})).to_dict()
        for part, each in parts
        if part in _TEXT_PARTS and hasattr(each, "model_type")
    }
    return kind(**{**sizes, **texts, **changes})


def build(name: str) -> PreTrainedModel:
    """The model of that `model_type`, in float32, with random weights of seed 0.

    Raises ValueError where it would be large; transformers raises anything where the sizes do not fit together.
    """
    config = small(CONFIG_MAPPING[name], **CHANGES.get(name, {}))
    with torch.device("meta"):
        count = sum(each.numel() for each in AutoModelForCausalLM.from_config(config).parameters())
    if count > MOST_PARAMETERS:
        raise ValueError(f"the smallest configuration made here has {count:,} parameters")
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    model(input_ids=torch.tensor([[5, 6, 7, 8, 9]]))
    return model
