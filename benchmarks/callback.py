"""Cost of the callback for a training, in the same process or asynchronously, and what it leaves.

The toy model of `examples/train_toy_diffusion.py` is trained without the callback, with it, and
with it asynchronous, each in a new process. The cost is the additional time of the training.

    python benchmarks/callback.py cost --epochs 25 --every 12 --samples 24
    python benchmarks/callback.py cache --epochs 20 --samples 16
    python benchmarks/callback.py recurring FILE --reference STORE --samples 100 --calls 4
    python benchmarks/callback.py memory --calls 4
    python benchmarks/callback.py imports
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
MODES = ("without", "synchronous", "asynchronous")


def children() -> list[str]:
    """Child processes, without Python's resource tracker."""
    found = subprocess.run(
        ["ps", "-o", "args=", "--ppid", str(os.getpid())],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = found.stdout.splitlines()
    return [line for line in lines if "resource_tracker" not in line and not line.startswith("ps ")]


def parts(crystals: int, repeats: int) -> tuple[Any, Any, Any]:
    """Training reference, data and model of the example."""
    sys.path.insert(0, str(EXAMPLES))
    import lightning
    import torch
    from train_toy_diffusion import CrystalFlow, Crystals, training_set

    from novelty_metric import open_reference

    torch.set_num_threads(1)
    lightning.seed_everything(7, verbose=False)
    reference = training_set(open_reference("aflow"), crystals, 5)
    data = Crystals([reference.structure(i) for i in range(len(reference))], repeats)
    sizes = {"width": 96, "layers": 3, "heads": 4, "learning_rate": 2e-3, "steps": 40}
    return reference, data, CrystalFlow(data, **sizes)


def train(mode: str, epochs: int, every: int, samples: int) -> dict[str, Any]:
    """One training in this process."""
    import lightning
    from torch.utils.data import DataLoader

    from novelty_metric import SubstitutionNovelty
    from novelty_metric.callbacks import NoveltyCallback

    reference, data, model = parts(12, 128)
    settings = {"reference": reference, "hull": "none", "cache": False}
    # The first search and relaxation on a machine compile and load.
    with SubstitutionNovelty(**settings) as metric:
        metric([reference.structure(0)])
    callbacks: list[Any] = []
    if mode != "without":
        callbacks.append(
            NoveltyCallback(
                "sample",
                settings,
                n_samples=samples,
                every_n_epochs=every,
                asynchronous=mode == "asynchronous",
            )
        )
    with tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(
            max_epochs=epochs,
            logger=False,
            callbacks=callbacks,
            default_root_dir=folder,
            accelerator="cpu",
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
        wall, processor = time.perf_counter(), time.process_time()
        ended: list[float] = []

        class Clock(lightning.Callback):
            def on_train_epoch_end(self, *_: Any) -> None:
                ended.append(time.perf_counter() - wall)

        trainer.callbacks.append(Clock())
        trainer.fit(model, DataLoader(data, batch_size=64, shuffle=True))
    found = callbacks[0].evaluations if callbacks else []
    return {
        "mode": mode,
        "wall": time.perf_counter() - wall,
        "last_epoch_ended": ended[-1],
        "processor": time.process_time() - processor,
        "processor_of_children": sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]),
        "evaluations": len(found),
        "failed": sum(one.report is None for one in found),
        "processes_left": children(),
    }


def cost(epochs: int, every: int, samples: int, rounds: int) -> None:
    """Measure the three modes in turn."""
    runs: dict[str, list[dict[str, Any]]] = {mode: [] for mode in MODES}
    for turn in range(rounds):
        for mode in MODES if turn % 2 == 0 else reversed(MODES):
            words = ["train", mode, "--epochs", str(epochs), "--every", str(every)]
            done = subprocess.run(
                [sys.executable, __file__, *words, "--samples", str(samples)],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                check=True,
            )
            runs[mode].append(json.loads(done.stdout.splitlines()[-1]))
            print(runs[mode][-1], flush=True)
    plain = {
        key: statistics.median(run[key] for run in runs["without"])
        for key in ("wall", "last_epoch_ended", "processor")
    }
    for mode in MODES[1:]:
        more = {
            key: statistics.median(run[key] for run in runs[mode]) / plain[key] - 1 for key in plain
        }
        beside = statistics.median(run["processor_of_children"] for run in runs[mode])
        print(
            f"{mode}: the training process takes {100 * more['processor']:.0f} % more processor "
            f"time, by the clock {100 * more['last_epoch_ended']:.0f} % more to the "
            f"last epoch and {100 * more['wall']:.0f} % more to the end; beside it "
            f"{100 * beside / plain['processor']:.0f} % of the training's processor time"
        )


