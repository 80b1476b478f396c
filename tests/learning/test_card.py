"""The model card of a trained model says what its `model.json` says."""

from pathlib import Path

from toy_study import Study

from elr_mri.config import Train
from elr_mri.learning.card import card
from elr_mri.learning.checkpoint import read_facts
from elr_mri.learning.train import train


def test_card_of_a_trained_model(study: Study, settings: Train, tmp_path: Path) -> None:
    short = settings.model_copy(update={"epochs": 1})
    train(
        *study.paths,
        short,
        slug="wide-age-elr",
        seed=0,
        out_dir=tmp_path,
        synthetic=True,
        progress=lambda line: None,
    )
    facts, told = read_facts(tmp_path), (tmp_path / "model.md").read_text(encoding="utf-8")
    assert told == card(facts)
    trained, kept = facts["trained_on"], facts["selected"]
    assert f"{trained['n_scans']} of {trained['n_subjects']} subjects" in told and "TOY (synthetic)" in told
    assert f"balanced_accuracy: {kept['val_balanced_accuracy']:.4f}" in told and "Epoch 1 was kept" in told
    assert "38×40×37 voxels of 3 mm" in told and "model.elr: {'weight': 3.0, 'beta': 0.7, 'targets': 'outputs'" in told
    assert "Not a medical device" in told and "computed phantoms" in told and "not calibrated" in told
    people = card(facts | {"trained_on": trained | {"synthetic": False}})
    assert "computed phantoms" not in people
