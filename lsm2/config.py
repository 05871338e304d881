"""Every setting of the model and of its training, one sentence each; presets are functions that return a configuration.

What arXiv 2506.05321 does not state, or what could not be read in it, is a setting with a default of ours, never a claim about the paper.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from lsm2.errors import InputError

Decoder = Literal["cross", "joint", "full"]
Precision = Literal["auto", "bf16", "fp32"]
DEFAULT_BATCH_DAYS = 8


@dataclass(frozen=True)
class MaskingConfig:
    """How tokens are hidden, in `lsm2.data.masking`."""

    token_min_observed: float = 0.5
    """A token can be visible if at least this fraction of its minutes is observed; otherwise it is inherited-masked."""
    random_share: float = 1 / 3
    """How often a day is masked at random tokens (sensor noise), relative to the other two shares."""
    time_share: float = 1 / 3
    """How often a day is masked by time slices over all signals (device off), relative to the other two shares."""
    signal_share: float = 1 / 3
    """How often a day is masked by whole signals (sensor off), relative to the other two shares."""
    random_ratio: float = 0.8
    """Fraction of the observed tokens that a random mask hides."""
    time_ratio: float = 0.5
    """Fraction of the slots with an observed token that a time mask hides."""
    signal_ratio: float = 0.5
    """Fraction of the signals with an observed token that a signal mask hides."""
    time_slices: Literal["scattered", "contiguous"] = "scattered"
    """Whether a time mask hides slots independent of each other or one block of them."""
    query_share: float = 1.0
    """Part of a day's hidden tokens that is reconstructed, a random choice of at least one; always 1 with the `full` decoder."""
    max_visible: int | None = None
    """At most this many visible tokens per day: a random choice of them stays, the others enter neither encoder nor loss."""
    max_queries: int | None = None
    """At most this many hidden tokens per day are reconstructed, a random choice of them; not for the `full` decoder."""

    def __post_init__(self) -> None:
        for name in ("random_ratio", "time_ratio", "signal_ratio"):
            _require(
                0 < getattr(self, name) < 1,
                f"masking.{name}",
                getattr(self, name),
                "a fraction between 0 and 1",
            )
        _require(
            0 < self.token_min_observed <= 1,
            "masking.token_min_observed",
            self.token_min_observed,
            "a fraction above 0, at most 1",
        )
        shares = (self.random_share, self.time_share, self.signal_share)
        _require(
            min(shares) >= 0 and sum(shares) > 0,
            "masking shares",
            shares,
            "at least 0, and one of them above 0",
        )
        _require(
            self.time_slices in ("scattered", "contiguous"),
            "masking.time_slices",
            self.time_slices,
            "'scattered' or 'contiguous'",
        )
        _require(
            0 < self.query_share <= 1,
            "masking.query_share",
            self.query_share,
            "a fraction above 0, at most 1",
        )
        for name in ("max_visible", "max_queries"):
            value = getattr(self, name)
            _require(value is None or value >= 1, f"masking.{name}", value, "None or at least 1")


