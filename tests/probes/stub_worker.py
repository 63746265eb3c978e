"""A worker process without a model, for tests of executors: a job's learning rate says how it behaves.

    python stub_worker.py [fatal] [pids=FILE] [seconds=SECONDS]

0 finishes, 9 is killed, 8 hangs, 7 ends in the middle of a message, 6 ends as failed. A job writes a checkpoint and
tells in its points what it found there. Each worker adds its process id to FILE and sleeps SECONDS in each job.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

options = dict(argument.partition("=")[::2] for argument in sys.argv[1:])


def send(**message):
    print(json.dumps(message), flush=True)


def main():
    context = json.loads(sys.stdin.readline())["context"]
    if "pids" in options:
        with Path(options["pids"]).open("a") as file:
            file.write(f"{os.getpid()}\n")
    if "fatal" in options:
        send(fatal="no such model")
        sys.exit(1)
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "9":
        sys.exit(4)
    send(baseline={"eval_loss": 2.0, "metric": 0.1, "load_s": 0.1, "eval_s": 0.1, "eval_tokens": 10})
    for line in sys.stdin:
        run(json.loads(line)["job"], Path(context["work_folder"]))


def run(job, folder):
    behaviour = job["learning_rate"]
    if behaviour == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == 8:
        time.sleep(60)
    if behaviour == 7:
        print("{half a line", end="", flush=True)
        os._exit(3)
    if behaviour == 6:
        send(outcome={"id": job["id"], "status": "failed", "reason": "raised"})
        sys.exit(0)
    time.sleep(float(options.get("seconds", 0)))
    stored = folder / job["id"] / "checkpoint.safetensors"
    first_step = int(stored.read_text()) if stored.exists() else 0
    for step in range(first_step + 1, job["stop_step"] + 1):
        send(step={"id": job["id"], "step": step, "loss": 1.5})
    send(point={"id": job["id"], "step": job["stop_step"], "eval_loss": 1.0})
    stored.parent.mkdir(exist_ok=True)
    stored.write_text(str(job["stop_step"]))
    outcome = {"id": job["id"], "status": "finished", "first_step": first_step, "last_step": job["stop_step"]}
    send(outcome=outcome)


if __name__ == "__main__":
    main()
