"""`python -m elr_mri <step>` is `elr-mri <step>`."""

from elr_mri.cli import main

if __name__ == "__main__":
    main()
