"""The journal: counts of scored responses by hour and item, and ids of a random slice, for `edgedistill monitor`.

It contains no texts (docs/monitoring.md).

records   the lines of a journal, and the counts that wait to be written
writer    Journal: counts the responses of a server in a thread of its own
reading   read_journal(): the lines of several files, checked
"""
