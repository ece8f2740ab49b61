"""Settings that several verbs share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from unteach.data import WITH_PATH, DataSet, load
from unteach.data.augment import LATER
from unteach.data.own import pinned
from unteach.engine import Engine
from unteach.events import Events
from unteach.references.manifest import DataSpec
from unteach.tracking import Following, trackers_named
from unteach.types import Refusal
from unteach.user_code import pin


def check_seed(seed: int) -> None:
    """Refuse a seed that the generators further down can't take."""
    if not 0 <= seed < 2**31:
        raise Refusal(f"expected --seed to be 0 or more and below 2**31, got {seed}; choose another")


@dataclass(frozen=True, kw_only=True)
class DataChoice:
    """Which data, and where they are; the user's own code among it is pinned where flags are read, see ``user_code.pin``."""

    data: str = field(default="digits", metadata={"pin": pinned})
    """Data set: a name from `unteach list`, such as digits, cifar10 or mufac:identity; folder:PATH, npz:PATH, memmap:PATH,
    csv:PATH, parquet:PATH, hub:PATH, wds:SHARDS, torchvision:NAME; file.py:NAME or pkg.module:NAME, your own function or class
    that gives a torch Dataset, a pair (train, test) or a dict of train, test, unseen, with arguments as in file.py:NAME?a=b."""
    data_root: Path | None = None
    """Folder with the data set's files; also looked for in UNTEACH_DATA."""
    task: str | None = None
    """Which labels, where the data offer several (cmu-faces: pose, expression, eyes, all; mucac: multilabel, male,
    smiling, young)."""
    download: bool = False
    """Whether the official files may be fetched when they are not found."""
    loss: str = field(default="", metadata={"pin": pin})
    """Your own loss in place of cross-entropy, as file.py:NAME or pkg.module:NAME: a function of logits and labels that gives
    the loss of each example. Training and methods use it; audits keep their measures."""
    code: tuple[str, ...] = field(default=(), metadata={"pin": pin})
    """Other code of your own that a checkpoint's recipe may run, as file.py:NAME, such as a function that varies images."""

    def load(self) -> DataSet:
        """The data; what their reader notes goes to the terminal."""
        data = load(self.data, root=self.data_root, download=self.download, task=self.task, loss=self.loss)
        for note in data.notes:
            print(f"{data.name}: {note}")
        return data


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What to run on."""

    device: str = "auto"
    """auto (a GPU if there is one), cpu or cuda."""
    devices: int = 1
    """Processes on this machine, one device each; where torchrun starts them, it decides."""
    strategy: str = "auto"
    """What several processes share: auto or ddp (each has the whole network), fsdp2 (in training they divide its weights,
    gradients and the optimiser's state)."""
    threads: int = 0
    """CPU threads of one process; 0 for torch's own choice. Small networks on a shared machine run best with 1."""
    precision: str = "auto"
    """auto (bf16 autocast where the chip multiplies it natively), bf16 or fp32."""
    compile: bool = field(default=False, metadata=LATER)
    """Whether the network is compiled for training, on a GPU with each step as one CUDA graph: half a minute or more at the
    start, for long trainings on a GPU. On a CPU it was never faster. It takes a C++ compiler, and changes the last digits."""

    @contextmanager
    def engine(self, folder: Path | None, progress: bool) -> Iterator[Engine]:
        """An engine whose events go to ``folder/events.jsonl`` and whose progress goes to the terminal.

        The folder need not be there yet: a device that is not to be had is told before anything is written.
        """
        import torch

        from unteach.verbs.terminal import progress_bar

        if self.threads:
            torch.set_num_threads(self.threads)
        with progress_bar(progress) as tell, Events(folder / "events.jsonl" if folder else None, tell) as events:
            engine = Engine(
                accelerator=self.device,
                devices=self.devices,
                precision=self.precision,
                strategy=self.strategy,
                compiles=self.compile,
                events=events,
                scratch=folder,
            )
            try:
                yield engine
                for stage in engine.stages:
                    engine.events.emit("stage", stage=stage.what, seconds=stage.seconds, units=stage.units)
            finally:
                engine.close()
        for state in folder.glob("*.resume") if folder else ():  # all is done: nothing is left to go on from
            state.unlink(missing_ok=True)


RESULTS = ("model.safetensors", "findings.json", "report.html", "report.md", "forget.txt")  # what a run may write over


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where results go."""

    out: Path = field(default=Path("runs/run"))
    """Folder for the results; a stopped run goes on where it was when started again with the same settings."""
    overwrite: bool = False
    """Whether results of other settings in that folder may be replaced."""
    quiet: bool = False
    """No progress bars."""
    track: str = ""
    """Programs that show runs side by side: tensorboard, mlflow, wandb, or several with commas; each is an extra to install.
    They get settings, curves and final numbers, but no ids and no images, and write into the folder of results or beside it."""

    def __post_init__(self) -> None:
        trackers_named(self.track)

    def open(self, settings: dict[str, object], events: Events | None = None) -> Path:
        """The folder, made if need be, and these settings written into it; the trackers follow the events from here on.

        Raises: Refusal when it can't be written or holds another run's settings.
        """
        from unteach.store import read_json, write_json

        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Refusal(
                f"expected to be able to write into {self.out}, got: {error.strerror}; choose another --out"
            ) from error
        file = self.out / "settings.json"
        theirs = read_json(file) if file.is_file() and not self.overwrite else settings
        if not file.is_file() and not self.overwrite and (there := [n for n in RESULTS if (self.out / n).exists()]):
            raise Refusal(
                f"expected {self.out} to be new or to hold this run, got a folder with a {there[0]} of other origin; "
                "choose another --out, or give --overwrite true"
            )
        if theirs != settings:
            others = theirs if isinstance(theirs, dict) else {}
            differ = sorted(k for k in {*settings, *others} if settings.get(k) != others.get(k))
            raise Refusal(
                f"expected {self.out} to be new or to hold this run, got one with other {', '.join(differ)}; "
                "choose another --out, or give --overwrite true"
            )
        write_json(file, settings)
        if events is not None:
            follow(events, self.track, self.out, settings)
        return self.out


def follow(events: Events, trackers: str, folder: Path, settings: dict[str, object]) -> None:
    """Let these trackers follow the events. Only one of several processes has events that are written, and it tells."""
    if trackers and events.path is not None:
        events.listen(Following(trackers_named(trackers), folder, settings))


def anywhere(choice: DataChoice) -> DataSpec:
    """The data as any process finds them: paths from the root of the file system."""
    name, colon, rest = choice.data.partition(":")
    spec = f"{name}:{Path(rest).absolute()}" if colon and name in WITH_PATH else choice.data
    root = choice.data_root and choice.data_root.absolute()
    return DataSpec(spec=spec, root=root, task=choice.task, loss=choice.loss)
