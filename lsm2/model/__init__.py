"""The masked autoencoder, one stage per file: positions, attention, blocks, encoder, decoder, and LSM2 that
joins them.
"""

from lsm2.model.mae import LSM2, MAEOutput

__all__ = ["LSM2", "MAEOutput"]
