"""A supervised 1-D ResNet: what the raw days give to a network that sees labels and no pre-training."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lsm2.evaluate.probes.networks import fit_and_watch, is_class, loss, standardisation, targets
from lsm2.evaluate.probes.resnet_input import CLOCK_CHANNELS

WIDTHS = (32, 48, 64)
"""Of the three residual blocks; each halves the number of steps."""
DROPOUT = 0.3
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 1e-2
BATCH_EXAMPLES = 16
DAYS_A_STEP = 2
"""Of a person in one step of training, drawn at random; predictions are taken from all days."""
ROUNDS = 30
"""After each, the people who say when to stop are looked at."""
STEPS_A_ROUND = (8, 40)
"""At least and at most; within these, a round sees every example."""
WARM_UP = 0.2
"""Of the steps, in which the learning rate rises before it falls."""
EXAMPLES_AT_ONCE = 64


def predict_by_resnet(
    days: np.ndarray,
    values: np.ndarray,
    kind: str,
    num_classes: int,
    people: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    seed: int = 0,
) -> np.ndarray:
    """Train a ResNet on the examples `train`, predict the examples `test`: numbers (n,) for regression and
    ordinal, probabilities (n, classes) else.

    days: (examples, D, channels, T) float16 of `resnet_input`, NaN where missing. people: (examples,).
    A fifth of the training people says when to stop. The same seed gives the same predictions on the same
    machine. Uses a GPU where there is one.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train = train[~np.isnan(days[train, :, :-CLOCK_CHANNELS]).all((1, 2, 3))]
    fit, watch = fit_and_watch(values, kind, people, train, seed)
    centre, spread = standardisation(values[fit])
    truth = targets(values, kind, centre, spread).to(device)
    weight = None
    if is_class(kind):
        counts = np.bincount(values[fit].astype(np.int64), minlength=num_classes)
        weight = torch.from_numpy(len(fit) / np.maximum(counts, 1) / num_classes).float().to(device)
    fork = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    with fork, torch.backends.cudnn.flags(deterministic=True, benchmark=False):
        torch.manual_seed(seed)
        network = ResNet(days.shape[2] - CLOCK_CHANNELS, num_classes if is_class(kind) else 1).to(device)
        _train(network, days, truth, weight, fit, watch, device)
        said = _predict(network, days, test, device)
    if is_class(kind):
        return said.softmax(1).double().cpu().numpy()
    numbers = said[:, 0].double().cpu().numpy() * spread + centre
    return numbers.clip(0, num_classes - 1) if kind == "ordinal" else numbers


class ResNet(nn.Module):
    """Logits of an example, averaged over its days, (B, D, channels, T) -> (B, outputs).

    Each measure has a second channel that says where it is observed.

    Batch normalisation keeps how strong a person's signals are; a normalisation of each day by itself (group
    or layer) would forget it, and with it most of what summary statistics live on.
    """

    def __init__(self, num_measures: int, outputs: int) -> None:
        super().__init__()
        self.num_measures, self.outputs = num_measures, outputs
        self.stem = nn.Sequential(
            nn.Conv1d(2 * num_measures + CLOCK_CHANNELS, WIDTHS[0], 7, stride=2, padding=3, bias=False),
            nn.BatchNorm1d(WIDTHS[0]),
            nn.ReLU(),
        )
        self.blocks = nn.Sequential(
            *(_Block(before, after) for before, after in zip((WIDTHS[0], *WIDTHS), WIDTHS, strict=False))
        )
        self.dropout = nn.Dropout(DROPOUT)
        self.head = nn.Linear(WIDTHS[-1], outputs)
        # Before training it says the same of everyone.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, days: Tensor) -> Tensor:
        observed = ~days[:, :, : self.num_measures].isnan()
        present = observed.flatten(2).any(2)
        channels = torch.cat([days.nan_to_num(0), observed.to(days.dtype)], 2)[present]
        features = self.blocks(self.stem(channels)).mean(2)
        logits = days.new_zeros(*present.shape, self.outputs)
        logits[present] = self.head(self.dropout(features))
        return logits.sum(1) / present.sum(1, keepdim=True).clamp(min=1)


class _Block(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv1d(before, after, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm1d(after),
            nn.ReLU(),
            nn.Conv1d(after, after, 5, padding=2, bias=False),
            nn.BatchNorm1d(after),
        )
        self.shortcut = nn.Conv1d(before, after, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.path(x) + self.shortcut(x))


def _train(
    network: ResNet,
    days: np.ndarray,
    truth: Tensor,
    weight: Tensor | None,
    fit: np.ndarray,
    watch: np.ndarray,
    device: torch.device,
) -> None:
    """Train on the examples `fit`, and keep the weights that were best on the examples `watch`."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def watched() -> float:
        return float(loss(_predict(network, days, watch, device), truth[watch], weight))

    batch_size = min(BATCH_EXAMPLES, len(fit))
    num_steps = int(np.clip(len(fit) // batch_size, *STEPS_A_ROUND))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=ROUNDS * num_steps, pct_start=WARM_UP
    )
    least, best = watched(), copy.deepcopy(network.state_dict())
    order: list[int] = []
    for _ in range(ROUNDS):
        network.train()
        for _ in range(num_steps):
            if len(order) < batch_size:
                order = fit[torch.randperm(len(fit)).numpy()].tolist()
            batch, order = order[:batch_size], order[batch_size:]
            optimizer.zero_grad()
            loss(network(_some_days(days[batch]).to(device)), truth[batch], weight).backward()
            optimizer.step()
            schedule.step()
        error = watched()
        if error < least:
            least, best = error, copy.deepcopy(network.state_dict())
    network.load_state_dict(best)


def _some_days(days: np.ndarray) -> Tensor:
    """At most DAYS_A_STEP days of each example, those with data before those without, at random."""
    present = torch.from_numpy(~np.isnan(days[:, :, :-CLOCK_CHANNELS]).all((2, 3)))
    drawn = (torch.rand(present.shape) + present).argsort(1, descending=True)[:, :DAYS_A_STEP]
    return torch.from_numpy(days[np.arange(len(days))[:, None], drawn.numpy()]).float()


@torch.no_grad()
def _predict(network: ResNet, days: np.ndarray, examples: np.ndarray, device: torch.device) -> Tensor:
    """Logits (n, outputs) from all days of each example."""
    network.eval()
    parts = np.array_split(examples, -(-len(examples) // EXAMPLES_AT_ONCE))
    return torch.cat([network(torch.from_numpy(days[part]).float().to(device)) for part in parts])
