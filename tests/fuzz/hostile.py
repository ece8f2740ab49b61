"""One hostile input given to one reader, and what must not happen then."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fuzz.edits import JSON, SAFETENSORS, Form, Pick, edited
from unteach.types import Refusal

SECONDS = 10.0  # of processor time for one input of some kilobytes
GROWTH = 512 * 2**20  # bytes by which one input may raise the process's peak of resident memory
ROOM = 4 * 2**30  # bytes that it may ask for
RUNNING = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "subprocess.Popen",
    "socket.connect",
    "pty.spawn",
)
WRITING = (
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.truncate",
    "shutil.rmtree",
)
Files = Mapping[str, bytes]


class Fault(AssertionError):  # noqa: N818 - the word for it
    """A reader did anything but return or refuse; ``key`` is the same for the same fault."""

    def __init__(self, key: str, story: str) -> None:
        super().__init__(f"{key}\n{story}")
        self.key = key


@dataclass(frozen=True)
class Target:
    """A reader of outside files: ``seeds`` makes folders of files that it reads, ``read`` reads such a folder.

    ``only``: endings of the files that are changed; all if empty.
    """

    name: str
    seeds: Callable[[], list[Files]]
    read: Callable[[Path], Any]
    forms: Sequence[Form] = (JSON, SAFETENSORS)
    only: tuple[str, ...] = ()

    def input(self, pick: Pick) -> dict[str, bytes]:
        """A folder of files, one or two of which are hostile."""
        seeds = _seeds(self)
        files = dict(seeds[pick(len(seeds))])
        names = sorted(name for name in files if name.endswith(self.only or ("",)))
        for _ in range(1 + pick(2)):
            name = names[pick(len(names))]
            files[name] = edited(files[name], pick, [files[one] for one in names], self.forms)
        return files


@cache
def _seeds(target: Target) -> list[Files]:
    return target.seeds()


def attempt(target: Target, files: Files, folder: Path) -> str:
    """Let the reader read: ``result`` or ``refusal``. Raises: Fault for all else."""
    given = folder / "given"
    shutil.rmtree(given, ignore_errors=True)
    for name, content in files.items():
        (given / name).parent.mkdir(parents=True, exist_ok=True)
        (given / name).write_bytes(content)
    peak, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with _watched(folder) as seen, warnings.catch_warnings(), open(os.devnull, "w") as null:
        warnings.simplefilter("ignore")
        try:
            with redirect_stdout(null), redirect_stderr(null), _hurried(), _confined():
                target.read(given)
            outcome = "result"
        except Refusal as refusal:
            outcome = "refusal"
            if not str(refusal).startswith("expected "):
                raise Fault(f"{target.name}: a refusal without expectation", str(refusal)) from refusal
            if _asked_too_much(refusal):
                raise Fault(f"{target.name}: out of memory in {_where(refusal)}", traceback.format_exc()) from refusal
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            raise Fault(f"{target.name}: {type(error).__name__} in {_where(error)}", traceback.format_exc()) from error
    if seen:
        raise Fault(f"{target.name}: {seen[0][:60]}", "\n".join(seen))
    if (grown := 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)) > GROWTH:
        raise Fault(f"{target.name}: memory", f"{grown / 2**20:.0f} MiB more")
    if (spent := time.process_time() - start) > SECONDS:
        raise Fault(f"{target.name}: time", f"{spent:.1f} s")
    return outcome


def warm(target: Target, folder: Path) -> None:
    """Read every sound folder once: what is imported or cached on the way is then there, and it must be sound."""
    for files in _seeds(target):
        for name, content in files.items():
            path = folder / "given" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        with warnings.catch_warnings(), open(os.devnull, "w") as null, redirect_stdout(null):
            warnings.simplefilter("ignore")
            target.read(folder / "given")
        shutil.rmtree(folder / "given")


def _where(error: BaseException) -> str:
    """The innermost line of ours on the way to the error."""
    ours = [
        frame for frame in traceback.extract_tb(error.__traceback__) if f"{os.sep}unteach{os.sep}" in frame.filename
    ]
    return f"{Path(ours[-1].filename).name}:{ours[-1].name}" if ours else "the test"


@contextmanager
def _hurried() -> Iterator[None]:
    """Interrupt Python code that takes twice as long as it may; other code is left to whoever started the process."""

    def stop(*_: object) -> None:
        raise TimeoutError

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, 2 * SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@contextmanager
def _confined() -> Iterator[None]:
    """Let no allocation go beyond ROOM."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _asked_too_much(error: BaseException | None) -> bool:
    """Whether memory ran out on the way; NumPy's arrays apart, the pages of which are not touched before they are read into."""
    while error is not None:
        if isinstance(error, MemoryError) and type(error) is MemoryError:
            return True
        error = error.__cause__ or error.__context__
    return False


_watching: list[tuple[str, list[str]]] = []


@contextmanager
def _watched(folder: Path) -> Iterator[list[str]]:
    """What is run, called or written outside the folder meanwhile, told by Python's audit events."""
    _install()
    seen: list[str] = []
    _watching.append((os.path.realpath(folder), seen))
    try:
        yield seen
    finally:
        _watching.pop()


@cache
def _install() -> None:
    sys.addaudithook(_hear)


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    folder, seen = _watching[-1]
    if event in RUNNING:
        seen.append(f"{event} {arguments!r}")
    paths: tuple[Any, ...] = ()
    if event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND):
        paths = arguments[:1]
    elif event in WRITING:
        paths = arguments[:2]
    for path in paths:
        with suppress(TypeError, ValueError):
            real = os.path.realpath(path) if isinstance(path, str | bytes | os.PathLike) else folder
            name = os.fsdecode(real)
            if not name.startswith(folder) and name != os.devnull and "__pycache__" not in name:
                seen.append(f"{event} {name}")
