"""Write the text prompt of a synthetic take."""

from .palettes import Colour, colour_name
from .person import Person
from .postures import PROMPTS
from .room import Room
from .workspace import Workspace


def _enumerate_things(things: tuple[tuple[str, Colour], ...]) -> str:
    thing_phrases = [_with_article(f"{colour_name(colour)} {name}") for name, colour in things]
    if not thing_phrases:
        return "nothing else"
    return (
        thing_phrases[0]
        if len(thing_phrases) == 1
        else ", ".join(thing_phrases[:-1]) + " and " + thing_phrases[-1]
    )


def _with_article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def write_prompt(room: Room, workspace: Workspace, person: Person, posture: str) -> str:
    """Write a take's prompt with one ``[Exo view]`` and one ``[Ego view]`` section."""
    wall = colour_name(room.wall_colour)
    floor = _with_article(colour_name(room.floor_colour))
    table, shirt = colour_name(workspace.table_colour), colour_name(person.shirt)
    if posture != "usual":
        return (
            f"[Exo view] **Scene Overview:** A computer-drawn room with {wall} walls and {floor} "
            f"floor. A person in {_with_article(shirt)} shirt {PROMPTS[posture]}. [Ego view] "
            f"**Scene Overview:** The person's hands in {shirt} sleeves before {wall} walls."
        )
    seat = "sits on a stool" if workspace.seated else "stands"
    object_names, held_text = _enumerate_things(workspace.objects), _enumerate_things(person.held)
    return (
        f"[Exo view] **Scene Overview:** A computer-drawn room with {wall} walls and {floor} "
        f"floor. A person in {_with_article(shirt)} shirt wearing dark glasses {seat} at "
        f"{_with_article(table)} table. On the table: {object_names}. **Action Analysis:** The "
        f"person holds {held_text} and moves both hands over the table, lifting and putting down "
        "what they hold, while the head follows the hands. The camera and everything else stay "
        "still. [Ego view] **Scene Overview:** From the person's eyes the view goes down over the "
        f"{table} table with {object_names} on it, towards {wall} walls and {floor} floor. Both "
        f"forearms in {shirt} sleeves reach in from below. **Action Analysis:** The hands hold "
        f"{held_text} and move it from place to place over the table; the view sways gently with "
        "the head."
    )
