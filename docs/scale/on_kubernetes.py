"""A qvae command on a Kubernetes cluster:  python on_kubernetes.py sweep mnist --seeds 5 --out /shared/sweep

Any command that takes --cluster. The operator of dask-kubernetes starts WORKERS pods of IMAGE, which has the same version of
qvae as this machine, and ends them with the command. All of them, and the pod or machine where this is started, have the
volume claim CLAIM at /shared.
"""

import os
import subprocess
import sys

from dask_kubernetes.operator import KubeCluster, make_cluster_spec

WORKERS = int(os.environ.get("WORKERS", 8))
IMAGE = os.environ.get("IMAGE", "registry.example/qvae:0.1.0")
CLAIM = os.environ.get("CLAIM", "qvae")

if __name__ == "__main__":
    each = {"cpu": "1", "memory": "8Gi"}
    spec = make_cluster_spec(
        name="qvae", image=IMAGE, n_workers=WORKERS, resources={"requests": each, "limits": each}, env={"OMP_NUM_THREADS": "1"}
    )
    pod = spec["spec"]["worker"]["spec"]
    pod["volumes"] = [{"name": "shared", "persistentVolumeClaim": {"claimName": CLAIM}}]
    pod["containers"][0]["volumeMounts"] = [{"name": "shared", "mountPath": "/shared"}]
    with KubeCluster(custom_cluster_spec=spec) as cluster:
        cluster.wait_for_workers(WORKERS)
        done = subprocess.run(["qvae", *sys.argv[1:], "--cluster", cluster.scheduler_address])
    sys.exit(done.returncode)
