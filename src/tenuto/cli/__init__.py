"""The command line: one small module per command group, loaded only when its command is used.

Client commands talk HTTP and import nothing outside the standard library. Modules here set `TYPE_CHECKING`
themselves instead of importing it, because `typing` costs a noticeable part of a start.
"""
