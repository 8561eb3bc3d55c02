"""Lists of texts as sets, and texts as the sets of their words. By Arrow throughout, whose notion of a letter is not quite Python's."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

LONGEST = 5_000
"""Characters of a text that are looked at for words."""
_SHORTEST = 2
_BETWEEN_WORDS = r"[^\pL\pN_]+"


def as_sets(lists: pa.ListArray, *, shortest: int = 1) -> pa.ListArray:
    """Each list's texts trimmed, in lower case, each once, in order; those of less than `shortest` letters go. Missing lists stay."""
    given = lists.flatten().dictionary_encode()  # few texts, many lists: each is cleaned once
    clean = pc.utf8_lower(pc.utf8_trim_whitespace(given.dictionary))
    names = pc.unique(clean.filter(pc.greater_equal(pc.utf8_length(clean), shortest)))
    names = names.take(pc.sort_indices(names))
    item = pairs(pc.list_parent_indices(lists), pc.index_in(clean, value_set=names).take(given.indices), len(names))
    item = np.sort(item.drop_null().to_numpy())
    row, name = np.divmod(item[np.diff(item, prepend=-1) != 0], max(len(names), 1))
    offsets = np.searchsorted(row, np.arange(len(lists) + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), names.take(pa.array(name)), mask=pc.is_null(lists))


def words(texts: pa.Array) -> pa.ListArray:
    """The words of each text: two letters, digits or underscores and more, in lower case, each once, in order; null where it is."""
    return as_sets(pc.split_pattern_regex(pc.utf8_slice_codeunits(texts, 0, LONGEST), _BETWEEN_WORDS), shortest=_SHORTEST)


def pairs(row: pa.Array, code: pa.Array, codes: int) -> pa.Array:
    """(row, code below `codes`) as one number, in the order of both; null where either is."""
    return pc.add(pc.multiply(row.cast(pa.int64()), codes), code.cast(pa.int64()))
