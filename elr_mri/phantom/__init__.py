"""The built-in synthetic study, written in the real download formats, with the truth beside it."""
