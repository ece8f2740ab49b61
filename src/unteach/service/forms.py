"""What callers send and what they are told; these are the schemas of /openapi.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

EXACTLY = ConfigDict(extra="forbid")
Text = Annotated[str, Field(strict=True)]  # no number is taken for text
Flag = Annotated[bool, Field(strict=True)]

Id = Annotated[Text, Field(min_length=1, max_length=200)]
IDS = "Ids of training examples, each once, exactly as the data name them. They are names and nothing else: no file, no pattern."
DUE = "The day, in UTC, at whose end it is to be done."
NOTE = "Words to find it by. They stay in the ledger for good: write no names."
KEY = "Your own name for the request: sent again with the same key and ids, it is the same one. It stays in the ledger for good."
NOW = "Whether to run also what is to wait by the queue's policy."
RETRAIN = "Whether to train a new model from scratch, without all that was asked for so far."
NUMBERS = "What it cost (seconds, epochs of full data) and what was seen of the model: accuracy on test examples, agreement with "
NUMBERS += "the model last trained from scratch, the AUC of an attack with its 95 % interval; empty before the end."


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request to forget."""

    __pydantic_config__: ClassVar[ConfigDict] = EXACTLY

    ids: Annotated[
        list[Id], Field(min_length=1, max_length=100_000, description=IDS, json_schema_extra={"uniqueItems": True})
    ]
    due: Annotated[
        Text, Field(pattern=r"^([0-9]{4}-[0-9]{2}-[0-9]{2})?$", description=DUE, examples=["2027-03-31"])
    ] = ""
    note: Annotated[Text, Field(max_length=500, description=NOTE)] = ""
    key: Annotated[Text, Field(max_length=200, description=KEY)] = ""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a run is to do."""

    __pydantic_config__: ClassVar[ConfigDict] = EXACTLY

    now: Annotated[Flag, Field(description=NOW)] = False
    retrain: Annotated[Flag, Field(description=RETRAIN)] = False


@dataclass(frozen=True, kw_only=True)
class RequestForm:
    """A request as it stands; its ids are not shown, only how many, and a digest of them with the queue's secret salt."""

    number: int
    received: Annotated[str, Field(description="ISO 8601, UTC.")]
    due: Annotated[str, Field(description="ISO 8601, UTC; empty for none.")]
    overdue: bool
    count: Annotated[int, Field(description="Number of ids.")]
    digest: Annotated[str, Field(description="HMAC-SHA-256 of the sorted ids, hexadecimal.")]
    note: str
    key: str
    status: Annotated[str, Field(description="waiting, running, done, rejected, refused or withdrawn.")]
    run: Annotated[int, Field(description="The last run it was in; 0 for none.")]
    why: Annotated[
        str, Field(description="Why that run failed, its model was rejected, or the request was refused; else empty.")
    ]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The last that a run told of itself."""

    at: Annotated[float, Field(description="Seconds since 1970.")]
    event: str
    stage: Annotated[str, Field(description="What it is doing; empty where the event tells enough.")] = ""
    epoch: Annotated[int, Field(description="The last that is over, from 1; 0 for none.")] = 0


@dataclass(frozen=True, kw_only=True)
class RunForm:
    """An attempt to forget one or several requests, or a retraining without all of them."""

    number: int
    started: Annotated[str, Field(description="ISO 8601, UTC.")]
    requests: list[int]
    parent: Annotated[
        int, Field(description="The run whose model it starts from; 0 for the one the queue was opened with.")
    ]
    retrain: bool
    status: Annotated[str, Field(description="running (or stopped, to be gone on with), accepted, rejected or failed.")]
    model: Annotated[str, Field(description="SHA-256 of the checkpoint's file; empty before the end.")]
    why: str
    numbers: Annotated[dict[str, Any], Field(description=NUMBERS)]
    progress: Annotated[Progress | None, Field(description="Of a run that is not over.")]
    report: Annotated[bool, Field(description="Whether there is a report to get.")]
    evidence: Annotated[bool, Field(description="Whether there is evidence to get.")]


@dataclass(frozen=True, kw_only=True)
class ModelForm:
    """The model in use."""

    run: Annotated[int, Field(description="The run that made it; 0 for the one the queue was opened with.")]
    sha256: Annotated[str, Field(description="Of the checkpoint's file.")]


@dataclass(frozen=True, kw_only=True)
class WorkerForm:
    """The process that does the runs."""

    working: bool
    exit: Annotated[
        int | None, Field(description="How the last one ended that this service started; 0 and 3 are no errors.")
    ]
    said: Annotated[str, Field(description="Why it came to nothing; else empty.")]


@dataclass(frozen=True, kw_only=True)
class AdviceForm:
    """Why it is time to train a new model from scratch."""

    run: int
    at: str
    reasons: list[str]


@dataclass(frozen=True, kw_only=True)
class Status:
    """How the queue stands."""

    model: ModelForm
    requests: int
    runs: int
    counts: Annotated[dict[str, int], Field(description="Requests of each status.")]
    overdue: Annotated[list[int], Field(description="Requests past their due date.")]
    worker: WorkerForm
    running: Annotated[RunForm | None, Field(description="The run that was started and is not over.")]
    advice: AdviceForm | None
    spent: Annotated[
        float | None, Field(description="Cost since the last retraining as a share of one; null if not known.")
    ]
    curves: Annotated[
        list[RunForm], Field(description="The accepted runs, in order, for the curves of cost, drift and exposure.")
    ]
    head: Annotated[
        tuple[int, str], Field(description="Number and hash of the ledger's last entry: keep it elsewhere.")
    ]


@dataclass(frozen=True, kw_only=True)
class Started:
    """The worker began; what it does is in the status."""

    runs: Annotated[int, Field(description="Runs before it: the next has the number after this.")]


@dataclass(frozen=True, kw_only=True)
class Health:
    """The service answers."""

    ok: bool = True
