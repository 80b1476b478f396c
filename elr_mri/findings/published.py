"""The published numbers of the method, to stand beside ours: other scans, other subjects, another registration."""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """One row of the published table; scores in percent."""

    data: str
    method: str
    accuracy: float
    balanced_accuracy: float
    micro_auc: float
    macro_auc: float


SOURCE = (
    "C. Fernandez-Granda, talk “Early-Learning Regularization Prevents Memorization of Noisy Labels”; network: "
    "S. Liu, C. Yadav, C. Fernandez-Granda, N. Razavian, ML4H 2019, PMLR 116:171–183."
)
ADNI, NACC = "ADNI test, 380 scans of 96 subjects", "NACC (external)"
PUBLISHED = (
    Published(ADNI, "volume-based", 61.9, 62.1, 78.0, 76.1),
    Published(ADNI, "ResNet-18 3D", 50.1, 51.3, 71.2, 72.4),
    Published(ADNI, "AlexNet 3D", 57.2, 56.2, 75.1, 74.2),
    Published(ADNI, "proposed", 66.9, 67.9, 82.0, 78.5),
    Published(ADNI, "proposed + age", 68.2, 70.0, 82.0, 80.0),
    Published(NACC, "volume-based", 56.3, 53.2, 72.0, 74.0),
    Published(NACC, "proposed", 74.2, 60.1, 87.0, 80.0),
)
#: The cohort and split of ours that each published test set is set beside, and our method that each published one is.
PLACE_OF = {ADNI: ("ADNI", "test"), NACC: ("NACC", "external")}
COUNTERPART = {
    "volume-based": "volumes",
    "ResNet-18 3D": "resnet18",
    "AlexNet 3D": "alexnet",
    "proposed": "wide",
    "proposed + age": "wide-age",
}
