"""``qos history``: klines of the past, page by page, into a file.

``part`` keeps the pages beside the output until all of them are there, ``paging`` asks
for them, ``outputs`` makes the file of them, and ``holes`` looks for what is missing.
"""
