"""SQL by which ids are compared: as the id column that is referred to compares them, whatever the type of the reference.

Two ids may be equal and yet differ as text: `citext`, a nondeterministic collation, padding, numbers of different scale, a UUID
written in capitals. A text that the id column cannot hold is equal to no id, and never an error. Nothing here runs a query.

A text that refers to an id of another type has endlessly many spellings (`007`, `+7`, a UUID with hyphens anywhere), and no
index of the application finds them all. Only those of `spellings` are a reference; `has_unusual_spelling` tells the others,
which are rejected.
"""

from __future__ import annotations

from bid_assets.app_db.introspection import Column

TEXT = Column("text")
"""The type of a value that is no column, such as an id that somebody asks about."""

_TEXTUAL = {"text", "character varying", "name", "character", "citext"}
_INTEGERS = {"smallint", "integer", "bigint"}
_NUMBERS = _INTEGERS | {"numeric", "real", "double precision"}
_DATABASE_COLLATION = 'pg_catalog."default"'
_UUID = "[0-9a-fA-F]{4}(-?[0-9a-fA-F]{4}){7}"


def references_row(row_id: str, column: Column, reference: str, referring: Column) -> str:
    """Whether `reference`, of the type `referring`, names the row whose id is `row_id`, of the type `column`.

    The id is left bare, so that its index serves; the reference is cast only where it must be.
    """
    kind, other = _kind(column), _kind(referring)
    if kind in _TEXTUAL:
        return f"{row_id} {_equals(column)} {_as_text_of(column, reference, referring)}"
    if kind == other or (kind in _NUMBERS and other in _NUMBERS):
        return f"{row_id} = {reference}"
    if other in _TEXTUAL and (cast := _cast_from_text(kind, _byte_collated(reference, referring))):
        return f"{row_id} = {cast}"
    return f"{row_id}::text = {reference}::text"


def is_referenced_by_row(row_id: str, column: Column, reference: str, referring: Column) -> str:
    """The same for finding the references to a row by an index on `reference`, but for those that are spelled otherwise."""
    kind, other = _kind(column), _kind(referring)
    references = references_row(row_id, column, reference, referring)
    if may_have_unusual_spelling(column, referring):
        return f"{reference} = ANY ({_spellings(row_id, kind)}) AND ({references}) IS TRUE"  # as no hash join takes it
    if kind in _TEXTUAL and (other == "uuid" or other in _INTEGERS):
        return f"{reference} = {_cast_from_text(other, _byte_collated(row_id, column))} AND {references}"
    return references


def may_have_unusual_spelling(column: Column, referring: Column) -> bool:
    """Whether a text refers to an id of another type, which it may spell in ways that no index finds."""
    return _kind(referring) in _TEXTUAL and _cast_from_text(_kind(column), "") is not None


def has_unusual_spelling(row_id: str, column: Column, reference: str, referring: Column) -> str:
    """Whether a reference for which `references_row` is true has a spelling by which `is_referenced_by_row` does not find
    it."""
    return f"{reference} <> ALL ({_spellings(row_id, _kind(column))})"


def _spellings(row_id: str, kind: str) -> str:
    """The texts by which an id is referred to: PostgreSQL's own, and of a UUID the usual ones, in capitals too."""
    text = f"{row_id}::text"
    if kind == "numeric":
        return f"ARRAY[{text}, trim_scale({row_id})::text]"
    if kind != "uuid":
        return f"ARRAY[{text}]"
    usual = (text, f"replace({text}, '-', '')", f"'{{' || {text} || '}}'")
    return f"ARRAY[{', '.join([*usual, *(f'upper({each})' for each in usual)])}]"


def same_text(column: Column, referring: Column) -> bool:
    """Whether a reference that names a row always has the same text as the row's id."""
    kind, other = _kind(column), _kind(referring)
    if kind in _TEXTUAL:
        return kind != "citext" and column.is_deterministic and (kind != "character" or other == "character")
    return kind == other == "uuid" or (kind in _INTEGERS and other in _INTEGERS)


def _as_text_of(column: Column, reference: str, referring: Column) -> str:
    kind, other = _kind(column), _kind(referring)
    if kind in ("citext", "character"):
        cast = "" if kind == other else "::bpchar" if kind == "character" else f"::{column.type}"
    else:
        cast = "" if other in ("text", "character varying", "name") else "::text"
    collate = "" if column.collation == referring.collation else f" COLLATE {column.collation or _DATABASE_COLLATION}"
    return f"{reference}{cast}{collate}"


def _cast_from_text(kind: str, text: str) -> str | None:
    """A text as a value of the kind, NULL where it is none; None for kinds whose texts are not parsed here."""
    if kind == "uuid":
        return f"CASE WHEN {text} ~ '^({_UUID}|\\{{{_UUID}\\}})$' THEN {text}::uuid END"
    if kind in _INTEGERS:
        limits = "BETWEEN -9223372036854775808 AND 9223372036854775807"
        return f"CASE WHEN {text} ~ '^[+-]?[0-9]{{1,60}}$' THEN CASE WHEN {text}::numeric {limits} THEN {text}::bigint END END"
    if kind == "numeric":
        return f"CASE WHEN {text} ~ '^[+-]?[0-9]{{1,60}}([.][0-9]{{0,60}})?$' THEN {text}::numeric END"
    return None


def _byte_collated(reference: str, referring: Column) -> str:
    """A text that regular expressions take, which a nondeterministic collation is none for."""
    return reference if referring == TEXT else f'({reference}::text COLLATE "C")'


def _equals(column: Column) -> str:
    """The operator, which is where its type is, not always on the search path."""
    schema, _, kind = column.type.rpartition(".")
    return f"OPERATOR({schema}.=)" if schema and kind == "citext" else "="


def _kind(column: Column) -> str:
    """The type; of `citext` without its schema."""
    kind = column.type.rpartition(".")[2]
    return kind if kind == "citext" else column.type
