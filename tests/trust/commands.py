"""Every command that opens a run folder or a configuration."""

from pathlib import Path


def commands_on(folder: Path) -> dict[str, list[str]]:
    """Their arguments, by what they are called in a test's name."""
    run = str(folder)
    quick = ["--set", "importance_samples=2", "--set", "log_z_chains=2", "--set", "log_z_temperatures=2"]
    return {
        "report": ["report", run],
        "compare": ["compare", run, run],
        "evaluate": ["evaluate", run, *quick],
        "generate": ["generate", run, "--num", "2"],
        "reconstruct": ["reconstruct", run, "--num", "2"],
        "resume": ["train", "--resume", "--out", run, "--set", "training.epochs=4"],
        "train": ["train", f"{run}/config.yaml", "--out", "new"],
        "dry-run": ["train", f"{run}/config.yaml", "--dry-run"],
        "diagnose": ["diagnose", "gradients", run, "--steps", "1", "--out", "diagnosis"],
        "recommend": ["samplers", "recommend", run, "--seconds", "1"],
        "benchmark": ["benchmark", "training", f"{run}/config.yaml", "--seconds", "0.1"],
        "problem": ["benchmark", "samplers", "--problem", run, "--sampler", "exact", "--budget", "0.01"],
    }


SLOW = "benchmark"
"""It starts processes of its own, so one test is enough."""
COMMANDS = [name for name in commands_on(Path("run")) if name != SLOW]
