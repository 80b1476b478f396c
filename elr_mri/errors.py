"""The one error that a user can fix.

Every door of the package (configuration, tables, images, model folders) raises
`BadInput` with four facts: what was expected, what came, where, and what to do.
The command line prints it as one line and exits with status 2; anything else
that escapes is a fault of ours and exits with 1.
"""

from __future__ import annotations

import errno
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


#: What a person does about a disk that cannot be written on, by error number.
_DISK = {
    errno.ENOSPC: "Free some room and start again: what is whole is kept.",
    errno.EDQUOT: "Free some of the quota and start again: what is whole is kept.",
    errno.EROFS: "Name an output folder that can be written in.",
    errno.EACCES: "Change the permissions, or name another folder.",
    errno.EPERM: "Change the permissions, or name another folder.",
    errno.EFBIG: "Raise the limit of a file's size (ulimit -f), or use another disk.",
    errno.ESTALE: "Start again when the disk is back.",
    errno.ETIMEDOUT: "Start again when the disk is back.",
    errno.EMFILE: "Raise the limit of open files (ulimit -n), or start fewer jobs at once.",
    errno.ENFILE: "Start fewer jobs at once.",
}


def of_the_machine(problem: BaseException) -> bool:
    """Whether a problem with a file is the machine's at this moment, and tells nothing of the file."""
    return isinstance(problem, OSError) and problem.errno in _DISK.keys() - {errno.EACCES, errno.EPERM}


def disk_fault(problem: OSError) -> BadInput | None:
    """A full, read-only or forbidden disk in one line; None for any other problem."""
    number = problem.errno
    if number is None and "requested and" in str(problem):  # NumPy's words where an array did not fit
        number = errno.ENOSPC
    if number not in _DISK:
        return None
    return BadInput(
        expected="a disk that can be read and written",
        got=os.strerror(number),
        where=str(problem.filename or "the output"),
        fix=_DISK[number],
    )
