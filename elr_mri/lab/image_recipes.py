"""How each set of images is trained on: the published recipe of ELR for CIFAR, and one for the digits that was chosen on held-out training images."""

from __future__ import annotations

from dataclasses import dataclass, field

from elr_mri.config import Elr, Fit, Images, Lab, Loss
from elr_mri.lab.image_sets import ImageSet

#: Class folders with as many classes are trained on as CIFAR-100.
MANY_CLASSES = 100


@dataclass(frozen=True)
class Recipe:
    """A network, its training, and the methods that are weighted otherwise for this set than in general."""

    network: str
    augment: str
    standardise: bool
    fit: Fit
    losses: dict[str, Loss] = field(default_factory=dict)


def _published(weight: float, beta: float, *, ramp_steps: int = 0) -> dict[str, Loss]:
    """ELR, and ELR+ whose averaged weights (and, on CIFAR-100, λ) rise for 40,000 steps, about a hundred epochs."""
    common = {"weight": weight, "beta": beta}
    plus = Elr(**common, targets="both", mixup=1.0, ema_ramp_steps=40_000, ramp_steps=ramp_steps)
    return {"elr": Loss(elr=Elr(**common)), "elr-plus": Loss(elr=plus)}


def _cifar(epochs: int, milestones: tuple[int, ...]) -> Fit:
    """Liu et al., NeurIPS 2020, supplement: SGD, batches of 128, the step size divided by 10 twice."""
    return Fit(
        epochs=epochs,
        batch_size=128,
        learning_rate=0.02,
        weight_decay=1e-3,
        schedule="steps",
        milestones=milestones,
        precision="auto",
    )


RECIPES = {
    "cifar10": Recipe("resnet34", "crop-flip", True, _cifar(120, (40, 80)), _published(3.0, 0.7)),
    "cifar100": Recipe("resnet34", "crop-flip", True, _cifar(150, (80, 120)), _published(7.0, 0.9, ramp_steps=40_000)),
    # by SGD ELR needs a larger λ, or loses rightly labelled images (docs/log.md)
    "digits": Recipe(
        "small",
        "none",
        False,
        Fit(epochs=50, batch_size=32, optimizer="adamw", learning_rate=2e-3, weight_decay=0.0, device="cpu"),
    ),
}


def recipe_of(data: ImageSet, settings: Images) -> Recipe:
    """The recipe that the config names, or the set's own, with what the config puts in its place."""
    name = settings.recipe
    if name == "auto":
        name = data.kind if data.kind in RECIPES else "cifar100" if len(data.classes) >= MANY_CLASSES else "cifar10"
    found = RECIPES[name]
    own = {key: getattr(settings.fit, key) for key in settings.fit.model_fields_set}
    if "epochs" in own and "milestones" not in own:  # or the step size of a shorter training would never fall
        times = own["epochs"] / found.fit.epochs
        own["milestones"] = tuple(max(1, round(milestone * times)) for milestone in found.fit.milestones)
    return Recipe(
        found.network if settings.network == "auto" else settings.network,
        found.augment if settings.augment == "auto" else settings.augment,
        found.standardise,
        found.fit.model_copy(update=own),
        found.losses,
    )


def loss_of(name: str, settings: Lab, recipe: Recipe) -> Loss:
    """A method's loss: as `lab.methods` has it, else as the recipe, else as it is in general."""
    return settings.method(name) if name in settings.methods or name not in recipe.losses else recipe.losses[name]
