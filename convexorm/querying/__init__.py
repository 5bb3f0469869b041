"""How queries are answered: which values conditions leave to fields, and which ranges of which index hold them.

Everything here is immutable and knows no session. `intervals` are sets of values of one field, `planning` makes ranges of
conditions.
"""
