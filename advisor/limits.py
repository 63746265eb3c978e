"""The largest numbers that an option takes: beyond, a slip of the keyboard is likelier than a run."""

MAX_COUNT = 100_000  # epochs, sequences per pass, passes per step
MAX_STEPS = 100_000_000
MAX_LENGTH_TOKENS = 2_000_000  # tokens of a sequence
