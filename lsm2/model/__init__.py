"""The masked autoencoder, one stage per file: positions, attention, blocks, encoder, decoder, and LSM2 that
joins them.
"""

from lsm2.model.lsm2 import LSM2
from lsm2.model.mae import MAEOutput

__all__ = ["LSM2", "MAEOutput"]
