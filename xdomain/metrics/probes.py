"""Linear probes of codes."""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

ROWS = 2000


def probe_balanced_accuracy(
    train_codes: Tensor, train_truth: Tensor, test_codes: Tensor, test_truth: Tensor, seed: int = 0
) -> Tensor:
    """Balanced accuracy of a linear classifier of a label with V values from codes; 1 / V is chance, 1 is perfect.

    Logistic regression (L2, C = 0.1, classes weighted equally) on codes standardised to mean 0 and deviation 1 over the
    training rows. Dimensions that are constant there are ignored.

    Args:
        train_codes: codes [N, D].
        train_truth: labels, integers [N], such as 0 and 1.
        test_codes: codes [M, D].
        test_truth: labels [M].
        seed: seed of the choice of 2,000 training rows, if there are more.

    Returns:
        Balanced accuracy in [0, 1] on the test rows; NaN if a part has one label only.

    Example:
        >>> codes, truth = torch.tensor([[0.0, 7.0], [1.0, 7.0]] * 9), torch.tensor([0, 1] * 9)
        >>> probe_balanced_accuracy(codes, truth, codes, truth)
        tensor(1.)
    """
    chosen = np.random.default_rng(seed).permutation(len(train_codes))[:ROWS]
    x, y = train_codes[chosen].double().cpu().numpy(), train_truth[chosen].long().cpu().numpy()
    truth = test_truth.long().cpu().numpy()
    if len(np.unique(y)) < 2 or len(np.unique(truth)) < 2:
        return torch.tensor(torch.nan)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=500))
    predicted = probe.fit(x, y).predict(test_codes.double().cpu().numpy())
    return torch.tensor(balanced_accuracy_score(truth, predicted), dtype=torch.float32)
