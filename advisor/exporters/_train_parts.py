"""The hand-written parts of the generated train.py. `$NAME` is filled in by script.py and _train_section.py; everything
else is the script.

Conversion, tokenisation, split, batches, the forward pass and metrics are not here: their source is taken from the
functions that the probes ran, so that the final run sees exactly what the probes saw.
"""

HEAD = '''\
#!/usr/bin/env python3
"""Fine-tunes $model with $title: the run that was $how_found, $how_complete.

$provenance
$expectation

    python train.py                   # the whole run: $size
    python train.py --max-steps 20    # a short try
    python train.py --help

Needs $packages.
"""

from __future__ import annotations

$imports

# --------------------------------------------------------------------------- the run

'''

SETTINGS = """\
MODEL = $MODEL
DATA = $DATA
PEFT_CONFIG = $PEFT_CONFIG
TASK = $TASK
METRIC = $METRIC

LEARNING_RATE = $LEARNING_RATE  # peak of the schedule
WEIGHT_DECAY = $WEIGHT_DECAY
MAX_STEPS = $MAX_STEPS  # optimizer steps
WARMUP_STEPS = $WARMUP_STEPS
SCHEDULER = $SCHEDULER
BATCH_SIZE = $BATCH_SIZE
GRADIENT_ACCUMULATION_STEPS = $GRADIENT_ACCUMULATION_STEPS
GRADIENT_CHECKPOINTING = $GRADIENT_CHECKPOINTING
MAX_GRAD_NORM = $MAX_GRAD_NORM
MAX_LENGTH_TOKENS = $MAX_LENGTH_TOKENS  # longer rows are cut at their end
DTYPE = $DTYPE  # of the base model on a GPU with CUDA; elsewhere float32 is used
SEED = $SEED

$held_out
EVAL_ROWS = $EVAL_ROWS
"""

EVAL_ARGUMENT = """
    parser.add_argument("--eval-data", default=EVAL_DATA, help="held-out data (default: %(default)s)")"""

IN_PARTS = '''

def in_parts(batches):
    """The rows of every forward pass: each batch in PARTS, whose gradients add up to those of the whole."""
    return [part for batch in batches for part in np.array_split(batch, PARTS)]
'''

