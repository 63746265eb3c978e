"""A race on a Ray cluster: two nodes are started on this machine, and the probes spread over them.

python -m examples.ray_cluster [--model FOLDER] [--data FILE] [--budget MINUTES]

With a cluster of your own all it takes is its address: `advisor recommend ... --executor ray --ray-address HOST:PORT`.
Needs the extra "ray": pip install 'peft-advisor[ray]'.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from advisor import recommend
from examples.demo_model import demo_model

DEMO_DATA = Path(__file__).parent / "data" / "demo.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="default: the demo's SmolLM2-135M")
    parser.add_argument("--data", default=str(DEMO_DATA))
    parser.add_argument("--budget", type=float, default=3.0, help="minutes for probing")
    parser.add_argument("--max-steps", type=int, help="optimizer steps of the run you plan")
    parser.add_argument("--methods", nargs="+", default=["lora", "ia3", "ln-tuning"])
    arguments = parser.parse_args()

    from ray.cluster_utils import Cluster  # what stands for `ray start --head` here, and `ray start` on other machines

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        found = recommend(
            arguments.model or demo_model(),
            arguments.data,
            budget_minutes=arguments.budget,
            max_steps=arguments.max_steps,
            methods=arguments.methods,
            executor="ray",
            ray_address=cluster.address,
        )
        found.print_summary()
        print(f"{found.result.race.workers} workers on {len(cluster.list_all_nodes())} nodes")
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
