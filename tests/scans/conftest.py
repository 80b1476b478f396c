"""Fixtures of the scans zone: small downloads, and `ingest` run on them."""

from __future__ import annotations

import pandas as pd
import pytest
from small_downloads import Adni, Nacc, write_csv

from elr_mri.config import Cohort, Ingest
from elr_mri.scans.ingest import ingest


@pytest.fixture
def adni(tmp_path) -> Adni:
    return Adni(tmp_path / "adni")


@pytest.fixture
def nacc(tmp_path) -> Nacc:
    return Nacc(tmp_path / "nacc")


@pytest.fixture
def table_writer():
    return write_csv


@pytest.fixture
def run(tmp_path):
    """Ingest download folders and return the four tables; (format, folder) pairs or whole cohorts."""

    def go(*cohorts, **settings) -> dict[str, pd.DataFrame]:
        whole = [
            c
            if isinstance(c, Cohort)
            else Cohort(name=c[0].upper() if len(c) < 3 else c[2], format=c[0], path=str(c[1]))
            for c in cohorts
        ]
        out = tmp_path / "out"
        ingest(whole, Ingest(**settings), out)
        tables = {
            name: pd.read_csv(out / f"{name}.tsv", sep="\t") for name in ("scans", "exclusions", "visits", "notes")
        }
        return tables

    return go
