"""What is a bare brain and what is a head."""

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from elr_mri.imaging.brain import bare_brain
from elr_mri.imaging.template import HEAD_IMAGE, HEAD_MASK


@pytest.fixture(scope="module")
def colin27():
    image, mask = nib.load(HEAD_IMAGE), nib.load(HEAD_MASK)
    return np.asarray(image.dataobj, dtype=np.float32), np.asarray(mask.dataobj) > 0, image.affine


@pytest.mark.parametrize("order", [1, 3, 5])
@pytest.mark.parametrize("clipped", [True, False])
def test_an_extracted_brain_that_was_resampled_is_still_a_bare_brain(colin27, order, clipped):
    """Splines leave ripples around it, which the tools that resample clip at zero or keep."""
    head, mask, affine = colin27
    brain = ndimage.rotate(np.where(mask, head, 0), 5, axes=(0, 1), reshape=False, order=order)
    found = bare_brain(np.maximum(brain, 0) if clipped else brain, affine)
    turned = ndimage.rotate(mask.astype(np.float32), 5, axes=(0, 1), reshape=False, order=1) > 0.5
    assert found is not None
    assert 2 * (found & turned).sum() / (found.sum() + turned.sum()) > 0.97


@pytest.mark.parametrize("air", [0.0, 0.01])
def test_a_head_is_no_bare_brain(colin27, air):
    head, _, affine = colin27
    noise = np.abs(np.random.default_rng(0).normal(0, air * head.max(), head.shape)).astype(np.float32)
    assert bare_brain(np.maximum(head, noise), affine) is None


def test_a_brain_in_noisy_air_is_no_bare_brain(colin27):
    head, mask, affine = colin27
    noise = np.abs(np.random.default_rng(0).normal(0, 0.01 * head.max(), head.shape)).astype(np.float32)
    assert bare_brain(np.where(mask, head, noise), affine) is None