def cache(epochs: int, samples: int) -> None:
    """Repeated crystals, and new crystals of the same model, with one cache."""
    reference, data, model = parts(12, 128)
    import torch
    from torch.utils.data import DataLoader

    model.train()
    adam = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        for batch in DataLoader(data, batch_size=64, shuffle=True):
            adam.zero_grad()
            model.loss(batch).backward()
            adam.step()
    with tempfile.TemporaryDirectory() as folder:
        metric, counted = counting(reference, Path(folder, "cache.sqlite"), hull="none")
        turns = [("first", 0), ("the same again", 0), *(("others", seed) for seed in (1, 2, 3))]
        for what, seed in turns:
            said = evaluated(metric, counted, "sample", samples, seed=seed, model=model)
            print(f"{what}: {said}", flush=True)


def counting(reference: Any, cache: Path, hull: str) -> tuple[Any, Any]:
    """A prepared metric whose relaxer counts its calls."""
    from protocols import Counted

    from novelty_metric import SubstitutionNovelty
    from novelty_metric.relaxation.cache import RelaxationCache
    from novelty_metric.relaxation.potentials import Chgnet
    from novelty_metric.relaxation.relaxer import PotentialRelaxer

    counted = Counted(PotentialRelaxer(Chgnet(), cache=RelaxationCache(cache)))
    metric = SubstitutionNovelty(reference, "fast", hull=hull, relaxer=counted)
    metric.prepare()
    return metric, counted


def evaluated(
    metric: Any, counted: Any, sample: Any, samples: int, *, seed: int, model: Any
) -> str:
    """One evaluation, and the number of results from the cache."""
    from novelty_metric.callbacks import NoveltyMonitor

    counted.results.clear()
    with NoveltyMonitor(sample, metric, n_samples=samples, seed=seed) as monitor:
        started = time.process_time()
        monitor.step(0, model)
        took = time.process_time() - started
    said = [f"{took:.1f} s of processor time"]
    for kind in ("sample", "parent"):
        results = [result for of, result in counted.results if of == kind]
        served = [result for result in results if result.cached]
        evaluations, spared = (sum(r.steps + 1 for r in some) for some in (results, served))
        said.append(
            f"{len(served)} of {len(results)} relaxations of a {kind} from the cache "
            f"({spared} of {evaluations} evaluations)"
        )
    return "; ".join(said)


def recurring(file: Path, reference: Path, samples: int, calls: int) -> None:
    """Batches of crystals of a real model, as if each batch were of a later epoch."""
    from novelty_metric import read_samples

    crystals = [
        sample.structure
        for sample in read_samples(file, limit=samples * calls)
        if sample.structure is not None
    ]
    with tempfile.TemporaryDirectory() as folder:
        metric, counted = counting(reference, Path(folder, "cache.sqlite"), hull="reference")
        for call in range(calls):
            batch = crystals[call * samples : (call + 1) * samples]

            def sample(n: int, batch: list[Any] = batch) -> list[Any]:
                return batch[:n]

            said = evaluated(metric, counted, sample, len(batch), seed=0, model=None)
            print(f"evaluation {call}: {said}", flush=True)


def memory(calls: int) -> None:
    """Resident memory after each evaluation of new crystals."""
    import gc

    from novelty_metric.callbacks import NoveltyMonitor

    reference, _, model = parts(12, 1)
    settings = {"reference": reference, "hull": "none", "cache": False, "relaxer": "chgnet"}
    monitor = NoveltyMonitor("sample", settings, n_samples=6)
    for call in range(calls):
        monitor.evaluate(call, model)
        gc.collect()
        print(f"after evaluation {call}: {resident():.0f} MB", flush=True)
    monitor.close()
    print(f"processes left: {children()}")


def resident() -> float:
    """Resident memory (MB)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def imports(pairs: int) -> None:
    """Processor time of imports in new interpreters."""
    codes = {
        "nothing": "pass",
        "novelty_metric": "import novelty_metric",
        "NoveltyMonitor": "from novelty_metric.callbacks import NoveltyMonitor",
        "lightning": "import lightning.pytorch",
        "NoveltyCallback": "import lightning.pytorch; "
        "from novelty_metric.callbacks import NoveltyCallback",
    }
    times: dict[str, list[float]] = {name: [] for name in codes}
    for pair in range(-1, pairs):
        for name, code in codes.items():
            before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
            subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.DEVNULL)
            if pair >= 0:  # the first run writes bytecode
                after = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
                times[name].append(after - before)
    for name, taken in times.items():
        print(f"{name}: {1e3 * statistics.median(taken):.0f} ms of processor time")


def main() -> None:
    """Run one measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "what", choices=["cost", "train", "cache", "recurring", "memory", "imports"]
    )
    parser.add_argument("mode", nargs="?", help="of train: " + ", ".join(MODES) + "; or a file")
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--epochs", type=int, default=41)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--samples", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--calls", type=int, default=6)
    given = parser.parse_args()
    if given.what == "train":
        print(json.dumps(train(given.mode, given.epochs, given.every, given.samples)))
    elif given.what == "cost":
        cost(given.epochs, given.every, given.samples, given.rounds)
    elif given.what == "cache":
        cache(given.epochs, given.samples)
    elif given.what == "recurring":
        recurring(Path(given.mode), given.reference, given.samples, given.calls)
    elif given.what == "memory":
        memory(given.calls)
    else:
        imports(pairs=3)


if __name__ == "__main__":
    main()
