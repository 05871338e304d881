"""Every setting of the model and of its training; `lsm2.presets` has functions that return a configuration.

What arXiv 2506.05321 does not state, or what could not be read in it, is a setting with a default of ours,
never a claim about the paper. The command line shows these texts as its help.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from lsm2.errors import InputError, SettingCheck

Decoder = Literal["cross", "joint", "full"]
Precision = Literal["auto", "bf16", "fp32"]
TimeSlices = Literal["scattered", "contiguous"]
FillGaps = Literal["none", "linear", "smooth"]
SignalCodes = Literal["learned", "sincos"]
Pooling = Literal["mean", "mean_std", "blocks", "signals", "attentive"]
"""How an embedding is made of tokens, in `lsm2.evaluate.embeddings`.

mean: over all tokens; mean_std: and their deviation; blocks: means of each 6 hours; signals: mean and
deviation of each signal; attentive: means of each signal in each 3 hours, weighted by what the probe learns.
"""
DEFAULT_BATCH_DAYS = 8
BEFORE_SETTING: dict[str, Any] = {"fill_gaps": "none", "signal_codes": "sincos"}
"""Settings of the model that older files lack, and what models did before each was a setting."""
_COUNTS = (
    "num_signals",
    "sample_minutes",
    "window_minutes",
    "patch_minutes",
    "encoder_width",
    "encoder_depth",
    "encoder_heads",
    "decoder_width",
    "decoder_depth",
    "decoder_heads",
    "mlp_ratio",
)


@dataclass(frozen=True)
class MaskingConfig:
    """How tokens are hidden, in `lsm2.data.masking`."""

    token_min_observed: float = 0.5
    """A token with a smaller fraction of observed minutes counts as missing."""
    random_share: float = 1 / 3
    """How often a day is masked at random tokens, relative to the other two shares."""
    time_share: float = 1 / 3
    """How often a day is masked by time slices over all signals, as if the device were off."""
    signal_share: float = 1 / 3
    """How often a day is masked by whole signals, as if a sensor were off."""
    random_ratio: float = 0.8
    """Fraction of the observed tokens that a random mask hides."""
    time_ratio: float = 0.5
    """Fraction of the slots with an observed token that a time mask hides."""
    signal_ratio: float = 0.5
    """Fraction of the signals with an observed token that a signal mask hides."""
    time_slices: TimeSlices = "scattered"
    """A time mask hides slots independent of each other, or one block of them."""
    query_share: float = 1.0
    """Part of a day's hidden tokens that is reconstructed, chosen at random; 1 with the `full` decoder."""
    max_visible: int | None = None
    """At most this many visible tokens per day, chosen at random; the others are left out altogether."""
    max_queries: int | None = None
    """At most this many hidden tokens per day are reconstructed; None with the `full` decoder."""

    def __post_init__(self) -> None:
        check = SettingCheck(self, "masking.")
        for name in ("random_ratio", "time_ratio", "signal_ratio"):
            check(name, lambda value: 0 < value < 1, "a fraction between 0 and 1")
        for name in ("token_min_observed", "query_share"):
            check(name, lambda value: 0 < value <= 1, "a fraction above 0, at most 1")
        for name in ("random_share", "time_share", "signal_share"):
            check(name, lambda value: value >= 0, "at least 0")
        if self.random_share + self.time_share + self.signal_share == 0:
            raise InputError(
                "masking.random_share, masking.time_share and masking.signal_share are all 0; raise one"
            )
        check("time_slices", lambda value: value in get_args(TimeSlices), "'scattered' or 'contiguous'")
        for name in ("max_visible", "max_queries"):
            check(name, lambda value: value is None or value >= 1, "None or at least 1")


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
    """Minutes of one signal per token: a multiple of the sampling that divides the window."""
    encoder_width: int = 384
    """Width of the encoder."""
    encoder_depth: int = 12
    """Blocks in the encoder."""
    encoder_heads: int = 6
    """Attention heads in the encoder; the head dim must be a multiple of 8."""
    decoder: Decoder = "cross"
    """`cross`: queries attend to visible tokens; `joint`: to each other too; `full`: the paper's."""
    decoder_width: int = 256
    """Width of the decoder."""
    decoder_depth: int = 4
    """Blocks in the decoder."""
    decoder_heads: int = 4
    """Attention heads in the decoder; the head dim must be a multiple of 8."""
    mlp_ratio: int = 4
    """Hidden width of each MLP over the width of its block."""
    position_base: float = 100.0
    """Base of the sin-cos positions; 10,000 is usual, 100 keeps neighbours apart on these short axes."""
    signal_codes: SignalCodes = "learned"
    """Half of a token's position says its signal: `learned` vectors, or `sincos` of its number in the store.
    """
    tied_qk_init: float | None = 2.0
    """Query and key weights start equal, of deviation this / sqrt(width); None: independent."""
    fill_gaps: FillGaps = "none"
    """Fill gaps before the model sees a day, as LSM-1 did; `none`: AIM, which needs no filling."""
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
        check = SettingCheck(self)
        for name in _COUNTS:
            check(name, lambda value: isinstance(value, int) and value >= 1, "a positive integer")
        for name in ("window_minutes", "patch_minutes"):
            multiple = f"a multiple of sample_minutes = {self.sample_minutes}"
            check(name, lambda value: value % self.sample_minutes == 0, multiple)
        divisor = f"a divisor of window_minutes = {self.window_minutes}"
        check("patch_minutes", lambda value: self.window_minutes % value == 0, divisor)
        check("decoder", lambda value: value in get_args(Decoder), "'cross', 'joint' or 'full'")
        check("position_base", lambda value: value > 1, "a number above 1")
        check("tied_qk_init", lambda value: value is None or value > 0, "None or a number above 0")
        check("fill_gaps", lambda value: value in get_args(FillGaps), "'none', 'linear' or 'smooth'")
        check("signal_codes", lambda value: value in get_args(SignalCodes), "'learned' or 'sincos'")
        if self.decoder == "full":
            check_masking = SettingCheck(self.masking, "masking.")
            reason = "with decoder 'full', which reconstructs every hidden position"
            check_masking("max_queries", lambda value: value is None, f"None {reason}")
            check_masking("query_share", lambda value: value == 1, f"1 {reason}")
        for part in ("encoder", "decoder"):
            width = getattr(self, f"{part}_width")
            check(f"{part}_width", lambda value: value % 4 == 0, "a multiple of 4, for positions on two axes")
            check(
                f"{part}_heads",
                lambda heads, width=width: width % heads == 0 and width // heads in range(8, 257, 8),
                f"such that {part}_width = {width} divided by it is a multiple of 8, at most 256",
            )

    def fitted_to(self, num_signals: int, num_samples: int, sample_minutes: int) -> LSM2Config:
        """These settings for windows of so many signals and samples.

        A token lasts as long as here, or the next longer time that is a multiple of the sampling and divides
        the window.
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
        """The inverse of `to_dict`, also for values that were saved before a setting existed.

        An unknown name raises InputError.
        """
        values = BEFORE_SETTING | values
        masking = dict(values.pop("masking", {}))
        for given, known_class in ((values, cls), (masking, MaskingConfig)):
            known = {f.name for f in dataclasses.fields(known_class)}
            if unknown := sorted(set(given) - known):
                raise InputError(
                    f"unknown setting {', '.join(unknown)} in the model configuration; known: "
                    f"{', '.join(sorted(known))}"
                )
        return cls(**values, masking=MaskingConfig(**masking))


@dataclass(frozen=True)
class TrainConfig:
    """How `lsm2 pretrain` trains."""

    steps: int = 1000
    """Optimizer steps in all."""
    batch_days: int | None = None
    """Days per step over all processes and micro-batches; 8 unless tokens per batch are given."""
    tokens_per_batch: int | None = None
    """Instead of batch days: fill each step with days up to this many visible and hidden tokens."""
    micro_batches: int = 1
    """Compute a step's days in so many parts, one after the other: less memory, the same gradient."""
    activation_checkpointing: bool = False
    """Compute each block's inner values again in the backward pass: less memory, the same gradient."""
    compile: bool = False
    """Compile model and loss with torch.compile, which takes minutes before the first step."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW."""
    final_learning_rate: float = 1e-6
    """Learning rate at the end of the cosine."""
    warmup_fraction: float = 0.05
    """Part of all steps in which the learning rate rises from 0."""
    weight_decay: float = 0.05
    """AdamW's weight decay; biases, norms, the mask token and learned signal codes have none."""
    beta1: float = 0.9
    """AdamW's first-moment decay."""
    beta2: float = 0.95
    """AdamW's second-moment decay."""
    grad_clip: float = 1.0
    """Largest norm of the gradient."""
    ema_decay: float = 0.99
    """The saved model is a moving average of the weights with this decay; 0 saves the last weights."""
    precision: Precision = "auto"
    """`bf16`: matrix products in bfloat16, all else in float32. `auto`: `bf16` where it is faster."""
    non_finite: Literal["stop", "skip"] = "stop"
    """What to do when loss or gradient is not finite; the weights are untouched either way."""
    heldout_fraction: float = 0.2
    """Part of the people that training never sees; `lsm2 evaluate` scores the model on them."""
    seed: int = 0
    """Seed of the weights, the order of days, the masks and the held-out people."""
    validate_every: int | None = None
    """Steps between validations: hidden parts of held-out people's days, beside the best fill."""
    patience: int | None = None
    """End after so many validations without a better one, and keep the best model."""
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
                f"batch_days is {self.batch_days} and tokens_per_batch is {self.tokens_per_batch}; give "
                "only one: batch_days for steps of so many days, tokens_per_batch for steps of so many tokens"
            )
        if self.batch_days is None and self.tokens_per_batch is None:
            object.__setattr__(self, "batch_days", DEFAULT_BATCH_DAYS)
        check = SettingCheck(self)
        for name in ("steps", "micro_batches", "checkpoint_every", "keep_checkpoints"):
            check(name, lambda value: value >= 1, "at least 1")
        for name in ("batch_days", "tokens_per_batch"):
            check(name, lambda value: value is None or value >= 1, "at least 1")
        for name in ("heldout_fraction", "warmup_fraction", "ema_decay", "beta1", "beta2"):
            check(name, lambda value: 0 <= value < 1, "at least 0 and below 1")
        for name in ("learning_rate", "grad_clip"):
            check(name, lambda value: value > 0, "a number above 0")
        check("num_workers", lambda value: value >= 0, "at least 0")
        for name in ("validate_every", "patience"):
            check(name, lambda value: value is None or value >= 1, "None or at least 1")
        if self.patience is not None and self.validate_every is None:
            raise InputError(f"patience is {self.patience} and nothing is validated; give validate_every too")
        if self.batch_days is not None:
            check(
                "micro_batches",
                lambda value: value <= self.batch_days,
                f"at most batch_days = {self.batch_days}",
            )
