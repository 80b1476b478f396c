"""One set of registered synthetic heads for all imaging tests."""

import pytest
from small_heads import make_head, run


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """Registered heads: `plain`, `warped` (2 mm), `turned` (the plain one at a pose), `shrunk` (smaller hippocampi)."""
    folder = tmp_path_factory.mktemp("study")
    heads = {
        "sub-plain_ses-M000": make_head(),
        "sub-warped_ses-M000": make_head(seed=1, warp_mm=2.0, turn_degrees=(6, -4, 5), shift_mm=(4, -6, 5)),
        "sub-turned_ses-M000": make_head(turn_degrees=(5, 0, 3), shift_mm=(3, 2, -4)),
        "sub-shrunk_ses-M000": make_head(shrink=0.5),
    }
    told = {scan_id: run(head, folder, scan_id) for scan_id, head in heads.items()}
    return folder, heads, told
