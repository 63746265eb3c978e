"""`advisor merge`: the trained adapter as a model that any server loads."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from advisor.cli._place import place

if TYPE_CHECKING:
    from advisor.training.merge import Merging


def command(
    folder: Annotated[Path, typer.Argument(help="The --out folder of `advisor recommend`, after `advisor train`.")],
    to: Annotated[
        str | None, typer.Option(help="model or lora. Default: model where the method merges, else lora.")
    ] = None,
    rank: Annotated[int, typer.Option(min=1, help="Rank of the LoRA that another adapter is converted to.")] = 32,
    dtype: Annotated[str | None, typer.Option(help="Of the merged weights. Default: the base's own.")] = None,
    out: Annotated[
        Path | None, typer.Option(callback=place, help="Where to write. Default: merged or lora in the folder.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Move aside what is there.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Merge the trained adapter into its base model, or convert it to LoRA."""
    from typing import get_args

    from advisor.training.merge import Form, merge_recommended
    from knowledge.errors import BadInput
    from knowledge.schema import DType

    for option, value, known in (("--to", to, get_args(Form)), ("--dtype", dtype, get_args(DType))):
        if value is not None and value not in known:
            raise BadInput(f"{option} {value!r} is not known. Choose from {', '.join(known)}.")

    def say(text: str) -> None:
        if not quiet:
            print(text, file=sys.stderr)

    made = merge_recommended(folder, form=to, rank=rank, dtype=dtype, out=out, force=force, say=say)
    print(made.model_dump_json(indent=2)) if json else _show(made)


def _show(made: Merging) -> None:
    from advisor.text import clean

    agreement = made.agreement
    what = "merged model" if made.form == "model" else f"LoRA of rank {made.rank}"
    print(f"{what}: {clean(made.folder)} ({made.dtype})")
    print(
        f"against the base with the adapter, on {agreement.positions} positions of held-out rows:\n"
        f"  logits differ by {100 * agreement.change_error:.2g} % of what the adapter changes, "
        f"at most by {agreement.largest_difference:.2g}\n"
        f"  same most likely token or class: {100 * agreement.same_choice:.1f} %"
    )
    for note in made.notes:
        print(f"note: {note}")
    if made.serve:
        print(f"serve: {made.serve}")
