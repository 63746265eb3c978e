"""A chat model on conversations: which method, then the adapter's config in the hands of PEFT.

    python -m examples.chat [--budget 5]

The data has `messages`; the loss is on the assistant's turns alone, as the model's chat template renders them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from advisor import recommend
from examples.demo_model import demo_model

DATA = Path(__file__).parent / "data" / "chat.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="hub id, folder or GGUF file; default: the demo's")
    parser.add_argument("--budget", type=float, default=5.0, help="minutes of probing")
    parser.add_argument("--out", type=Path, default=Path("chat-out"))
    arguments = parser.parse_args()
    found = recommend(arguments.model or demo_model(), DATA, budget_minutes=arguments.budget, out=arguments.out)
    found.print_summary()
    print(found.peft_config)
    print(found.training_arguments)


if __name__ == "__main__":
    main()
