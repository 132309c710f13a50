"""`tvbus dead`: what a group gave up on, looked at, handed over again or dropped."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final

import orjson
import typer
from redis.exceptions import RedisError

from bus.connection import address
from bus.errors import BusUnreachable
from consumers.dead import REPLAYS_MAX, Choice, DeadLetters
from consumers.errors import GroupUnknown, UsageError
from consumers.lag import group_names
from tvbus.asking import is_terminal, say
from tvbus.exits import FAILURE
from tvbus.letters import letter_contents, letter_line, letter_row, letter_text
from tvbus.report import summaries
from tvbus.shared import Bus, open_bus

LIST_MAX: Final = 1_000
"""Letters that one call lists."""
GROUPS_SHOWN_MAX: Final = 10
"""Groups named where the one that was meant is unknown."""

GroupOption = Annotated[str, typer.Option(help="The consumer group.")]
IdsArgument = Annotated[
    list[str] | None, typer.Argument(help="IDs as `tvbus dead list` shows them.")
]
SeriesOption = Annotated[
    str | None,
    typer.Option(help="Only those of a series or pattern such as *-BINANCE-1m; or @events."),
]
AllOption = Annotated[bool, typer.Option("--all", help="Every dead letter of the group.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON for programs.")]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Look at the entries that a group gave up on, hand them over again, or drop them.

Example: tvbus dead list --group my-strategy
""",
)


@app.command("list")
def list_letters(
    context: typer.Context,
    group: GroupOption,
    series: SeriesOption = None,
    limit: Annotated[int, typer.Option(min=1, max=LIST_MAX, help="How many.")] = 50,
    after: Annotated[str | None, typer.Option(help="Go on after the letter with this ID.")] = None,
    oldest: Annotated[bool, typer.Option("--oldest", help="The oldest first.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List dead letters, the newest first.

    Example: tvbus dead list --group my-strategy --series 'BTC*' --limit 20
    """
    choice = None if series is None else Choice.parse(series)
    with _letters(context, group) as dead:
        start = None if after is None else dead.parse_id(after)
        page = dead.page(limit, start, oldest_first=oldest, choice=choice)
        waiting = dead.waiting(page.letters)
        count = dead.count()
    if as_json:
        rows = [letter_row(x, waiting=x.id in waiting) for x in page.letters]
        following = None if page.next is None else str(page.next)
        print(
            orjson.dumps(
                {"group": group, "count": count, "letters": rows, "next": following}
            ).decode()
        )
        return
    for letter in page.letters:
        print(letter_line(letter, waiting=letter.id in waiting))
    if page.next is not None:
        order = " --oldest" if oldest else ""
        sys.stderr.write(f"more follow: add --after {page.next}{order}\n")
    elif not page.letters:
        print("no dead letters" if not count else f"none of the {count} dead letters is meant")


@app.command("show")
def show(
    context: typer.Context,
    group: GroupOption,
    ids: Annotated[list[str], typer.Argument(help="IDs as `tvbus dead list` shows them.")],
    as_json: JsonOption = False,
) -> None:
    """Show dead letters whole: reason, traceback, where it came from, the bar.

    Example: tvbus dead show --group my-strategy 1760000040000-0
    """
    with _letters(context, group) as dead:
        letters = dead.find(ids)
        waiting = dead.waiting(letters)
    if as_json:
        for letter in letters:
            line = letter_row(letter, waiting=letter.id in waiting) | letter_contents(letter)
            print(orjson.dumps(line).decode())
        return
    print("\n\n".join(letter_text(x, waiting=x.id in waiting) for x in letters))


@app.command("replay")
def replay(
    context: typer.Context,
    group: GroupOption,
    ids: IdsArgument = None,
    series: SeriesOption = None,
    all_: AllOption = False,
) -> None:
    """Have dead letters handed over again, by the member that reads their series.

    Example: tvbus dead replay --group my-strategy 1760000040000-0
    """
    choice = _choice(ids, series, all_=all_)
    with _letters(context, group) as dead:
        chosen = dead.find(ids) if ids else dead.walk(oldest_first=True, choice=choice)
        asked = dead.replay(chosen)
    print(f"{asked.asked} asked for; members of {group!r} hand them over, now or when they run")
    if asked.waiting:
        print(f"{asked.waiting} were asked for before, and wait")
    troubles = []
    if asked.nameless:
        troubles.append(f"{asked.nameless} do not tell their series: nobody can hand them over")
    if asked.left:
        troubles.append(f"{asked.left} are left, for {REPLAYS_MAX} wait: ask again later")
    if troubles:
        sys.stdout.flush()
        sys.stderr.write(f"tvbus: {'; '.join(troubles)}\n")
        raise typer.Exit(FAILURE)


@app.command("drop")
def drop(
    context: typer.Context,
    group: GroupOption,
    ids: IdsArgument = None,
    series: SeriesOption = None,
    all_: AllOption = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete dead letters for good.

    Example: tvbus dead drop --group my-strategy --series 'BTC*' --yes
    """
    choice = _choice(ids, series, all_=all_)
    if not yes and not is_terminal():
        raise UsageError("there is no terminal to ask at: add --yes to drop dead letters for good")
    with _letters(context, group) as dead:
        chosen = [x.id for x in (dead.find(ids) if ids else dead.walk(choice=choice))]
        question = f"Drop {len(chosen)} dead letters of {group!r} for good?"
        if chosen and not yes and not typer.confirm(question, err=True):
            say("nothing was dropped")
            raise typer.Exit(FAILURE)
        print(f"{dead.drop(chosen)} dropped")


def _choice(ids: list[str] | None, series: str | None, *, all_: bool) -> Choice | None:
    """Return which series are meant, None for all. Raises UsageError."""
    if bool(ids) + (series is not None) + all_ != 1:
        raise UsageError("say which: IDs, or --series, or --all")
    return None if series is None else Choice.parse(series)


@contextmanager
def _letters(context: typer.Context, group: str) -> Iterator[DeadLetters]:
    """Give the dead letters of a group that exists. Raises GroupUnknown."""
    bus = open_bus(context)
    dead = DeadLetters(bus.client, bus.keys, group)
    try:
        if not dead.count() and not _is_known(bus, group):
            raise GroupUnknown(_unknown(bus, group))
        yield dead
    except RedisError as error:
        raise BusUnreachable(f"the bus at {address(bus.url)} failed: {error}") from error
    finally:
        bus.client.close()


def _is_known(bus: Bus, group: str) -> bool:
    """Whether the group left anything but dead letters."""
    kept = ("members", "leases", "checkpoints", "replays")
    return any(bus.client.exists(bus.keys.group(group, what)) for what in kept) or (
        group in _groups(bus)
    )


def _groups(bus: Bus) -> list[str]:
    return group_names(bus.client, bus.keys, [line.series for line in summaries(bus)])


def _unknown(bus: Bus, group: str) -> str:
    names = _groups(bus)
    shown = ", ".join(names[:GROUPS_SHOWN_MAX]) + (" …" if len(names) > GROUPS_SHOWN_MAX else "")
    return f"no group {group!r} on this bus; there are: {shown or 'none'}"
