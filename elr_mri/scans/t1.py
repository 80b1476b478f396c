"""Which series of a session is the T1-weighted scan, told by its description.

Descriptions are free text: `MPR; GradWarp; B1 Correction; N3; Scaled` (ADNI, processed), `Accelerated Sagittal
MPRAGE` (ADNI3), `t1_mpr_sag_iso`, `SAG 3D FSPGR` (NACC). The patterns below are the vendors' names of 3-D T1
sequences: MPRAGE (Siemens), IR-SPGR/FSPGR/BRAVO (GE), 3D TFE (Philips), MDEFT.
"""

from __future__ import annotations

import re

_T1 = re.compile(r"mp[ _-]?rage|\bmpr\b|\bmt1\b|\b(ax|sag|cor)?t1|spgr|bravo|\btfe\b|mdeft")
_NOT_T1 = re.compile(
    r"\bt2|flair|\bpd\b|dti|dwi|diffusion|\badc\b|\bswi\b|\bgre\b|asl\b|bold|\bfmri|\brest|localizer|localiser|scout|survey"
    r"|calibration|\bcal\b|field ?map|\btof\b|angio|\bmra\b|\bmrv\b|perfusion|mask|harp|muse|midas|\bseg|reformat"
    r"|mpr range|collapsed|\bmip\b|hippocamp|phantom|probabil|jacobian|\broi"
)
_CONTRAST = re.compile(r"\bgad|\bgd\b|contrast|post|\+ ?c\b")
_FLAT = re.compile(r"\b(2d|se|fse|tse)\b")
_REPEAT = re.compile(r"\b(mpr ?-?r|rpt|rep)\b|repeat")
_ACCELERATED = re.compile(r"accel|grappa|sense|\bp2\b|\bipat")
_UNCORRECTED = re.compile(r"\bnd\b")


def plain(description: str) -> str:
    """A description in lower case with single spaces, whatever separators the download put in."""
    return re.sub(r"[\s_;,./\\()]+", " ", description.lower()).strip()


def is_t1(description: str) -> bool:
    """Whether a series is a T1-weighted head scan, and neither a mask, a map nor a reformatted slab made from one."""
    text = plain(description)
    return bool(_T1.search(text)) and not _NOT_T1.search(text) and not is_uncorrected(description)


def is_derived(text: str) -> bool:
    """Whether a name tells of something else than a T1 scan, such as a mask that lies in the scan's own folder."""
    return bool(_NOT_T1.search(plain(text)))


def is_uncorrected(description: str) -> bool:
    """Whether the scanner's own twin without gradient distortion correction (`…_ND`)."""
    return bool(_UNCORRECTED.search(plain(description)))


def is_repeat(description: str) -> bool:
    """Whether a second acquisition of the same session (`MPR-R`)."""
    return bool(_REPEAT.search(plain(description)))


def is_accelerated(description: str) -> bool:
    """Whether acquired with parallel imaging."""
    return bool(_ACCELERATED.search(plain(description)))


def series_rank(description: str) -> tuple[int, int, int]:
    """Order among the T1 series of one session: without contrast first, 3-D before 2-D, first before repeat."""
    text = plain(description)
    return bool(_CONTRAST.search(text)) * 1, bool(_FLAT.search(text)) * 1, is_repeat(description) * 1


def processing_level(description: str) -> str:
    """How far the archive has processed an ADNI image: `scaled`, `n3`, `part` (GradWarp or B1 only) or `original`."""
    text = plain(description)
    if "scaled" in text:
        return "scaled"
    if re.search(r"\bn3m?\b", text):
        return "n3"
    return "part" if re.search(r"gradwarp|b1 correction", text) else "original"
