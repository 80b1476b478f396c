"""The one error that a user can fix.

Every door of the package (configuration, tables, images, model folders) raises
`BadInput` with four facts: what was expected, what came, where, and what to do.
The command line prints it as one line and exits with status 2; anything else
that escapes is a fault of ours and exits with 1.
"""

from __future__ import annotations


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
