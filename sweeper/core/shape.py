"""What a decoder-only language model is made of, from the ``config.json`` beside its weights: no weight is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from sweeper.core.config import ALL_LINEAR, LoraConfig

_BIASED_ATTENTION: Final = frozenset({"qwen2", "qwen2_moe"})
"""Families with biases on queries, keys and values that their config does not name."""
_HEAD_NORMS: Final = frozenset({"qwen3", "qwen3_moe"})
"""Families that normalise queries and keys head by head."""
_FOUR_NORMS: Final = frozenset({"gemma2", "gemma3", "gemma3_text"})
_TIED_BY_DEFAULT: Final = frozenset({"gemma", "gemma2", "gemma3", "gemma3_text"})
EXACT_FAMILIES: Final = frozenset(
    {"llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "granite", "phi3", "smollm3", "gemma", "gemma2"}
)
"""``model_type`` of those whose parameters are counted exactly; others are taken for a Llama of their sizes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelShape:
    """The sizes that memory and work of a decoder follow from: blocks of causal attention and a gated MLP."""

    family: str
    layers: int
    hidden: int
    intermediate: int
    """Inner width of the MLP, of one expert where there are several."""
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool
    """Whether the output layer is the embedding."""
    experts: int = 1
    experts_per_token: int = 1
    biases: int = 0
    """Bias parameters of one block."""
    norms: int = 0
    """Norm parameters of one block."""
    windows: tuple[int | None, ...] = ()
    """How many tokens back each attention layer sees; None is all of them."""
    parameters_found: int | None = None
    """Number of weights in the model's files, which overrides the count where they are there."""

    @property
    def query_width(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def embedding_parameters(self) -> int:
        return self.vocab * self.hidden

    @property
    def outside_parameters(self) -> int:
        """Parameters outside the blocks: embedding, output layer, last norm."""
        return self.embedding_parameters * (1 if self.tied else 2) + self.hidden

    @property
    def linear_parameters(self) -> int:
        """Weights of one block's matrices."""
        attention = self.hidden * (2 * self.query_width + 2 * self.kv_width)
        router = self.hidden * self.experts if self.experts > 1 else 0
        return attention + 3 * self.hidden * self.intermediate * self.experts + router

    @property
    def block_parameters(self) -> float:
        if self.parameters_found is not None:
            return (self.parameters_found - self.outside_parameters) / self.layers
        return self.linear_parameters + self.biases + self.norms

    @property
    def parameters(self) -> float:
        return self.layers * self.block_parameters + self.outside_parameters

    @property
    def active_parameters(self) -> float:
        """Weights that each token is multiplied by, the output layer included, of experts those that are chosen."""
        idle = 3 * self.hidden * self.intermediate * (self.experts - self.experts_per_token)
        return self.layers * (self.linear_parameters - idle) + self.embedding_parameters

    @property
    def is_exact(self) -> bool:
        """Whether the parameters are counted, not estimated."""
        return self.parameters_found is not None or self.family in EXACT_FAMILIES

    def adapters(self, lora: LoraConfig) -> AdapterShape:
        """Return what LoRA adds. ``all-linear`` is every matrix of the blocks, experts left out."""
        h, q, kv, inner = self.hidden, self.query_width, self.kv_width, self.intermediate
        sizes = {"q_proj": (h, q), "k_proj": (h, kv), "v_proj": (h, kv), "o_proj": (q, h)}
        if self.experts == 1:
            sizes |= {"gate_proj": (h, inner), "up_proj": (h, inner), "down_proj": (inner, h)}
        if self.family == "phi3":
            sizes = {"qkv_proj": (h, q + 2 * kv), "o_proj": (q, h), "gate_up_proj": (h, 2 * inner)}
            sizes |= {"down_proj": (inner, h)}
        if lora.target_modules != (ALL_LINEAR,):
            sizes = {name: size for name, size in sizes.items() if name.endswith(lora.target_modules)}
        return AdapterShape(
            trained=self.layers * lora.rank * sum(a + b for a, b in sizes.values()),
            adapted=self.layers * sum(a * b for a, b in sizes.values()),
            inputs=sum(a for a, _ in sizes.values()),
            layers=len(sizes),
            rank=lora.rank,
            dropout=lora.dropout > 0,
        )

    def with_parameters(self, found: int | None) -> ModelShape:
        """Return the shape with the number of weights that its files hold, as far as it is known."""
        return replace(self, parameters_found=found) if found else self


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterShape:
    """What LoRA adds to a model."""

    trained: int
    """Parameters of all adapters."""
    adapted: int
    """Parameters of the matrices that got one; frozen, and held in the precision of the trial."""
    inputs: int
    """Widths of the inputs of one block's adapted matrices, summed."""
    layers: int
    """Adapted matrices of one block."""
    rank: int
    dropout: bool


def shape_of(config: Mapping[str, Any]) -> ModelShape | None:
    """Return the shape that a transformers ``config.json`` states, or None where it lacks the sizes of a decoder."""
    text = config.get("text_config")
    plain: Mapping[str, Any] = text if isinstance(text, Mapping) else config
    layers, hidden = _whole(plain, "num_hidden_layers", "n_layer"), _whole(plain, "hidden_size", "n_embd")
    heads, vocab = _whole(plain, "num_attention_heads", "n_head"), _whole(plain, "vocab_size")
    if layers is None or hidden is None or heads is None or vocab is None:
        return None
    family = str(plain.get("model_type", "unknown"))
    head_dim = _whole(plain, "head_dim") or hidden // heads
    kv_heads = _whole(plain, "num_key_value_heads") or heads
    experts = _whole(plain, "num_experts", "num_local_experts", "n_routed_experts") or 1
    inner = _whole(plain, "moe_intermediate_size") if experts > 1 else None
    norms = (4 if family in _FOUR_NORMS else 2) * hidden + (2 * head_dim if family in _HEAD_NORMS else 0)
    return ModelShape(
        family=family,
        layers=layers,
        hidden=hidden,
        intermediate=inner or _whole(plain, "intermediate_size", "n_inner", "ffn_dim") or 4 * hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab=vocab,
        tied=bool(plain.get("tie_word_embeddings", config.get("tie_word_embeddings", family in _TIED_BY_DEFAULT))),
        experts=experts,
        experts_per_token=_whole(plain, "num_experts_per_tok") or 1,
        biases=_biases(plain, family, hidden, heads * head_dim, kv_heads * head_dim),
        norms=norms,
        windows=_windows(plain, layers),
    )


def _biases(plain: Mapping[str, Any], family: str, hidden: int, query: int, kv: int) -> int:
    if family in _BIASED_ATTENTION:
        return query + 2 * kv
    found = query + 2 * kv + hidden if plain.get("attention_bias") else 0
    inner = int(plain.get("intermediate_size") or 0)
    return found + (2 * inner + hidden if plain.get("mlp_bias") else 0)


def _windows(plain: Mapping[str, Any], layers: int) -> tuple[int | None, ...]:
    window = plain.get("sliding_window") if plain.get("use_sliding_window", True) else None
    kinds = plain.get("layer_types") or ["sliding_attention" if window else "full_attention"] * layers
    reach = {"full_attention": None, "sliding_attention": window}
    return tuple(reach[kind] for kind in kinds if kind in reach)


def _whole(plain: Mapping[str, Any], *names: str) -> int | None:
    found = next((plain[name] for name in names if isinstance(plain.get(name), int)), None)
    return found if found and found > 0 else None
