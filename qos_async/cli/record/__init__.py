"""``qos record``: received frames to a directory or a stream.

``command`` has the options, ``recording`` runs one recorder until its end, ``report`` shows
its progress, ``fleet`` reads fleet files, and ``changes`` applies what is changed in one
while it runs.
"""
