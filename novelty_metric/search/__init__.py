"""The search: duplicates of a generated crystal and its candidate parents in the reference.

Nothing is imported here; `search.engine` is the way in, and it imports pymatgen only on use.
"""
