"""The style guide, as far as a program can check it."""
