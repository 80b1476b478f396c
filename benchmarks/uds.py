"""How long, and in how much memory, a NACC UDS table of a real freeze's size is read: 200,000 visits × 2,000 columns.

    python benchmarks/uds.py            writes the table into a temporary folder, reads it in a process of its own

Limits (issue on cohorts): 60 s and 500 MiB.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from pathlib import Path

LIMIT_S, LIMIT_MIB = 60.0, 500.0

READ = """
import resource, sys, time
from pathlib import Path
from elr_mri.config import Ingest
from elr_mri.scans.nacc_tables import read_visits
began = time.perf_counter()
visits = read_visits(Path(sys.argv[1]), Ingest())
print(len(visits), time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def write_uds(path: Path, n_rows: int, n_columns: int) -> None:
    """A UDS table: the columns that are read, somewhere among codes of all the others."""
    rng = random.Random(0)
    names = ["NACCID", "NACCADC", "VISITYR", "VISITMO", "VISITDAY", "NACCAGE", "SEX", "NACCUDSD", "NACCALZD"]
    names += ["NACCALZP", "NACCETPR", "CDRGLOB", "NACCMMSE", "NACCNE4S"]
    places = sorted(rng.sample(range(n_columns), len(names)))
    head = [f"CODE{k}" for k in range(n_columns)]
    for place, name in zip(places, names, strict=True):
        head[place] = name
    fillers = [[str(rng.choice((-4, 0, 1, 8, 88, 999))) for _ in range(n_columns)] for _ in range(50)]
    with open(path, "w") as file:
        file.write(",".join(head) + "\n")
        for k in range(n_rows):
            cells = fillers[k % 50]
            told = (f"NACC{k // 4:06d}", 4347, 2006 + k % 4, 1 + k % 12, 1 + k % 28, 60 + k % 30, 1 + k % 2)
            told += (rng.choice((1, 2, 3, 4)), rng.choice((0, 1, 8)), rng.choice((1, 2, 3, 7, 8)), 88, 0.5, 28, 1)
            for place, value in zip(places, told, strict=True):
                cells[place] = str(value)
            file.write(",".join(cells) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--columns", type=int, default=2_000)
    size = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "investigator_nacc75.csv"
        write_uds(path, size.rows, size.columns)
        done = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True)
        n_visits, seconds, mib = (float(value) for value in done.stdout.split())
        print(f"{path.stat().st_size / 1e6:.0f} MB, {size.rows} rows × {size.columns} columns: {n_visits:.0f} visits")
        print(
            f"{seconds:.1f} s ({seconds / LIMIT_S:.2f} of the limit), {mib:.0f} MiB ({mib / LIMIT_MIB:.2f} of the limit)"
        )


if __name__ == "__main__":
    main()
