"""Fused attention that computes only the tokens that are present."""

from .attention import masked_attention, varlen_attention, varlen_attention_qkvpacked
from .packing import Packing, pack, unpack

__all__ = ["Packing", "masked_attention", "pack", "unpack", "varlen_attention", "varlen_attention_qkvpacked"]
