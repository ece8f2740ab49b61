"""What readers of published benchmarks share: options after the name, counts beside the published ones, how images vary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from unteach.data.augment import Augment
from unteach.data.places import is_whole
from unteach.types import Refusal

FACES = Augment(
    flip=True, shear=10, zoom=0.2, brightness=0.2, contrast=0.2, saturation=0.2
)  # MUFAC's and MUCAC's recipe
ANY = "any-count"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is said after the name of a benchmark."""

    variant: str
    """Which of its splits."""
    size: int = 128
    """Pixels a side that images are brought to."""
    any_count: bool = False
    """Whether other numbers of examples than the published ones are taken."""


def options(name: str, argument: str, variants: Sequence[str]) -> Options:
    """What ``VARIANT,size=64,any-count`` says, in any order; the first variant and 128 pixels where it does not.

    Raises: Refusal for other words, and for sizes that are no number of 8 to 1024.
    """
    found = Options(variant=variants[0])
    for word in filter(None, argument.split(",")):
        kind, _, number = word.partition("=")
        if word in variants:
            found = replace(found, variant=word)
        elif kind == "size" and is_whole(number) and 8 <= int(number) <= 1024:
            found = replace(found, size=int(number))
        elif word == ANY:
            found = replace(found, any_count=True)
        else:
            choices = f"{' or '.join(variants)}, size=64, {ANY}" if variants[0] else f"size=64, {ANY}"
            raise Refusal(f"expected words between commas after {name}: ({choices}), got {word!r}; leave it out")
    return found


def counted(spec: str, found: Mapping[str, int], published: Mapping[str, int], any_count: bool) -> tuple[str, ...]:
    """A sentence on every part that has not as many examples as were published.

    ``spec``: what the user said. Raises: Refusal where a part is off by more than 1 %, unless ``any_count``.
    """
    differ = {
        part: f"{part} {n:,} (published {published[part]:,})" for part, n in found.items() if n != published[part]
    }
    if not any_count and any(100 * abs(found[part] - published[part]) > published[part] for part in differ):
        more = f"{spec}{',' if ':' in spec else ':'}{ANY}"
        raise Refusal(
            f"expected as many examples as were published, within 1 %, got {', '.join(differ.values())}; complete the files, "
            f"or take them as they are by {more}"
        )
    return (f"the numbers of examples are not the published ones: {', '.join(differ.values())}",) if differ else ()


def missing(part: str, lost: Sequence[str], listed: int) -> tuple[str, ...]:
    """A sentence on images that are listed and not there, if there are any."""
    return (f"{len(lost):,} of {listed:,} images of {part} are missing, such as {lost[0]}",) if lost else ()
