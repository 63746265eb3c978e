"""Coverage-guided fuzzing of what reads files from outside, with atheris (libFuzzer).

    python -m tests.fuzz [--seconds 60] [TARGET ...]

The targets (targets.py) are ordinary functions of bytes, which pytest runs on their seeds and on random changes of
these. The fuzzer goes on from the same seeds towards inputs that reach code that none has reached before. It wants the
extra `fuzz`.
"""
