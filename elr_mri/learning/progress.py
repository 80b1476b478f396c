"""What a training run says while it runs: a line per epoch and every half minute, `history.tsv`, TensorBoard events."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tensorboardX import SummaryWriter
from torch import Tensor, nn
from torch.nn import functional

from elr_mri.provenance import atomic

#: Seconds between two lines within an epoch.
SILENCE_S = 30.0


class Tally(nn.Module):
    """Sums over the scans of an epoch so far, each at the step that it was trained on; kept in the training state.

    `sums` (4,) float64: scans, loss, cross-entropy (nats), right guesses by the given labels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("sums", torch.zeros(4, dtype=torch.float64))

    @torch.no_grad()
    def add(self, logits: Tensor, labels: Tensor, loss: Tensor) -> None:
        """Count a batch: logits (batch, n_classes), given labels (batch,), the batch's mean loss."""
        entropy = functional.cross_entropy(logits, labels)
        right = (logits.argmax(dim=1) == labels).sum()
        one = torch.ones_like(entropy)
        self.sums += torch.stack([one * len(labels), loss * len(labels), entropy * len(labels), right]).double()

    def means(self) -> dict[str, float]:
        """Means over the scans."""
        n, loss, entropy, right = self.sums.tolist()
        return {"train_loss": loss / n, "train_ce": entropy / n, "train_accuracy": right / n}


class Progress:
    """Tells how a run goes; `tell` receives the lines, None where another process speaks."""

    def __init__(self, folder: Path, slug: str, n_epochs: int, n_scans: int, tell: Callable[[str], None] | None):
        self.folder, self.slug, self.n_epochs, self.n_scans = folder, slug, n_epochs, n_scans
        self.say = tell or (lambda line: None)
        self.events: SummaryWriter | None = None
        self.spoke = time.perf_counter()

    def batch(self, epoch: int, seconds: float, tally: Tally) -> None:
        """A line within an epoch, where the last one is long ago."""
        now = time.perf_counter()
        if now - self.spoke < SILENCE_S:
            return
        self.spoke, done = now, int(tally.sums[0])
        left = seconds / done * (self.n_scans * (self.n_epochs - epoch) - done)
        entropy = tally.means()["train_ce"]
        self.say(
            f"{self.slug}  epoch {epoch + 1}/{self.n_epochs}  {done} of {self.n_scans} scans  ce {entropy:.3f}  {done / seconds:.1f} scans/s  left {clock(left)}"
        )

    def epoch(self, history: list[dict[str, Any]]) -> None:
        """The line of the last epoch, its events and the table of all."""
        line = history[-1]
        self.spoke = time.perf_counter()
        self.table(history)
        if self.events is None:
            self.events = SummaryWriter(str(self.folder / "events"), purge_step=line["epoch"])
        for name, value in line.items():
            if name != "epoch" and math.isfinite(value):
                self.events.add_scalar(name.replace("_", "/", 1), value, line["epoch"])
        self.events.flush()
        self.say(
            f"{self.slug}  epoch {line['epoch']}/{self.n_epochs}  loss {line['train_loss']:.3f}  ce {line['train_ce']:.3f}  "
            f"val ce {line['val_ce']:.3f}  val balanced accuracy {line['val_balanced_accuracy']:.2f}  {line['seconds']:.0f} s  "
            f"{self.n_scans / max(line['seconds'], 0.01):.1f} scans/s  left {clock((self.n_epochs - line['epoch']) * line['seconds'])}"
        )

    def table(self, history: list[dict[str, Any]]) -> None:
        """Write `history.tsv`."""
        with atomic(self.folder / "history.tsv") as draft:
            pd.DataFrame(history).to_csv(draft, sep="\t", index=False, lineterminator="\n")

    def close(self) -> None:
        """Finish the file of events, which is written by a thread of its own."""
        if self.events is not None:
            self.events.close()


def clock(seconds: float) -> str:
    """Seconds as a person says them.

    >>> clock(42), clock(4000)
    ('42 s', '1 h 07 min')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
