"""The one error that a user can fix.

Every door of the package (configuration, tables, images, model folders) raises
`BadInput` with four facts: what was expected, what came, where, and what to do.
The command line prints it as one line and exits with status 2; anything else
that escapes is a fault of ours and exits with 1.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

#: Environment variable: the folder in which one of several processes leaves its bad input, for the one that started it to tell.
REFUSALS = "ELR_MRI_REFUSALS"


class BadInput(ValueError):
    """Input that a person must fix, told in one line.

    Parameters
    ----------
    expected, got, where : str
        What should have been there, what was there, and in which file, column or key.
    fix : str
        What to do about it.
    """

    def __init__(self, *, expected: str, got: str, where: str, fix: str):
        self.expected, self.got, self.where, self.fix = expected, got, where, fix
        super().__init__(" ".join(f"{where}: expected {expected}, got {got}. {fix}".splitlines()))

    def leave(self) -> bool:
        """Leave this to the process that started this one; False where none waits for it."""
        folder = os.environ.get(REFUSALS)
        if folder:
            facts = {name: getattr(self, name) for name in ("expected", "got", "where", "fix")}
            draft = Path(folder, f".{os.getpid()}")
            draft.write_text(json.dumps(facts))
            draft.rename(Path(folder, f"{os.getpid()}.json"))
        return bool(folder)
