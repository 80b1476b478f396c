"""The talk's linear model: two classes about +v and −v, some labels wrong, softmax regression by gradient descent in closed form.

Liu et al., NeurIPS 2020, section 3, theorem 1 (early learning and memorization under cross-entropy) and lemma 2 (the gradient of ELR).
Where ELR holds an example it pushes its probability up to the clamp of the loss (`MARGIN`), beyond which the push ends and cross-entropy
pulls it back: late in training the gradients of single iterations flicker about a steady mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from elr_mri.config import Linear, Loss, Noise
from elr_mri.lab.curves import logit_gradients, next_targets
from elr_mri.lab.noise import wrong_labels
from elr_mri.learning.elr import MARGIN, EarlyLearningTargets, regularized_loss

#: Length of each class's weights at the start: so little that the first step is nearly that from zero, and so much that it takes more than one to turn them.
START = 0.3
#: Probabilities as close as this to the loss's clamp lie on either side of it in single precision.
EDGE = 1e-6


@dataclass(frozen=True)
class Sample:
    """Examples of the two classes.

    Attributes
    ----------
    x, new_x : (n, n_dimensions) float64
        Training examples, and as many that are never trained on.
    true, new_true, given : (n,) int
        Classes, and the labels that are trained on.
    v : (n_dimensions,) float64
        Unit vector: class 1 lies about +v, class 0 about −v.
    """

    x: np.ndarray
    true: np.ndarray
    given: np.ndarray
    new_x: np.ndarray
    new_true: np.ndarray
    v: np.ndarray


@dataclass(frozen=True)
class Descent:
    """All iterations; each is recorded before its step.

    Attributes
    ----------
    weights : (n_iterations, 2, n_dimensions) float64
    targets, said : (n_iterations, n, 2) float64
        Targets after their update, and probabilities.
    steps : (n_iterations, 2, n_dimensions) float64
        The negative gradient with respect to the weights, of clean examples (0) and of wrong ones (1), for class 1; that for class 0 is its opposite.
    """

    weights: np.ndarray
    targets: np.ndarray
    said: np.ndarray
    steps: np.ndarray


def sample(settings: Linear, sigma: float) -> Sample:
    """Draw the examples, x = ±v + sigma · N(0, I), and make a share of the labels wrong."""
    rng = np.random.default_rng([settings.seed, 1])
    v = rng.normal(size=settings.n_dimensions)
    v /= np.linalg.norm(v)

    def half_and_half() -> tuple[np.ndarray, np.ndarray]:
        true = np.arange(settings.n_examples) % 2
        return np.outer(2 * true - 1, v) + sigma * rng.normal(size=(len(true), len(v))), true

    (x, true), (new_x, new_true) = half_and_half(), half_and_half()
    noise = Noise(kind="others", share=settings.share, seed=settings.seed)
    return Sample(x, true, wrong_labels(true, 2, noise).given, new_x, new_true, v)


def descend(data: Sample, settings: Linear, loss: Loss) -> Descent:
    """Gradient descent on the mean loss of all examples, by the closed form of its gradient."""
    n, n_dimensions = data.x.shape
    weights = START * np.random.default_rng([settings.seed, 2]).normal(size=(2, n_dimensions)) / np.sqrt(n_dimensions)
    targets, wrong = np.zeros((n, 2)), data.true != data.given
    told = Descent(
        *(np.zeros((settings.iterations, *shape)) for shape in (weights.shape, (n, 2), (n, 2), weights.shape))
    )
    for i in range(settings.iterations):
        p = softmax(data.x @ weights.T)
        targets = next_targets(targets, p, loss)
        slopes = sum(logit_gradients(p, data.given, targets, loss))  # (n, 2)
        parts = [slopes[group].T @ data.x[group] / n for group in (~wrong, wrong)]
        told.weights[i], told.targets[i], told.said[i] = weights, targets, p
        told.steps[i] = [-part[1] for part in parts]
        weights = weights - settings.learning_rate * sum(parts)
    return told


def autograd_difference(data: Sample, told: Descent, loss: Loss, iteration: int) -> float:
    """Largest difference between the closed form's gradient and torch's of the loss that networks are trained with, over the latter's largest entry.

    NaN where an example lies on the edge of the clamp, so that single precision decides whether its term has a slope.
    """
    if loss.elr and (np.abs(told.said[iteration] - MARGIN) < EDGE).any():
        return np.nan
    weights = torch.from_numpy(told.weights[iteration]).requires_grad_()
    logits, given, rows = torch.from_numpy(data.x) @ weights.T, torch.from_numpy(data.given), torch.arange(len(data.x))
    targets = EarlyLearningTargets(len(data.x), 2, loss.elr.beta if loss.elr else 0.0)
    targets.targets.copy_(torch.from_numpy(told.targets[iteration - 1] if iteration else np.zeros_like(told.said[0])))
    targets.update(rows, torch.softmax(logits, dim=1))
    weight, smoothing = loss.elr.weight if loss.elr else 0.0, loss.label_smoothing or 0.0
    regularized_loss(logits, given, rows, targets, weight, label_smoothing=smoothing).backward()
    closed, found = -told.steps[iteration].sum(axis=0), weights.grad[1].numpy()
    return float(np.abs(closed - found).max() / np.abs(found).max())


def expected_cosine(settings: Linear, sigma: float) -> float:
    """Cosine between the first step and v for large n: the step from zero is half the mean of ±x by given label, (1 − 2Δ) v plus noise of length σ √(p/n)."""
    signal, noise = 1 - 2 * settings.share, sigma * np.sqrt(settings.n_dimensions / settings.n_examples)
    return float(signal / np.hypot(signal, noise))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities from logits (n, 2)."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
