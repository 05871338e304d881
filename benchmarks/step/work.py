"""How many FLOPs a training step means, by formula.

A linear layer costs 2 x rows x inputs x outputs forward, and as much again backward for each of the gradients
of its input and of its weight: 6 in all, 4 where the input is data. Attention costs 4 x width for every pair
of a query and a key forward (two products), 2.5 times as much backward (five products, as the probabilities
are computed anew): 14 in all. All else is small and not counted.

Useful is what the way's decoder needs at the least: visible tokens through the encoder, and in the decoder
each query with the visible tokens of its day (`cross`), visible and query tokens (`joint`), or all positions
(`full`). Total adds padding, masked tokens, and what is computed and not used; edges of the tiles in which
kernels compute are not in it.
"""

from dataclasses import dataclass

from torch import Tensor

from lsm2.config import LSM2Config
from lsm2.data import PackedBatch


@dataclass(frozen=True)
class FlopCount:
    """FLOPs of the model's parts, forward and backward, or forward alone."""

    config: LSM2Config
    backward: bool = True

    def linear(self, rows: float, inputs: int, outputs: int, *, input_is_data: bool = False) -> float:
        """A layer on so many rows."""
        factor = 2 if not self.backward else 4 if input_is_data else 6
        return float(factor * rows * inputs * outputs)

    def attention(self, pairs: float, width: int) -> float:
        """All heads together, over so many pairs of a query and a key."""
        return 4.0 * pairs * width * (3.5 if self.backward else 1)

    def encoder(self, rows: float, pairs: float) -> float:
        """The embedding, and in each block qkv, output layer and MLP."""
        config, width = self.config, self.config.encoder_width
        block = self.linear(rows, width, (4 + 2 * config.mlp_ratio) * width) + self.attention(pairs, width)
        return (
            self.linear(rows, config.patch_samples, width, input_is_data=True) + config.encoder_depth * block
        )

    def self_decoder(self, projected: float, rows: float, pairs: float, predicted: float) -> float:
        """`joint` and `full`: encoded tokens are projected, all rows attend, some are predicted."""
        config, width = self.config, self.config.decoder_width
        block = self.linear(rows, width, (4 + 2 * config.mlp_ratio) * width) + self.attention(pairs, width)
        return self._ends(projected, predicted) + config.decoder_depth * block

    def cross_decoder(self, memory: float, queries: float, pairs: float) -> float:
        """`cross`: queries have query, output layer and MLP, the memory has keys and values."""
        config, width = self.config, self.config.decoder_width
        of_queries, of_memory = (
            self.linear(queries, width, (2 + 2 * config.mlp_ratio) * width),
            self.linear(memory, width, 2 * width),
        )
        return self._ends(memory, queries) + config.decoder_depth * (
            of_queries + of_memory + self.attention(pairs, width)
        )

    def useful(self, batch: PackedBatch) -> float:
        """What the configuration's decoder needs of this batch, and what ours computes."""
        visible, queries = batch.cu_visible.diff().double(), batch.cu_query.diff().double()
        num_visible, num_queries = visible.sum().item(), queries.sum().item()
        encoder = self.encoder(num_visible, sum_products(visible, visible))
        if self.config.decoder == "cross":
            return encoder + self.cross_decoder(num_visible, num_queries, sum_products(visible, queries))
        joined = visible + queries
        return encoder + self.self_decoder(
            num_visible, num_visible + num_queries, sum_products(joined, joined), num_queries
        )

    def _ends(self, projected: float, predicted: float) -> float:
        """From the encoder's width to the decoder's, and from that to minutes."""
        config = self.config
        to_decoder = self.linear(projected, config.encoder_width, config.decoder_width)
        return to_decoder + self.linear(predicted, config.decoder_width, config.patch_samples)


def sum_products(first: Tensor, second: Tensor) -> float:
    """Pairs within days, from the days' numbers of tokens (B,)."""
    return (first * second).sum().item()
