"""The `full` decoder is the paper's way: drop half of the tokens, key-mask the rest, decode all with mask
tokens at hidden positions.
"""

import dataclasses
import math

import torch
import torch.nn.functional as F

from lsm2 import LSM2, LSM2Config
from lsm2.data import collate

CONFIG = LSM2Config(
    num_signals=5,
    window_minutes=240,
    encoder_width=32,
    encoder_depth=2,
    encoder_heads=2,
    decoder="full",
    decoder_width=16,
    decoder_depth=2,
    decoder_heads=2,
    signal_codes="sincos",
)
Weights = dict[str, torch.Tensor]


def sin_cos(position: torch.Tensor, width: int, base: float) -> torch.Tensor:
    angles = position.double()[:, None] / base ** (torch.arange(width // 2).double() / (width // 2))
    return torch.cat([angles.sin(), angles.cos()], 1)


def positions(config: LSM2Config, width: int) -> torch.Tensor:
    ids = torch.arange(config.num_tokens)
    halves = [
        sin_cos(axis, width // 2, config.position_base)
        for axis in (ids // config.num_slots, ids % config.num_slots)
    ]
    return torch.cat(halves, 1).float()


def block(x: torch.Tensor, w: Weights, name: str, heads: int, key_bias: torch.Tensor | None) -> torch.Tensor:
    """x (B, N, width); key_bias (B, 1, 1, N), 0 or -inf."""

    def norm(x: torch.Tensor, which: str) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.{which}.weight"], w[f"{name}.{which}.bias"])

    def linear(x: torch.Tensor, which: str) -> torch.Tensor:
        return F.linear(x, w[f"{name}.{which}.weight"], w[f"{name}.{which}.bias"])

    batch, tokens, width = x.shape
    qkv = linear(norm(x, "norm_attention"), "attention.qkv").reshape(batch, tokens, 3, heads, width // heads)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    scores = q @ k.transpose(-1, -2) / math.sqrt(width // heads)
    if key_bias is not None:
        scores = scores + key_bias
    attended = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, tokens, width)
    x = x + linear(attended, "attention.out")
    return x + linear(F.gelu(linear(norm(x, "norm_mlp"), "mlp.up")), "mlp.down")


def paper_loss(
    w: Weights, config: LSM2Config, values: torch.Tensor, inherited: torch.Tensor, artificial: torch.Tensor
) -> torch.Tensor:
    """values (B, C, L) with NaN; inherited and artificial (B, N) bool, True where a token is masked for that
    reason.
    """
    dtype, (days, tokens) = w["encoder.embed.weight"].dtype, inherited.shape
    patches = values.to(dtype).reshape(days, tokens, config.patch_samples)
    masked = inherited | artificial
    assert (masked.sum(1) >= tokens // 2).all(), "the fixed drop may only drop masked tokens here"

    # Drop exactly half of the tokens, masked ones first; block the other masked tokens as keys.
    kept = (masked.double() + torch.rand(days, tokens).double() * 0.5).argsort(1)[:, : tokens - tokens // 2]
    x = F.linear(patches.nan_to_num(0.0), w["encoder.embed.weight"], w["encoder.embed.bias"]) + positions(
        config, config.encoder_width
    ).to(dtype)
    x = x.gather(1, kept[..., None].expand(-1, -1, config.encoder_width))
    kept_masked = masked.gather(1, kept)
    key_bias = torch.zeros(days, 1, 1, kept.shape[1], dtype=dtype).masked_fill(
        kept_masked[:, None, None], -math.inf
    )
    for layer in range(config.encoder_depth):
        x = block(x, w, f"encoder.blocks.{layer}", config.encoder_heads, key_bias)
    x = F.layer_norm(x, x.shape[-1:], w["encoder.norm.weight"], w["encoder.norm.bias"])

    # Back to all positions; the one mask token stands at every masked one.
    x = F.linear(x, w["decoder.project.weight"], w["decoder.project.bias"])
    everywhere = torch.zeros(days, tokens, config.decoder_width, dtype=dtype).scatter(
        1, kept[..., None].expand_as(x), x
    )
    x = torch.where(masked[..., None], w["decoder.mask_token"], everywhere) + positions(
        config, config.decoder_width
    ).to(dtype)
    for layer in range(config.decoder_depth):
        x = block(x, w, f"decoder.blocks.{layer}", config.decoder_heads, None)
    x = F.layer_norm(x, x.shape[-1:], w["decoder.norm.weight"], w["decoder.norm.bias"])
    predictions = F.linear(x, w["decoder.head.weight"], w["decoder.head.bias"])

    counts = (artificial & ~inherited)[..., None] & ~patches.isnan()
    return (predictions - patches.nan_to_num(0.0))[counts].square().mean()


def test_full_decoder_equals_the_papers_way_in_loss_and_every_gradient() -> None:
    torch.manual_seed(1)
    model = LSM2(CONFIG)
    values = torch.randn(4, CONFIG.num_signals, CONFIG.window_samples).cumsum(2) * 0.2
    values[torch.rand(values.shape) < 0.2] = torch.nan
    values[1, 2] = torch.nan
    values[3, :, 100:180] = torch.nan
    patches = values.reshape(4, CONFIG.num_tokens, CONFIG.patch_samples)
    inherited = (~patches.isnan()).sum(2) < CONFIG.masking.token_min_observed * CONFIG.patch_samples
    artificial = torch.rand(4, CONFIG.num_tokens) < torch.tensor([0.8, 0.6, 0.9, 0.6])[:, None]

    output = model(collate(values, CONFIG, artificial=artificial))
    output.loss.backward()
    ours = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}

    by_dtype = []
    for dtype in (torch.float32, torch.float64):
        weights = {
            name: weight.detach().to(dtype).requires_grad_() for name, weight in model.named_parameters()
        }
        loss = paper_loss(weights, CONFIG, values, inherited, artificial)
        loss.backward()
        by_dtype.append(
            (
                loss.detach(),
                {name: weight.grad for name, weight in weights.items() if weight.grad is not None},
            )
        )
    (_, plain), (exact_loss, exact) = by_dtype

    # float32 has 24 bits; the loss adds thousands of squares of about unit size.
    torch.testing.assert_close(output.loss.detach().double(), exact_loss, rtol=2e-6, atol=0)
    assert ours.keys() == exact.keys() == dict(model.named_parameters()).keys()
    for name, gradient in ours.items():
        ours_off, plain_off = (
            (gradient.double() - exact[name]).norm(),
            (plain[name].double() - exact[name]).norm(),
        )
        # As near to the truth as the paper's way itself comes in float32, but for twice its rounding and one
        # of the result.
        assert exact[name].norm() > 0, name
        assert ours_off <= 3 * plain_off + 2 * torch.finfo(torch.float32).eps * exact[name].norm(), (
            name,
            ours_off,
            plain_off,
        )


def test_the_comparison_notices_a_wrong_mask() -> None:
    torch.manual_seed(2)
    model = LSM2(CONFIG)
    values = torch.randn(2, CONFIG.num_signals, CONFIG.window_samples)
    inherited = torch.zeros(2, CONFIG.num_tokens, dtype=torch.bool)
    artificial = torch.rand(2, CONFIG.num_tokens) < 0.7
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    right = model(collate(values, CONFIG, artificial=artificial)).loss
    torch.testing.assert_close(
        right, paper_loss(weights, CONFIG, values, inherited, artificial), rtol=1e-5, atol=0
    )
    one_more = artificial.clone()
    one_more[0, int((~artificial[0]).nonzero()[0])] = True
    off = paper_loss(weights, CONFIG, values, inherited, one_more)
    assert abs(off - right) > 1e-4 * right
    joint = LSM2(dataclasses.replace(CONFIG, decoder="joint"))
    joint.load_state_dict(model.state_dict())
    # Here everything hidden is asked for, so `joint` and `full` see the same sequences.
    torch.testing.assert_close(
        joint(collate(values, joint.config, artificial=artificial)).loss, right, rtol=1e-6, atol=0
    )