TRAINING = '''

def schedule_factor(step):
    """Factor of the peak learning rate at the optimizer step number `step`, counted from 0."""
    if step < WARMUP_STEPS:
        return (step + 1) / (WARMUP_STEPS + 1)
    if SCHEDULER == "constant":
        return 1.0
    progress = min(1.0, (step - WARMUP_STEPS) / max(1, MAX_STEPS - WARMUP_STEPS))
    return 1.0 - progress if SCHEDULER == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))


def load_base(device):
    """The base model and its tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained($model_arguments)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = $pad_token
    dtype = getattr(torch, DTYPE) if device.type == "cuda" else torch.float32
    model = $auto_class.from_pretrained(
        $model_arguments,
        dtype=dtype$load_options,
    )
    if TASK == "sequence-classification":  # a decoder finds the last token of a text by the token that pads
        model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    ${prepare_base}return model$to_device.eval(), tokenizer


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def make_model(base, first_batches):
    """$model_words"""
$make_model
    if GRADIENT_CHECKPOINTING:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


$make_optimizer


def main():
    args = parse_arguments()
    if any(Path(args.output).glob("*")):
        raise SystemExit(f"{args.output} already holds files, and they are not overwritten: give another --output.")
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    seed_everything(SEED)  # the head of a classifier is drawn as the model is loaded
    base, tokenizer = load_base(device)
    train_rows, eval_rows = load_data(args, tokenizer)
    if not len(train_rows) or not len(eval_rows):
        raise SystemExit(f"{args.data}: {len(train_rows)} rows to train on, {len(eval_rows)} held out; is it the file?")
    print(f"{len(train_rows)} rows to train on, {len(eval_rows)} held out, on {device}", flush=True)
    pad = tokenizer.pad_token_id
    base_loss, base_metric = evaluate(base, eval_rows, pad, device)
    print(f"untuned: held-out loss {base_loss:.4f}, {METRIC} {base_metric:.4f}", flush=True)

    def first_batches():
        order = ${in_parts}batch_order(train_rows.lengths_tokens, BATCH_SIZE, 8, SEED)$end_in_parts
        return [to_device(collate(train_rows, indices, pad, TASK), device) for indices in order]

    seed_everything(SEED)
    model = make_model(base, first_batches)
    optimizer = make_optimizer(model)
    peak_rates = [group["lr"] for group in optimizer.param_groups]
    trainable = [p for p in model.parameters() if p.requires_grad]
    scaler = torch.amp.GradScaler(device.type, enabled=base.dtype == torch.float16)
    print(f"training {sum(p.numel() for p in trainable):,} parameters", flush=True)
    batches = batch_order(train_rows.lengths_tokens, BATCH_SIZE, MAX_STEPS * GRADIENT_ACCUMULATION_STEPS, SEED)
    order, per_step = ${in_parts}batches$end_in_parts, $passes_per_step
    last_step, started = min(args.max_steps, MAX_STEPS), time.monotonic()
    model.train()
    for step in range(last_step):
        step_loss = 0.0
        passes = order[step * per_step : (step + 1) * per_step]
        parts = [collate(train_rows, indices, pad, TASK) for indices in passes]
        labels_of = [int((part["labels"] != -100).sum()) for part in parts]
        for part, count in zip(parts, labels_of, strict=True):
            batch, share = to_device(part, device), count / max(1, sum(labels_of))
$losses
            scaler.scale(loss * share).backward()
            step_loss += float($own_loss.detach()) * share
        scaler.unscale_(optimizer)
        norm = float(torch.nn.utils.clip_grad_norm_(trainable, MAX_GRAD_NORM))
        if not math.isfinite(step_loss) or (step_loss == 0.0 and (step == 0 or not math.isfinite(norm))):
            raise SystemExit(f"The training loss is {step_loss} at step {step + 1}: the run has diverged.")
        for group, rate in zip(optimizer.param_groups, peak_rates, strict=True):
            group["lr"] = rate * schedule_factor(step)
        scale = scaler.get_scale()
        scaler.step(optimizer)  # in float16 left out where gradients overflow, until the scale is found
        scaler.update()
        update_ranks = getattr(getattr(model, "base_model", None), "update_and_allocate", None)
        if update_ranks is not None and scaler.get_scale() >= scale:
            update_ranks(step)  # methods that move their ranks do it here, while the gradients are still there
        optimizer.zero_grad()
        if (step + 1) % args.log_every == 0 or step + 1 == last_step:
            left = (time.monotonic() - started) / (step + 1) * (last_step - step - 1)
            print(f"step {step + 1}/{last_step}  loss {step_loss:.4f}  {left / 60:.1f} min left", flush=True)
        if args.eval_every and (step + 1) % args.eval_every == 0 and step + 1 < last_step:
            held_out_loss, metric = evaluate(model, eval_rows, pad, device)
            print(f"step {step + 1}: held-out loss {held_out_loss:.4f}, {METRIC} {metric:.4f}", flush=True)

    held_out_loss, metric = evaluate(model, eval_rows, pad, device)
    gains = f"held-out loss {held_out_loss:.4f} (from {base_loss:.4f}), {METRIC} {metric:.4f} (from {base_metric:.4f})"
    print(f"tuned: {gains}")
    $save
    tokenizer.save_pretrained(args.output)
    rights = Path(args.output, "tokenizer_config.json").stat().st_mode
    for file in Path(args.output).glob("*.safetensors"):
        file.chmod(rights)  # safetensors writes files that no server of another user can read
    print(f"saved to {args.output}")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=DATA, help="training data (default: %(default)s)")$eval_argument
    output = Path(__file__).resolve().parent / "$output"
    parser.add_argument("--output", default=str(output), help="folder for $saved (default: %(default)s)")
    parser.add_argument("--max-steps", type=int, default=MAX_STEPS, help="stop after so many steps of the schedule")
    parser.add_argument("--log-every", type=int, default=10, help="steps between lines of progress")
    parser.add_argument("--eval-every", type=int, default=0, help="steps between evaluations (default: the end)")
    arguments = parser.parse_args()
    if arguments.max_steps < 1 or arguments.log_every < 1 or arguments.eval_every < 0:
        parser.error("--max-steps and --log-every are 1 or more, --eval-every is 0 or more")
    return arguments


if __name__ == "__main__":
    main()
'''
