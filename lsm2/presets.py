"""Model sizes: functions that return an `LSM2Config`.

Masks, signals and window are those of the paper unless changed. The command line shows these texts as help.
"""

from lsm2.config import LSM2Config


def tiny() -> LSM2Config:
    """About 1M parameters: learns within minutes on two CPU cores."""
    return LSM2Config(
        encoder_width=128,
        encoder_depth=4,
        encoder_heads=4,
        decoder_width=96,
        decoder_depth=2,
        decoder_heads=3,
    )


def small() -> LSM2Config:
    """About 8M parameters."""
    return LSM2Config(
        encoder_width=256,
        encoder_depth=8,
        encoder_heads=4,
        decoder_width=192,
        decoder_depth=3,
        decoder_heads=3,
    )


def base() -> LSM2Config:
    """24.6M parameters: the size that fits what is known of LSM-2's 25M."""
    return LSM2Config()


def paper() -> LSM2Config:
    """`base` with what is known of the paper's recipe instead of our defaults."""
    return LSM2Config(decoder="full", tied_qk_init=None, position_base=10_000.0, signal_codes="sincos")
