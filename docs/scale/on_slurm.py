"""A qvae command on the machines of a Slurm cluster:  python on_slurm.py sweep mnist --seeds 5 --out /shared/sweep

Any command that takes --cluster. dask-jobqueue submits WORKERS jobs, each with one worker, and the command goes on as soon as
all of them have begun; at its end they are given back. Start it where sbatch works, in the environment that the jobs have, too.
"""

import os
import subprocess
import sys

from dask_jobqueue import SLURMCluster

WORKERS = int(os.environ.get("WORKERS", 8))

if __name__ == "__main__":
    # Add queue= and account= as your cluster wants them; cluster.job_script() shows what is submitted.
    with SLURMCluster(cores=1, processes=1, memory="8GB", walltime="04:00:00") as cluster:
        cluster.scale(jobs=WORKERS)
        cluster.wait_for_workers(WORKERS)
        done = subprocess.run(["qvae", *sys.argv[1:], "--cluster", cluster.scheduler_address])
    sys.exit(done.returncode)
