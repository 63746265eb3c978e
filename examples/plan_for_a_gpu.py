"""What will fit on a card that is not here? No GPU, no weights and no network are needed.

python -m examples.plan_for_a_gpu [--model llama-8b] [--gpu "RTX 4090"]
"""

from __future__ import annotations

import argparse

from advisor import estimate_memory

METHODS = ("lora", "dora", "ia3", "full")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="llama-8b", help="alias, hub id or folder")
    parser.add_argument("--gpu", default="RTX 4090", help="a card by name")
    arguments = parser.parse_args()
    for batch_size in (8, 1):
        for quantize in ("none", "nf4"):
            found = estimate_memory(
                arguments.model,
                METHODS,
                gpu=arguments.gpu,
                batch_size=batch_size,
                max_length_tokens=1024,
                quantize=quantize,
                gradient_checkpointing=True,
            )
            for row in found.methods:
                peak = f"{row.memory.peak_bytes / 1e9:6.1f} GB" if row.memory else "unknown"
                print(f"batch {batch_size}  {quantize:5s} {row.title:18s} {peak}  {row.verdict}")


if __name__ == "__main__":
    main()
