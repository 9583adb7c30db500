"""``qos history``: klines of the past, page by page, into a file.

``paging`` fetches the pages and ``partial`` keeps them beside the output, so that a
download resumes where it stopped. ``output`` writes the file, ``report`` lists what is
missing in it, ``progress`` shows how far the download is.
"""
