"""What an instance holds of its relations: what its references lead to, its lists, and how both stay in step."""

from __future__ import annotations

from convexorm.relatives.access import assign, related
from convexorm.relatives.leads import (
    all_found,
    astray,
    found,
    known,
    lead_alike,
    led_by_key,
    refers_otherwise,
    take_along,
    unresolved,
)
from convexorm.relatives.lists import RelatedItems, join_row, loaded_list
from convexorm.relatives.moves import Moves
from convexorm.relatives.packing import packed, unpack
from convexorm.relatives.steps import (
    around,
    exchange,
    found_stored,
    gone,
    hold_to_references,
    join_lists,
    leave,
    leave_rows,
    listed,
    lists_changed,
    not_whole,
    replaced,
    restore,
    settle,
    stand_for,
    stay_in_step,
    strangers,
    undo,
)

__all__ = [
    "Moves",
    "RelatedItems",
    "all_found",
    "around",
    "assign",
    "astray",
    "exchange",
    "found",
    "found_stored",
    "gone",
    "hold_to_references",
    "join_lists",
    "join_row",
    "known",
    "lead_alike",
    "leave",
    "leave_rows",
    "led_by_key",
    "listed",
    "lists_changed",
    "loaded_list",
    "not_whole",
    "packed",
    "refers_otherwise",
    "related",
    "replaced",
    "restore",
    "settle",
    "stand_for",
    "stay_in_step",
    "strangers",
    "take_along",
    "undo",
    "unpack",
    "unresolved",
]
