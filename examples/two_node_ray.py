"""A grid on a Ray cluster of two nodes, one of which is lost on the way. Both nodes run on this machine, over loopback only.

    python examples/two_node_ray.py GRID OUT

On a real cluster the only difference is the address: `rs05bench sweep GRID --executor ray --ray-address auto --out OUT`.
"""

import os

# Both are read when ray is imported: nobody is told of the run, and the nodes use the address given below.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"

import sys
import threading
import time

import ray
from ray.cluster_utils import Cluster

from rs05bench.experiment.executors.ray import RayExecutor
from rs05bench.experiment.gridfile import GridFile
from rs05bench.experiment.store import ResultStore
from rs05bench.experiment.sweep import sweep


def main() -> None:
    grid, out = GridFile.load(sys.argv[1]), sys.argv[2]
    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "node_ip_address": "127.0.0.1"}
    # A cluster notices within about two seconds that a node is gone; usually it takes fifteen.
    impatient = {"health_check_period_ms": 500, "health_check_timeout_ms": 1000, "health_check_failure_threshold": 2}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False, "_system_config": impatient})
    second = cluster.add_node(**node)
    ray.init(cluster.address, log_to_driver=False, _node_ip_address="127.0.0.1")

    def lose_a_node() -> None:
        while len(ResultStore(out).digests()) < 4:  # both nodes are at work
            time.sleep(0.1)
        cluster.remove_node(second, allow_graceful=False)
        print("a node was lost")

    thief = threading.Thread(target=lose_a_node)
    thief.start()
    summary = sweep(grid, out, executor=RayExecutor())
    thief.join()
    nodes = sum(node["Alive"] for node in ray.nodes())
    print(f"{summary.cells} cells: {summary.done} run, {len(summary.failed)} failed, {nodes} node left")
    ray.shutdown()
    cluster.shutdown()
    sys.exit(bool(summary.failed) or summary.done + summary.reused != summary.cells)


if __name__ == "__main__":
    main()
