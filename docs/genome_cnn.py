"""A plain convolutional net on windows of one length: what a network of another make reaches on the same fold."""

from __future__ import annotations

import copy

import numpy as np
import torch
from isometry_genome.letters import one_hot
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

Labelled = tuple[Tensor, np.ndarray]
N_EPOCHS, BATCH = 15, 64


def two_layer_cnn(train: Labelled, valid: Labelled, asked: Tensor, seed: int) -> np.ndarray:
    """[n_asked] logits of the second class: two convolutions with pooling, one hidden layer; the weights of the epoch
    with the least validation loss."""
    torch.manual_seed(seed)
    (codes, labels), length = train, train[0].shape[1]
    net = _net(length)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    truth, of_valid = torch.from_numpy(labels).float(), torch.from_numpy(valid[1]).float()
    best, least = copy.deepcopy(net), float("inf")
    for _ in range(N_EPOCHS):
        net.train()
        for rows in torch.randperm(len(codes)).split(BATCH):
            loss = binary_cross_entropy_with_logits(_said(net, codes[rows]), truth[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            loss = float(binary_cross_entropy_with_logits(_said(net.eval(), valid[0]), of_valid))
        if loss < least:
            best, least = copy.deepcopy(net), loss
    with torch.no_grad():
        return _said(best.eval(), asked).double().numpy()


def _net(length: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(4, 64, 9, padding=4),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(64, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Flatten(),
        nn.Linear(64 * (length // 4), 64),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(64, 1),
    )


def _said(net: nn.Module, codes: Tensor) -> Tensor:
    return net(one_hot(codes).transpose(1, 2))[:, 0]