@dataclass(frozen=True)
class LSM2Config:
    """Shape of the masked autoencoder and how its inputs are masked."""

    num_signals: int = 26
    """Signals per day (C)."""
    sample_minutes: int = 1
    """Minutes between two samples of a signal."""
    window_minutes: int = 1440
    """Minutes per window; must be a multiple of `sample_minutes`."""
    patch_minutes: int = 10
    """Minutes of one signal per token; must be a multiple of `sample_minutes` and divide the window."""
    encoder_width: int = 384
    """Width of the encoder."""
    encoder_depth: int = 12
    """Blocks in the encoder."""
    encoder_heads: int = 6
    """Attention heads in the encoder; the head dim must be a multiple of 8."""
    decoder: Decoder = "cross"
    """`cross`: queries attend to visible tokens; `joint`: all attend to all; `full`: the paper's, a query at every position not visible."""
    decoder_width: int = 256
    """Width of the decoder."""
    decoder_depth: int = 4
    """Blocks in the decoder."""
    decoder_heads: int = 4
    """Attention heads in the decoder; the head dim must be a multiple of 8."""
    mlp_ratio: int = 4
    """Hidden width of each MLP over the width of its block."""
    position_base: float = 100.0
    """Base of the sin-cos positions; 10,000 is the usual value, 100 keeps neighbours apart on these short axes."""
    tied_qk_init: float | None = 2.0
    """Key weights start equal to query weights of deviation this / sqrt(width), so attention starts local; None: independent."""
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    """How tokens are hidden in pre-training."""

    @property
    def window_samples(self) -> int:
        """Samples per window and signal (L)."""
        return self.window_minutes // self.sample_minutes

    @property
    def patch_samples(self) -> int:
        """Samples of one signal per token (P)."""
        return self.patch_minutes // self.sample_minutes

    @property
    def num_slots(self) -> int:
        """Tokens per signal and window; a slot is a column of tokens in time."""
        return self.window_minutes // self.patch_minutes

    @property
    def num_tokens(self) -> int:
        """Tokens per window (N), channel-major: token id = signal * num_slots + slot."""
        return self.num_signals * self.num_slots

    def __post_init__(self) -> None:
        for name in ("num_signals", "sample_minutes", "window_minutes", "patch_minutes", "encoder_width", "encoder_depth", "encoder_heads",
                     "decoder_width", "decoder_depth", "decoder_heads", "mlp_ratio"):  # fmt: skip
            _require(
                isinstance(getattr(self, name), int) and getattr(self, name) >= 1,
                name,
                getattr(self, name),
                "a positive integer",
            )
        samples = f"a multiple of sample_minutes = {self.sample_minutes}"
        _require(
            self.window_minutes % self.sample_minutes == 0, "window_minutes", self.window_minutes, samples
        )
        _require(self.patch_minutes % self.sample_minutes == 0, "patch_minutes", self.patch_minutes, samples)
        _require(
            self.window_minutes % self.patch_minutes == 0,
            "patch_minutes",
            self.patch_minutes,
            f"a divisor of window_minutes = {self.window_minutes}",
        )
        _require(
            self.decoder in ("cross", "joint", "full"), "decoder", self.decoder, "'cross', 'joint' or 'full'"
        )
        _require(self.position_base > 1, "position_base", self.position_base, "a number above 1")
        _require(
            self.tied_qk_init is None or self.tied_qk_init > 0,
            "tied_qk_init",
            self.tied_qk_init,
            "None or a number above 0",
        )
        _require(
            not (self.decoder == "full" and self.masking.max_queries),
            "masking.max_queries",
            self.masking.max_queries,
            "None with decoder 'full', which reconstructs every hidden position",
        )
        _require(
            not (self.decoder == "full" and self.masking.query_share < 1),
            "masking.query_share",
            self.masking.query_share,
            "1 with decoder 'full', which reconstructs every hidden position",
        )
        for part in ("encoder", "decoder"):
            width, heads = getattr(self, f"{part}_width"), getattr(self, f"{part}_heads")
            _require(
                width % 4 == 0, f"{part}_width", width, "a multiple of 4 (sin-cos positions of two axes)"
            )
            _require(
                width % heads == 0 and width // heads % 8 == 0 and width // heads <= 256,
                f"{part}_heads",
                heads,
                f"such that {part}_width / {part}_heads = {width} / {heads} is a multiple of 8, at most 256",
            )

    def fitted_to(self, num_signals: int, num_samples: int, sample_minutes: int) -> LSM2Config:
        """These settings for windows of so many signals and samples.

        A token lasts as long as here, or the next longer time that is a multiple of the sampling and divides the window.
        """
        window_minutes = num_samples * sample_minutes
        slots = next(
            slots
            for slots in range(max(1, window_minutes // self.patch_minutes), 0, -1)
            if num_samples % slots == 0
        )
        return dataclasses.replace(
            self,
            num_signals=num_signals,
            sample_minutes=sample_minutes,
            window_minutes=window_minutes,
            patch_minutes=window_minutes // slots,
        )

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LSM2Config:
        """The inverse of `to_dict`; an unknown name raises InputError."""
        values = dict(values)
        masking = dict(values.pop("masking", {}))
        for given, known_class in ((values, cls), (masking, MaskingConfig)):
            known = {f.name for f in dataclasses.fields(known_class)}
            if unknown := sorted(set(given) - known):
                raise InputError(
                    f"unknown setting {', '.join(unknown)} in the model configuration; known: {', '.join(sorted(known))}"
                )
        return cls(**values, masking=MaskingConfig(**masking))


@dataclass(frozen=True)
class TrainConfig:
    """How `lsm2 pretrain` trains."""

    steps: int = 1000
    """Optimizer steps in all."""
    batch_days: int | None = None
    """Days per step over all ranks and micro-batches; 8 where tokens_per_batch is not given either."""
    tokens_per_batch: int | None = None
    """Instead of batch_days: so many days per step that visible tokens and queries stay within this; a larger day is a step of its own."""
    micro_batches: int = 1
    """Parts that a step's days are computed in, one after the other: less memory, the same gradient."""
    activation_checkpointing: bool = False
    """Keep only what enters each block and compute the rest again in the backward pass: less memory, the same gradient bit for bit."""
    compile: bool = False
    """Model and loss as one function of torch.compile: a CPU gained up to 9 % after 30 to 220 s of compiling, GPUs are unmeasured."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW."""
    final_learning_rate: float = 1e-6
    """Learning rate at the end of the cosine."""
    warmup_fraction: float = 0.05
    """Part of all steps in which the learning rate rises from 0."""
    weight_decay: float = 0.05
    """AdamW's weight decay; biases, norms and the mask token have none."""
    beta1: float = 0.9
    """AdamW's first-moment decay."""
    beta2: float = 0.95
    """AdamW's second-moment decay."""
    grad_clip: float = 1.0
    """Largest norm of the gradient."""
    ema_decay: float = 0.99
    """Decay of the average of the weights that is saved as the model; 0 saves the last weights. It starts small and grows to this value."""
    precision: Precision = "auto"
    """`bf16`: bfloat16 matrix products; norms, softmax and loss stay in float32. `auto`: `bf16` where it is faster, else `fp32`."""
    non_finite: Literal["stop", "skip"] = "stop"
    """What to do when loss or gradient is not finite; the weights are untouched either way."""
    heldout_fraction: float = 0.2
    """Part of the people that pre-training never sees; `lsm2 evaluate` uses them."""
    seed: int = 0
    """Seed of the weights, the order of days, the masks and the held-out people."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""
    keep_checkpoints: int = 2
    """Newest checkpoints that stay on disk."""
    num_workers: int = 1
    """Loader processes; 0 loads in the training process."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: a GPU where there is one."""

    def __post_init__(self) -> None:
        if self.batch_days is not None and self.tokens_per_batch is not None:
            raise InputError(
                f"batch_days is {self.batch_days} and tokens_per_batch is {self.tokens_per_batch}; give only one of them: "
                "batch_days for steps of so many days, tokens_per_batch for steps of at most so many tokens"
            )
        if self.batch_days is None and self.tokens_per_batch is None:
            object.__setattr__(self, "batch_days", DEFAULT_BATCH_DAYS)
        for name in (
            "steps",
            "batch_days",
            "tokens_per_batch",
            "micro_batches",
            "checkpoint_every",
            "keep_checkpoints",
        ):
            value = getattr(self, name)
            _require(value is None or value >= 1, name, value, "at least 1")
        for name in ("heldout_fraction", "warmup_fraction", "ema_decay", "beta1", "beta2"):
            _require(0 <= getattr(self, name) < 1, name, getattr(self, name), "at least 0 and below 1")
        _require(self.learning_rate > 0, "learning_rate", self.learning_rate, "a number above 0")
        _require(self.grad_clip > 0, "grad_clip", self.grad_clip, "a number above 0")
        _require(self.num_workers >= 0, "num_workers", self.num_workers, "at least 0")
        enough = self.batch_days is None or self.batch_days >= self.micro_batches
        _require(enough, "micro_batches", self.micro_batches, f"at most batch_days = {self.batch_days}")


def _require(fine: bool, name: str, value: object, wanted: str) -> None:
    if not fine:
        raise InputError(f"{name} is {value!r}; it must be {wanted}")
