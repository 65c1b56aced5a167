"""Questions to the sample models with known answers: data held out from training."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits

from e2e.models import DIGITS, Sample


@dataclass(frozen=True)
class Question:
    """One item, as a batch of one, and what it really is."""

    value: NDArray[np.float32]
    text: str
    truth: str
    names: tuple[str, ...]
    """What each class is called."""


def questions(sample: Sample, count: int) -> list[Question]:
    """Return ``count`` questions to a sample."""
    if sample == DIGITS:
        data, labels = load_digits(return_X_y=True)
        classes: tuple[str, ...] = tuple("0123456789")
    else:
        data, labels = load_breast_cancer(return_X_y=True)
        classes = ("malignant", "benign")
    step = max(1, len(data) // (count + 1))
    return [
        Question(
            value=data[i : i + 1].astype(np.float32),
            text=f"{sample.name} no. {i}",
            truth=classes[int(labels[i])],
            names=classes,
        )
        for i in range(step, step * (count + 1), step)
    ][:count]
