"""Attentive pooling: a few learned queries say which parts of a day, and which signals, tell a label."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lsm2.evaluate.probes.networks import fit_and_watch, is_class, loss, standardisation, targets

NUM_QUERIES = 4
WIDTH = 32
"""Components that cells are reduced to before they are attended to."""
MOST_STEPS = 200
PATIENCE = 30
LEARNING_RATE, WEIGHT_DECAY = 1e-2, 0.1


def attend(
    cells: np.ndarray,
    values: np.ndarray,
    kind: str,
    num_classes: int,
    people: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Features of the examples `train` and `test`, (n, queries x width) each: cells weighted by softmax
    attention that is learned on `train`.

    cells: (examples, cells, width), NaN where a cell has no token. A fifth of the training people says when
    to stop.
    """
    present = ~np.isnan(cells[..., 0])
    reduced = _reduced(cells, present, train)
    pooling = _Pooling(reduced.shape[-1], num_classes if is_class(kind) else 1, seed)
    x, there = torch.from_numpy(reduced), torch.from_numpy(present)
    y = targets(values, kind, *standardisation(values[train]))
    fit, watch = map(torch.from_numpy, fit_and_watch(values, kind, people, train, seed))
    optimizer = torch.optim.AdamW(pooling.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    least, best, waited = np.inf, pooling.state_dict(), 0
    for _ in range(MOST_STEPS):
        optimizer.zero_grad()
        loss(pooling(x[fit], there[fit]), y[fit]).backward()
        optimizer.step()
        with torch.no_grad():
            watched = float(loss(pooling(x[watch], there[watch]), y[watch]))
        waited += 1
        if watched < least:
            least, waited = watched, 0
            best = {name: weight.clone() for name, weight in pooling.state_dict().items()}
        elif waited > PATIENCE:
            break
    pooling.load_state_dict(best)
    with torch.no_grad():
        pooled = pooling.pool(x, there).numpy()
    return pooled[train], pooled[test]


class _Pooling(nn.Module):
    def __init__(self, width: int, outputs: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        # Almost uniform attention at first: the mean over cells.
        self.queries = nn.Parameter(0.1 * torch.randn(NUM_QUERIES, width, generator=generator))
        self.weight = nn.Parameter(torch.zeros(outputs, NUM_QUERIES * width))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def pool(self, cells: Tensor, present: Tensor) -> Tensor:
        """(n, cells, width), (n, cells) -> (n, queries x width)."""
        logits = torch.einsum("ncw,qw->nqc", cells, self.queries)
        weights = logits.masked_fill(~present[:, None], -torch.inf).softmax(-1).nan_to_num(0)
        return torch.einsum("nqc,ncw->nqw", weights, cells).flatten(1)

    def forward(self, cells: Tensor, present: Tensor) -> Tensor:
        return F.linear(self.pool(cells, present), self.weight, self.bias)


def _reduced(cells: np.ndarray, present: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Cells (n, cells, at most WIDTH) float32, standardised and reduced as the training cells say; 0 where
    one has no token.
    """
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    known = cells[train][present[train]]
    width = min(WIDTH, *known.shape)
    reduce = make_pipeline(StandardScaler(), PCA(width, whiten=True, random_state=0)).fit(known)
    reduced = np.zeros((*present.shape, width), np.float32)
    reduced[present] = reduce.transform(cells[present])
    return reduced
